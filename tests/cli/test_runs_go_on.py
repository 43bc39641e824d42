"""Runs that go on: from any folder, for longer; the card of what they made, and the commands that come next."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.cli.training_run import _next_commands
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.settings import combine
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import DEMO, RunSettings

FIGURES = {"n": 9, "accuracy_t1": 0.5, "accuracy_t2": 0.6, "delta": 0.1, "i_to_c": 0.1, "c_to_i": 0.0}
TINY = [
    part
    for setting in (
        "score.stage_one_steps=1",
        "score.stage_two_steps=1",
        "optimiser.problems_per_step=2",
        "optimiser.episodes_per_problem=2",
        "optimiser.minibatches=1",
        "optimiser.ppo_epochs=1",
        "evaluation.problems=4",
    )
    for part in ("--set", setting)
]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run begun in one folder by relative paths; the test goes on in another."""
    begun, other = tmp_path / "begun", tmp_path / "other"
    begun.mkdir(), other.mkdir()
    monkeypatch.chdir(begun)
    Path("rows.jsonl").write_text("".join(json.dumps({"prompt": f"{n}?", "answer": n}) + "\n" for n in range(40)))
    Path("my-model").mkdir()
    tree = {"task": {"kind": "jsonl", "path": "rows.jsonl"}, "policy": {"model": "my-model"}}
    settings = combine(RunSettings(), tree, [])
    RunDirectory.create(Path("runs/one"), settings, arm="score")
    assert RunDirectory.create(Path("runs/one"), settings, resume=True).path == Path("runs/one")
    monkeypatch.chdir(other)
    return begun / "runs" / "one"


def test_a_run_is_taken_up_from_any_folder(elsewhere: Path) -> None:
    saved = RunDirectory.saved_settings(elsewhere)
    assert saved.task.open().problems("train", 1) and saved.policy.model == str(elsewhere.parents[1] / "my-model")
    assert RunDirectory.create(elsewhere, saved, resume=True, arm="score").path == elsewhere


def test_names_that_are_no_paths_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("embedded").mkdir()
    run = RunDirectory.create(Path("run"), DEMO)
    assert RunDirectory.saved_settings(run.path) == DEMO


def test_a_run_can_be_made_longer_and_not_shorter_or_another(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    longer = combine(DEMO, {}, ["score.stage_two_steps=150", "star.loops=9"])
    RunDirectory.create(tmp_path, longer, resume=True)
    assert RunDirectory.saved_settings(tmp_path).score.stage_two_steps == 150
    with pytest.raises(ConfigurationError, match="was 150 in .* and can only be raised, not lowered to 140"):
        RunDirectory.create(tmp_path, combine(longer, {}, ["score.stage_two_steps=140"]), resume=True)
    with pytest.raises(ConfigurationError, match=r"other settings of score\.stage_one_steps"):
        RunDirectory.create(tmp_path, combine(longer, {}, ["score.stage_one_steps=999"]), resume=True)
    run.write_final(FIGURES, FIGURES)
    with pytest.raises(TrainingError, match="keeps no checkpoint, so it cannot be made longer"):
        RunDirectory.create(tmp_path, combine(longer, {}, ["score.stage_two_steps=160"]), resume=True)


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    settings = combine(DEMO, {"policy": {"model": "Qwen/Qwen2.5-1.5B-Instruct"}}, [])
    run = RunDirectory.create(tmp_path / "run", settings, arm="score --no-shaping")
    run.write_final(FIGURES, FIGURES | {"accuracy_t2": 0.7})
    run.write_card()
    assert not (run.path / "model").exists(), "no card without a model"
    run.model_path.mkdir()
    run.write_card()
    card = (run.model_path / "README.md").read_text()
    for words in [
        "base_model: Qwen/Qwen2.5-1.5B-Instruct",
        "# selfcorrect, score --no-shaping",
        "- **Base:** Qwen/Qwen2.5-1.5B-Instruct",
        "- **Task:** countdown with 4 numbers",
        "- **Trained by:** score --no-shaping (SCoRe)",
        "credit 'own', baseline 'leave_one_out_given_previous'",
        "| accuracy@2 | 0.600 | 0.700 |",
        f"selfcorrect eval --model {run.model_path} --task TASK",
    ]:
        assert words in card, words
    assert "None" not in card and "GRPO" not in card


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("score", ["selfcorrect solve Q --model", "selfcorrect eval --model"]),
        ("star", ["selfcorrect solve Q --model", "selfcorrect train score --model"]),
        ("sft", ["selfcorrect solve Q --model", "selfcorrect train score --model"]),
        ("vstar", ["verifiers/likelihood --strategy best_of_n:16", "selfcorrect scale --model"]),
    ],
)
def test_a_run_ends_by_naming_the_commands_that_come_next(tmp_path: Path, arm: str, expected: list[str]) -> None:
    run = RunDirectory.create(tmp_path, DEMO, arm=arm)
    if arm == "vstar":
        (run.path / "verifiers" / "likelihood").mkdir(parents=True)
    run.model_path.mkdir()
    told = list(_next_commands(RunResult(run.path, FIGURES, FIGURES), DEMO, "Q").values())
    assert len(told) == len(expected) and all(words in str(line) for words, line in zip(expected, told, strict=True))
    assert all(f"--model {run.model_path}" in str(line) for line in told)


@pytest.mark.parametrize(("asked", "model"), [(None, "embedded"), ("openai:some-model", "openai:some-model")])
def test_verifiers_alone_are_tried_with_who_answered(tmp_path: Path, asked: str | None, model: str) -> None:
    settings = combine(DEMO, {"vstar": {"rounds": 0, "asked": asked}}, [])
    run = RunDirectory.create(tmp_path, settings, arm="vstar")
    (run.path / "verifiers" / "classifier").mkdir(parents=True)
    told = [str(line) for line in _next_commands(RunResult(run.path, FIGURES, FIGURES), settings, "Q").values()]
    assert len(told) == 2 and all(f"--model {model} --verifier" in line for line in told)


@pytest.mark.slow
def test_a_finished_run_goes_on_for_longer_from_another_folder(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "score", "--preset", "demo", "--out", "one", *TINY)
    assert done.status == 0, done.stderr
    assert "one/model" in done.stdout and (tmp_path / "one" / "model" / "README.md").is_file()
    assert not (tmp_path / "one" / "checkpoints" / "README.md").exists(), "TRL's card speaks of GRPO"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    longer = run("train", "score", "--resume", "../one", "--set", "score.stage_two_steps=2")
    assert longer.status == 0, longer.stderr
    steps = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert [(step["step"], step["stage"]) for step in steps] == [(1, 1), (2, 2), (3, 2)]
