"""`selfcorrect train star` and `train pair-sft`: which data are learnt, and how a run is gone on with."""

from pathlib import Path
from typing import Any

import pytest

from selfcorrect.training.arms.supervised.run import SupervisedPlan
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings

FIGURES = {"n": 10, "accuracy_t1": 0.5, "accuracy_t2": 0.5, "delta": 0.0, "i_to_c": 0.0, "c_to_i": 0.0}


class ScriptedRun:
    """Stands for `train_supervised`: makes the run's folder and is stopped, or ends."""

    def __init__(self) -> None:
        self.plan: SupervisedPlan | None = None
        self.settings: RunSettings | None = None
        self.resumed = False
        self.stopped = False

    def __call__(
        self, plan: SupervisedPlan, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool
    ) -> RunResult:
        self.plan, self.settings, self.resumed = plan, settings, resume
        RunDirectory.create(out, settings, resume=resume, arm=plan.arm)
        if self.stopped:
            raise KeyboardInterrupt
        return RunResult(out, FIGURES, FIGURES)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedRun:
    scripted = ScriptedRun()
    for home in ["star", "pair_sft"]:
        monkeypatch.setattr(f"selfcorrect.training.arms.{home}.train_supervised", scripted)
    monkeypatch.chdir(tmp_path)
    return scripted


@pytest.mark.parametrize(
    ("arguments", "arm"),
    [
        (["star"], "star --data multi"),
        (["star", "--data", "single+rationalised"], "star --data single+rationalised"),
        (["star", "--set", "star.data=single"], "star --data single"),
        (["pair-sft"], "pair-sft --data pairs"),
        (["pair-sft", "--data", "pairs+correct"], "pair-sft --data pairs+correct"),
    ],
)
def test_the_data_can_be_chosen(run: Any, training: ScriptedRun, arguments: list[str], arm: str) -> None:
    assert run("train", *arguments, "--preset", "demo").status == 0
    assert training.plan is not None and training.plan.arm == arm


def test_a_stopped_run_goes_on_with_its_own_data(run: Any, training: ScriptedRun) -> None:
    training.stopped = True
    done = run("train", "star", "--data", "single", "--out", "here", "--set", "star.loops=3")
    assert done.status == 130 and "selfcorrect train star --resume here" in done.stderr
    training.stopped = False
    assert run("train", "star", "--resume", "here").status == 0
    assert training.resumed and training.settings is not None
    assert training.settings.star.data == "single" and training.settings.star.loops == 3


def test_unknown_data_are_refused_with_those_that_there_are(run: Any, training: ScriptedRun) -> None:
    done = run("train", "pair-sft", "--data", "triples")
    assert done.status == 2 and "pairs+correct" in done.stderr
    assert training.plan is None


def test_loops_of_other_shapes_are_refused_before_training(run: Any, training: ScriptedRun) -> None:
    done = run("train", "pair-sft", "--set", "graph.revisions=2", "--out", "here")
    assert done.status == 2 and "two turns" in done.stderr and not Path("here").exists()
