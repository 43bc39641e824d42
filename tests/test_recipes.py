"""The recipes of recipes/ are read, checked and name arms that exist; what was not run says so; scripts of tasks write
problems that accept their own solutions."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfcorrect.cli.app import app
from selfcorrect.tasks.naming import open_task
from selfcorrect.tasks.validate import validate_problems
from selfcorrect.training.compare.recipe import RECIPE, Chosen, comparison_of, kinds_of, read_recipe
from selfcorrect.training.settings import LM, LoraSettings, read_settings

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDERS = sorted(path.parent for path in RECIPES.rglob(RECIPE))
pytestmark = pytest.mark.skipif(not RECIPES.is_dir(), reason="there are no recipes beside an installed wheel")
each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(RECIPES)))


def readme_of(folder: Path) -> str:
    """Of the recipe, or of the folder that holds several."""
    own = folder / "README.md"
    return (own if own.is_file() else folder.parent / "README.md").read_text(encoding="utf-8")


def test_there_are_recipes() -> None:
    assert len(FOLDERS) >= 6


@each
def test_settings_of_a_recipe_are_valid_and_ask_for_its_model(folder: Path) -> None:
    settings = read_settings(folder / "settings.yaml", base=LM)
    name = settings.policy.model.rpartition("/")[2].lower().removesuffix("-instruct")
    assert name in str(folder.relative_to(RECIPES))
    assert settings.optimiser.max_kl == LM.optimiser.max_kl, "what a recipe leaves out is the preset's"


@each
def test_rivals_learn_at_rates_of_the_same_kind(folder: Path, tmp_path: Path) -> None:
    """An arm whose adapter has the rate of all weights learns nothing, and loses for that alone."""
    settings = comparison_of(folder, read_recipe(folder), Chosen(), tmp_path).settings
    if isinstance(settings.policy.lora, LoraSettings):
        assert min(settings.star.learning_rate, settings.pair_sft.learning_rate, settings.sft.learning_rate) >= 1e-4


@each
def test_a_recipe_makes_a_comparison_of_all_its_arms(folder: Path, tmp_path: Path) -> None:
    recipe = read_recipe(folder)
    made = comparison_of(folder, recipe, Chosen(), tmp_path)
    assert [spec.name for spec in made.arm_specs] == recipe.arms
    assert {"base", "score", "multi-turn"} <= set(recipe.arms)
    assert bool(made.warm_ups) == (folder.parent.name == "smollm2")


def test_a_file_that_is_not_there_is_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, out = RECIPES / "smollm2" / "sorting", tmp_path / "out"
    asked = ["reproduce", str(folder), "--out", str(out), "--arms", "base"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "data/smollm2/sorting.jsonl, which is not there" in said and "--data jsonl=FILE" in said
    assert not out.exists()


@each
def test_the_commands_of_a_recipe_name_its_folder_and_its_kinds_of_data(folder: Path) -> None:
    commands = re.findall(r"^selfcorrect reproduce (\S+) *(.*)", readme_of(folder), re.MULTILINE)
    own = [words for named, words in commands if named == f"recipes/{folder.relative_to(RECIPES).as_posix()}"]
    assert own
    for kind in re.findall(r"--data (\S+)=", " ".join(own)):
        assert kind in kinds_of(folder, read_recipe(folder))


@each
def test_the_first_line_says_whether_it_was_run(folder: Path) -> None:
    assert re.match(r"\*\*(Not run|Run) by us\.\*\*", readme_of(folder))


@pytest.fixture(scope="module")
def made_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    script = RECIPES / "smollm2" / "tasks.py"
    subprocess.run([sys.executable, str(script), str(folder), "--rows", "200", "--functions", "20"], check=True)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "gsm8k:shopping.jsonl",
        "gsm8k:letters.jsonl",
        "jsonl:sorting.jsonl",
        pytest.param("mbpp:functions.jsonl", marks=pytest.mark.slow),
    ],
)
def test_made_tasks_accept_their_own_solutions(name: str, made_tasks: Path) -> None:
    kind, _, file = name.partition(":")
    task = open_task(f"{kind}:{made_tasks / file}")
    for split in ("train", "test"):
        problems = task.problems(split, 4)
        assert all(problem.gold for problem in problems)
        assert validate_problems(problems, task.checker).failures == ()


def test_a_script_of_tasks_writes_the_same_files_every_time(made_tasks: Path, tmp_path: Path) -> None:
    script = RECIPES / "smollm2" / "tasks.py"
    subprocess.run([sys.executable, str(script), str(tmp_path), "--rows", "200", "--functions", "20"], check=True)
    for path in made_tasks.iterdir():
        assert path.read_text() == (tmp_path / path.name).read_text()
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({str(row.get("question") or row.get("prompt") or row["task_id"]) for row in rows}) == len(rows)
        assert len(rows) == (25 if path.stem == "functions" else 200)


def test_a_function_that_is_held_out_is_never_trained_on_under_another_name(made_tasks: Path) -> None:
    rows = [json.loads(line) for line in (made_tasks / "functions.jsonl").read_text().splitlines()]
    asked = [row["text"].partition(" that returns ")[2] for row in rows]
    bodies = [row["code"].partition("return ")[2] for row in rows]
    assert len(set(asked)) == len(set(bodies)) == len(rows) and all(asked)


def test_more_functions_than_there_are_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / "smollm2" / "tasks.py"), str(tmp_path), "--functions", "1601"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "it must be 4 to 1600" in done.stderr and not list(tmp_path.iterdir())


FURTHER = sorted(path for path in RECIPES.rglob("*.yaml") if path.name not in (RECIPE, "settings.yaml"))


@pytest.mark.parametrize("path", FURTHER, ids=lambda path: str(path.relative_to(RECIPES)))
def test_further_settings_beside_a_recipe_are_settings_and_say_their_command(path: Path) -> None:
    assert read_settings(path, base=LM) != LM
    assert f"--config {path.relative_to(RECIPES.parent)}" in path.read_text(encoding="utf-8").splitlines()[0]


def test_there_are_further_settings() -> None:
    assert [path.name for path in FURTHER] == ["verdicts.yaml", "vstar.yaml"]
