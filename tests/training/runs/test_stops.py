"""Runs that go wrong stop, keep what was good, and say what to change."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_trainer import LikesPlus

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import ConfigurationError, DivergenceError, TrainingError
from selfcorrect.settings import combine
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.arms.reinforced import score
from selfcorrect.training.arms.star import star
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.runs.callbacks import BoundedKL
from selfcorrect.training.runs.fitting import fit, last_checkpoint, open_trainer
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings


def config_of(out: Path, **changes: Any) -> TurnPPOConfig:
    small = {"steps": 6, "problems_per_step": 4, "episodes_per_problem": 4, "save_every": 1, "keep_checkpoints": 3}
    return TurnPPOConfig(**(small | {"output_dir": out} | changes))


def told(bound: BoundedKL, out: Path, *steps: Mapping[str, float], after: int = 0) -> None:
    for number, figures in enumerate(steps, after + 1):
        state = SimpleNamespace(global_step=number, is_world_process_zero=True)
        bound.on_log(SimpleNamespace(output_dir=str(out)), state, None, {"tokens": 1.0, **figures})


def test_a_kl_that_rises_slowly_may_go_past_the_bound(tmp_path: Path) -> None:
    told(BoundedKL(config_of(tmp_path, max_kl=1.0)), tmp_path, *[{"kl_t1": 0.9 * n} for n in range(6)])


@pytest.mark.parametrize("kl", [1.6, float("inf"), float("nan")])
def test_a_kl_that_jumps_in_one_step_stops_the_run(kl: float, tmp_path: Path) -> None:
    bound = BoundedKL(config_of(tmp_path, max_kl=1.0, learning_rate=3e-4))
    told(bound, tmp_path, {"kl_t1": 0.0, "kl_t2": 0.0}, {"kl_t1": 0.5, "kl_t2": 0.5})
    with pytest.raises(DivergenceError, match=r"kl_t2 rose from 0.5 to .* in step 3.*learning_rate \(it is 0.0003"):
        told(bound, tmp_path, {"kl_t1": 0.5, "kl_t2": kl}, after=2)


def test_a_resumed_run_is_measured_from_where_it_goes_on(tmp_path: Path) -> None:
    bound = BoundedKL(config_of(tmp_path, max_kl=1.0))
    told(bound, tmp_path, {"kl_t1": 7.0}, {"kl_t1": 7.5}, after=40)
    with pytest.raises(DivergenceError):
        told(bound, tmp_path, {"kl_t1": 9.0}, after=42)


def test_the_first_step_is_measured_from_the_reference(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="rose from 0 to 2"):
        told(BoundedKL(config_of(tmp_path, max_kl=1.0)), tmp_path, {"kl_t1": 2.0})


def test_a_rate_that_breaks_the_policy_leaves_the_last_good_checkpoint(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model_folder), max_new_tokens=5)
    config = config_of(tmp_path, learning_rate=3.0, warmup_steps=4, max_kl=0.5)  # nothing at first, then far too much
    trainer = open_trainer(
        policy,
        build_graph(policy, prompts=COUNTDOWN),
        CountdownTask(3).problems("train", 32),
        lambda batch: CheckerRewards(StageTwo(alpha=1.0, beta1=0.01), LikesPlus()),
        config,
    )
    with pytest.raises(DivergenceError, match=r"optimiser\.max_kl = 0\.5.*last good checkpoint") as caught:
        fit(trainer)
    aside = [path for path in tmp_path.iterdir() if path.name.startswith("diverged-")]
    last = last_checkpoint(tmp_path)
    assert len(aside) == 1 and last is not None and str(last) in str(caught.value)
    # the step whose figures told of it was never saved
    assert int(last.name.split("-")[1]) + 1 == int(aside[0].name.split("-")[1])


def test_a_run_without_a_correct_answer_stops_by_itself(tiny_model_folder: Path, tmp_path: Path) -> None:
    changes = {
        "task": {"numbers": 6},  # a random policy with five tokens cannot solve it
        "policy": {"model": str(tiny_model_folder), "max_new_tokens": 5},
        "score": {"stage_one_steps": 9, "stage_two_steps": 0},
        "optimiser": {"problems_per_step": 4, "episodes_per_problem": 2, "stop_after_idle": 2},
        "evaluation": {"problems": 2},
    }
    with pytest.raises(TrainingError, match=r"last 2 batches.*no answer was correct yet.*supervised fine-tuning"):
        score(combine(RunSettings(), changes, []), out=tmp_path / "run")
    steps = RunDirectory(tmp_path / "run").read_metrics()
    assert len(steps) == 2 and all(step["alarm/none_correct"] == 1.0 for step in steps)


class Clock:
    """Minutes that pass as told: the training begins at 0, and every look at the clock is a minute later."""

    def __init__(self) -> None:
        self.seconds = -60.0

    def __call__(self) -> float:
        self.seconds += 60.0
        return self.seconds


def clocked(folder: Path, **changes: Any) -> RunSettings:
    small = {
        "policy": {"model": str(folder), "max_new_tokens": 5},
        "score": {"stage_one_steps": 2, "stage_two_steps": 4},
        "optimiser": {"problems_per_step": 2, "episodes_per_problem": 2, "minibatches": 2, "stop_after_idle": 0},
        "evaluation": {"problems": 4},
    }
    return combine(RunSettings(), small | changes, ())


@pytest.mark.slow
def test_a_run_ends_by_the_clock_and_goes_on_when_it_is_given_more(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is that of a run which nothing stopped, figure by figure."""
    score(clocked(tiny_model_folder), out=tmp_path / "whole")
    out = tmp_path / "run"
    monkeypatch.setattr("selfcorrect.training.runs.callbacks.StopOnTime.clock", Clock())
    score(clocked(tiny_model_folder, stop_after_minutes=3.5), out=out)
    run = RunDirectory(out)
    final = run.read_final() or {}
    steps = len(run.read_metrics())
    assert final["stopped"] == {"step": steps, "of": 6} and 1 < steps < 6
    assert final["budget"]["optimiser_steps"] == 2 * steps and run.model_path.is_dir()
    score(clocked(tiny_model_folder), out=out, resume=True)
    assert "stopped" not in (run.read_final() or {})
    figures = [
        [{name: step[name] for name in ("accuracy_t1", "episode_reward", "tokens")} for step in steps.read_metrics()]
        for steps in (run, RunDirectory(tmp_path / "whole"))
    ]
    assert figures[0] == figures[1] and len(figures[0]) == 6


def test_arms_whose_steps_are_whole_fits_do_not_end_by_the_clock(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="star .*cannot end before its fits are done"):
        star(clocked(tiny_model_folder, stop_after_minutes=1.0), out=tmp_path / "run")


def test_the_files_of_a_run_that_was_moved_may_lie_elsewhere(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Its base, on another machine; but while the old place is there, another model is another run."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(tiny_model_folder, old)
    run = RunDirectory.create(tmp_path / "run", clocked(old))
    shutil.copytree(old, new)
    with pytest.raises(ConfigurationError, match=r"other settings of policy\.model"):
        RunDirectory.create(run.path, clocked(new), resume=True)
    shutil.rmtree(old)
    moved = run.path.rename(tmp_path / "moved")
    RunDirectory.create(moved, clocked(new), resume=True)
    assert RunDirectory.saved_settings(moved).policy.model == str(new)
