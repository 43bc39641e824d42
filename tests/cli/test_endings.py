"""How commands end: every one that leaves something behind says what lies where, and a command that comes next; what it
says is there, and the command can be typed as it stands."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main
import yaml

from selfcorrect.cli import compare, train
from selfcorrect.cli.app import app
from selfcorrect.cli.naming import column_names, question_like, task_options, task_settings
from selfcorrect.tasks.registry import TASKS
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult

FIGURES = {"n": 10, "accuracy_t1": 0.5, "accuracy_t2": 0.5, "delta": 0.0, "i_to_c": 0.0, "c_to_i": 0.0}
WRITE_NOTHING = {"check math", "check code", "settings", "serve", "mcp"}
"""Commands that leave nothing behind."""


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(commands(typer.main.get_command(app)))
ARMS = [name for name in COMMANDS if name.startswith("train ") and name != "train quiet-star"]


# What commands are given: so little that each takes a second or two. Training is left out, not how it ends.

ROWS = "".join(json.dumps({"question": f"What is {n} + {n}?", "gold": 2 * n}) + "\n" for n in range(40))
OWN = ("--task", "problems.jsonl", "--map", "question=prompt,gold=answer")


def trained(settings: Any, *, out: Path, arm: str) -> RunResult:
    """What a run of `arm` leaves behind."""
    run = RunDirectory.create(out, settings, arm=arm)
    run.model_path.mkdir()
    (run.path / "report.html").touch()
    turn = {"role": "attempt", "text": "14", "verdict": "correct", "reason": "14 is right"}
    row = {"id": "7", "policy": "before", "prompt": "What is 7 + 7?", "reference": 14, "turns": [turn]}
    run.episodes_path.write_text(json.dumps({**row, "stop_reason": "turns"}) + "\n")
    run.final_path.write_text(json.dumps({"before": FIGURES, "after": FIGURES, "budget": None}))
    if arm == "vstar":
        (run.path / "verifiers" / "likelihood").mkdir(parents=True)
        (run.path / "verifiers.html").touch()
    return RunResult(run.path, FIGURES, FIGURES)


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.carry_out

    def carried_out(request: Any, load: Any, **options: Any) -> None:
        def arm(settings: Any, *, out: Path, progress: Any, resume: bool) -> RunResult:
            return trained(settings, out=out, arm=request.arm[0])

        real(request, lambda: arm, **options)

    monkeypatch.setattr(train, "carry_out", carried_out)
    monkeypatch.setattr(
        "selfcorrect.training.quiet_star.run.train_quiet_star",
        lambda settings, *, out, progress, resume: trained(settings, out=out, arm="quiet-star"),
    )


def without_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    def carried_out(comparison: Any, out: Path, *, reference: str, silent: bool) -> dict[str, Any]:
        from selfcorrect.training.compare.result import write_comparison

        (out / "score" / "seed-0" / "model").mkdir(parents=True)
        return write_comparison(comparison, out, {}, reference=reference)

    monkeypatch.setattr(compare, "carry_out", carried_out)


def a_recipe() -> None:
    folder = Path("recipe")
    folder.mkdir()
    (folder / "recipe.yaml").write_text("arms: [base, score]\n")
    (folder / "settings.yaml").write_text(yaml.safe_dump({"task": {"kind": "countdown", "numbers": 3}}))
    Path("runs/recipe/score/seed-0/model").mkdir(parents=True)


def a_run() -> None:
    """A folder of episodes to read, and a model to share."""
    from selfcorrect.training.settings import DEMO

    trained(DEMO, out=Path("runs/mine"), arm="score")


def shared(run: Path, repo: str, **options: Any) -> str:
    return f"https://huggingface.co/{repo}/commit/abc"


Words = Sequence[str]
MANY = pytest.mark.slow
SEARCH = ("--strategies", "majority", "--budgets", "1,2", "--max-answer-tokens", "4")
ENDINGS: Mapping[str, Words] = {
    **{arm: OWN for arm in ARMS},
    "demo": (),
    "train quiet-star": (),
    "compare": ("--task", "countdown-3"),
    "reproduce": ("recipe", "--show"),
    "eval": ("-n", "2", "--max-answer-tokens", "4", "--out", "kept", "--task", "countdown-3"),
    "view": ("runs/mine",),
    "solve": ("3 5 7 9 get 56", "--checkpoint", "kept.sqlite", "--max-answer-tokens", "4"),
    "scale": ("--task", "countdown-3", "-n", "2", "--out", "scale", *SEARCH),
    "tune-budget": ("--task", "countdown-3", "-n", "10", "--bins", "1", *SEARCH),
    "adapt": ("--task", "countdown", "-n", "2", "--steps", "1", "--samples", "2", "--max-answer-tokens", "4"),
    "push": ("runs/mine", "me/corrector"),
    "init": ("graph", "app"),
    "validate": ("problems.jsonl", *OWN[2:]),
}
SLOW = {"scale", "tune-budget", "adapt", "eval", "solve"}
BEFORE: Mapping[str, Callable[[], None]] = {"reproduce": a_recipe, "view": a_run, "push": a_run}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "problems.jsonl").write_text(ROWS)
    (tmp_path / "task_of_mine.py").write_text("class Doubling:\n    def problems(self, split, count, *, seed=0): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    without_training(monkeypatch)
    without_comparing(monkeypatch)
    monkeypatch.setattr("selfcorrect.training.runs.sharing.push_to_hub", shared)
    return tmp_path


# What they say.


def told(stdout: str) -> dict[str, str]:
    """The last lines of a command, each with its label."""
    lines = [re.fullmatch(r"(?=.{8} \S|\w{9} )([a-z]+(?: it)?) +(\S.*)", line) for line in stdout.splitlines()]
    return {match[1]: match[2] for match in lines if match is not None}


def refuse_unusable(command: str) -> None:
    """Fail if `command` cannot be typed as it stands, or names what is not there."""
    _, *words = shlex.split(command)
    two = " ".join(words[:2]) in COMMANDS
    name = " ".join(words[: 2 if two else 1])
    given = COMMANDS[name].make_context(name, words[2 if two else 1 :]).params
    model = given.get("model")
    assert model in (None, "embedded", "MODEL", "me/corrector") or Path(model).exists(), model
    paths = [given[part] for part in ("verifier", "plan", "resume", "run") if given.get(part) is not None]
    assert all(Path(path).exists() for path in paths), paths
    if given.get("task") is not None:
        task_settings(given["task"], given.get("columns")).open()


def test_every_command_leaves_nothing_or_is_asked_here_how_it_ends() -> None:
    assert set(COMMANDS) == set(ENDINGS) | WRITE_NOTHING


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MANY) if name in SLOW else name for name in ENDINGS], ids=lambda name: name
)
def test_a_command_ends_with_what_lies_where_and_what_comes_next(run: Any, place: Path, name: str) -> None:
    BEFORE.get(name, lambda: None)()
    done = run(*name.split(), *ENDINGS[name])
    assert done.status == 0, done.stderr
    lines = told(done.stdout)
    assert "next" in lines or "try it" in lines, done.stdout
    for label, text in lines.items():
        said = text.partition("  (")[0]
        if said.startswith("selfcorrect "):
            refuse_unusable(said)
        elif label in ("report", "model", "episodes", "figures", "chart", "plan", "adapter"):
            assert Path(said).exists(), said


def test_what_comes_after_a_run_on_ones_own_problems_is_on_them_too(run: Any, place: Path) -> None:
    for arm, next_command in (("score", "eval"), ("sft", "train score"), ("vstar", "scale")):
        lines = told(run("train", arm, *OWN).stdout)
        assert lines["next"].startswith(f"selfcorrect {next_command} --model runs/{arm}/model"), lines["next"]
        assert f"--task {place}/problems.jsonl --map question=prompt,gold=answer" in lines["next"]
        assert "solve 'What is 7 + 7?'" in lines["try it"]


@pytest.mark.parametrize("kind", ["verifiers", "otel", "datasets"])
def test_an_export_says_what_reads_it(run: Any, place: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for writes in ("export", "save_dataset"):
        monkeypatch.setattr(f"selfcorrect.training.reporting.viewer.{writes}", lambda *_: iter(()))
    lines = told(run("view", "runs/mine", "--export", f"{kind}:out").stdout)
    assert lines[kind] == "out" and lines["next"]


def test_a_password_of_a_store_is_not_shown() -> None:
    from selfcorrect.cli.solve import _without_password

    assert _without_password("postgresql://me:secret@host:5432/db") == "postgresql://host:5432/db"
    assert _without_password("runs/kept.sqlite") == "runs/kept.sqlite"


NAMES = [
    *("countdown", "countdown-3", "equations-2", "jsonl:problems.jsonl", "problems.jsonl", "task_of_mine:Doubling"),
    *("reasoning-gym:chain_sum,min_terms=2,partial=True", "verifiers:a_set,size=5,most=3"),
    *("hub:somebody/rows,config=main,test_split=validation", "somebody/rows"),
    *(kind for kind in TASKS if kind not in ("hub", "jsonl", "reasoning-gym", "verifiers")),
    *(f"{kind}:rows.jsonl" for kind, task in TASKS.items() if task.file == "path"),
]


@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_the_options_of_a_task_stand_for_it(place: Path, name: str) -> None:
    columns = ["question=prompt,gold=answer"] if name.endswith("problems.jsonl") else None
    asked = task_settings(name, columns)
    words = dict(zip(*[iter(task_options(asked))] * 2, strict=True))
    assert column_names(columns) == column_names([words["--map"]] if columns else None)
    assert task_settings(words.get("--task", "countdown"), columns) == asked


def test_a_question_for_a_command_is_short_and_on_one_line() -> None:
    prompts = ["Write a function\nthat adds.", "x" * 300, "What is 12 + 12?", "2 + 2?"]
    assert question_like(None, prompts) == "2 + 2?" and question_like(None, prompts[:2]) == "QUESTION"
    assert question_like(SimpleNamespace(example_of_size="3 5 get 8"), prompts) == "3 5 get 8"  # type: ignore[arg-type]
