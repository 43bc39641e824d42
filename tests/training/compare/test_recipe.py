"""A recipe: a folder, what a user changes of it, and the comparison that comes of both."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.training.compare.comparison import SilentComparison
from selfcorrect.training.compare.recipe import (
    Chosen,
    Recipe,
    comparison_of,
    data_files,
    kinds_of,
    left_out,
    read_recipe,
)
from selfcorrect.training.compare.recipe import reference_of as reference
from selfcorrect.training.compare.side_by_side import pieces_of
from selfcorrect.training.compare.warm_ups import is_warm, warm_up
from selfcorrect.training.settings import LM, RunSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe: dict[str, Any] = {
        "arms": ["base", "star", "score"],
        "arm_settings": {"score": ["score.alpha=3"]},
        "seeds": 2,
        "problems": 50,
        "exams": [
            {"name": "humaneval", "task": {"kind": "humaneval"}, "problems": 20},
            {"name": "repair", "task": {"kind": "mbpp-repair"}, "needs_file": True},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"task": {"kind": "mbpp"}, "score": {"alpha": 10.0}}))
    return tmp_path


def test_a_recipe_is_its_settings_over_the_preset_and_every_arm_has_its_own(folder: Path) -> None:
    made = comparison_of(folder, read_recipe(folder), Chosen(), folder / "out")
    assert [spec.name for spec in made.arm_specs] == ["base", "star", "score"] and list(made.seeds) == [0, 1]
    assert (made.settings.score.alpha, made.settings.optimiser) == (10.0, LM.optimiser)
    assert made.overrides == {"score": ["score.alpha=3"]} and not made.allow_unequal
    assert [(exam.name, exam.task.kind, exam.problems) for exam in made.exams] == [
        ("", "mbpp", 50),
        ("humaneval", "humaneval", 20),
    ]
    assert left_out(read_recipe(folder), {}) == ["repair"]


def test_what_is_chosen_comes_over_the_recipe(folder: Path) -> None:
    data = {"mbpp": folder / "m.jsonl", "mbpp-repair": folder / "r.jsonl"}
    chosen = Chosen(
        model="some/model", data=data, arms=["base", "score"], seeds=1, problems=30, overrides=["score.beta1=0.5"]
    )
    made = comparison_of(folder, read_recipe(folder), chosen, folder / "out")
    assert (made.settings.policy.model, made.settings.score.beta1) == ("some/model", 0.5)
    assert made.settings.task.model_dump()["path"] == folder / "m.jsonl"
    assert [(exam.name, exam.problems) for exam in made.exams] == [("", 30), ("humaneval", 20), ("repair", 30)]
    assert made.exams[2].task.model_dump()["path"] == folder / "r.jsonl"


def test_minutes_bound_the_arms_that_can_end_by_the_clock(folder: Path) -> None:
    made = comparison_of(folder, read_recipe(folder), Chosen(minutes=2.5), folder / "out")
    assert made.overrides == {"score": ["score.alpha=3", "stop_after_minutes=2.5"]}
    assert made.allow_unequal, "who ends by the clock may not cost the same"
    assert read_recipe(folder).arm_settings == {"score": ["score.alpha=3"]}


def test_the_reference_is_score_where_it_is_among_the_arms(folder: Path) -> None:
    recipe = read_recipe(folder)
    assert [reference(recipe, arms) for arms in (["score", "base"], ["star", "base"])] == ["score", "base"]
    chosen = recipe.model_copy(update={"reference": "star"})
    assert [reference(chosen, arms) for arms in (["base", "star"], ["base", "score"])] == ["star", "score"]


def test_files_of_data_are_named_by_kind_or_lie_in_a_folder(folder: Path) -> None:
    kinds = kinds_of(folder, read_recipe(folder))
    assert kinds == ["mbpp", "humaneval", "mbpp-repair"]
    data = folder / "data"
    data.mkdir()
    for name in ("mbpp.jsonl", "HumanEval.jsonl.gz", "other.txt"):
        (data / name).write_text("")
    own = folder / "mine.jsonl"
    own.write_text("")
    found = data_files([str(data), f"mbpp={own}"], kinds)
    assert found == {"mbpp": own, "humaneval": data / "HumanEval.jsonl.gz"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", "there is no nowhere"),
        ("mbpp=nowhere", "there is no nowhere"),
        (".", "no file in it is named after"),
    ],
)
def test_data_that_are_not_there_are_told(
    given: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=says):
        data_files([given], ["mbpp"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arm": ["base"]}, "arm: unknown; did you mean arms"),
        ({"arms": []}, "arms"),
        ({"exams": [{"name": "x", "task": {"kind": "humanevil"}}]}, "humanevil"),
        ({"exams": [{"name": "../x", "task": {"kind": "humaneval"}}]}, "name"),
    ],
)
def test_a_recipe_that_is_wrong_is_told_field_by_field(change: dict[str, Any], says: str, folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(ConfigurationError, match=says):
        read_recipe(folder)


def test_what_no_task_or_arm_of_the_recipe_would_read_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--data gsm8k: the recipe has no such task"):
        comparison_of(folder, read_recipe(folder), Chosen(data={"gsm8k": folder}), folder / "out")
    recipe = read_recipe(folder).model_copy(update={"arm_settings": {"pag": []}})
    with pytest.raises(ConfigurationError, match="arm_settings of pag, which are none of its arms and warm-ups"):
        comparison_of(folder, recipe, Chosen(), folder / "out")
    with pytest.raises(ConfigurationError, match=r"there is no settings\.yaml and no recipe\.yaml"):
        read_recipe(folder / "data")


def test_after_a_warm_up_every_arm_begins_with_its_model(folder: Path) -> None:
    recipe = read_recipe(folder).model_copy(update={"warm_up": ["attempt"]})
    made = comparison_of(folder, recipe, Chosen(model="some/model"), folder / "out")
    assert {name: one.policy.model for name, one in made.warm_ups.items()} == {"warm-up": "some/model"}
    assert made.settings.policy.model == str(folder / "out" / "warm-up" / "model")
    assert [piece.name for piece in pieces_of(made)][:2] == ["warm-up", "untrained"]


def test_a_second_warm_up_begins_where_the_first_one_ends_and_may_be_changed_alone(folder: Path) -> None:
    changes = {"warm-up-verdicts": ["sft.samples_per_problem=3"]}
    recipe = read_recipe(folder)
    recipe = recipe.model_copy(
        update={"warm_up": ["attempt", "verdicts"], "arm_settings": recipe.arm_settings | changes}
    )
    made = comparison_of(folder, recipe, Chosen(model="some/model"), folder / "out")
    first, second = folder / "out" / "warm-up" / "model", folder / "out" / "warm-up-verdicts" / "model"
    told = [(name, one.policy.model, one.sft.form, one.sft.samples_per_problem) for name, one in made.warm_ups.items()]
    assert told == [("warm-up", "some/model", "attempt", 1), ("warm-up-verdicts", str(first), "verdicts", 3)]
    assert made.settings.policy.model == str(second)
    assert [piece.name for piece in pieces_of(made)][:2] == ["warm-up", "untrained"]


def test_a_warm_up_is_done_once() -> None:
    with pytest.raises(ValueError, match="each form once, got attempt, attempt"):
        Recipe(arms=["base"], warm_up=["attempt", "attempt"])


def test_the_warm_ups_are_done_one_after_the_other_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, bool]] = []

    def fine_tuning(settings: RunSettings, *, out: Path, progress: Any, resume: bool) -> None:
        done.append((out.name, resume))
        out.mkdir(exist_ok=True)
        if len(done) == 2:
            (out / "config.yaml").write_text("")
            raise TrainingError("killed")
        (out / "metrics.json").write_text("{}")

    monkeypatch.setattr("selfcorrect.training.arms.sft.sft", fine_tuning)
    made = {"warm-up": RunSettings(), "warm-up-verdicts": RunSettings()}
    with pytest.raises(TrainingError):
        warm_up(made, tmp_path, SilentComparison())
    assert not is_warm(made, tmp_path)
    warm_up(made, tmp_path, SilentComparison())
    assert done == [("warm-up", False), ("warm-up-verdicts", False), ("warm-up-verdicts", True)]
    assert is_warm(made, tmp_path)
