"""Whole runs of the arms on a tiny policy: what is played while training, what is evaluated, what it cost."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.training.arms import Arm
from selfcorrect.training.arms.reinforced import multi_turn, pag, single_turn
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.arms.star import stage_two_settings
from selfcorrect.training.arms.untrained import sample_again, self_refine
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import (
    EvaluationSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
    StarSettings,
)

pytestmark = pytest.mark.slow


def settings_for(folder: Path) -> RunSettings:
    return RunSettings(
        policy=PolicySettings(model=str(folder), max_new_tokens=6),
        score=ScoreSettings(stage_one_steps=1, stage_two_steps=1),
        optimiser=OptimiserSettings(problems_per_step=4, episodes_per_problem=2, learning_rate=1e-3, ppo_epochs=2),
        evaluation=EvaluationSettings(problems=6),
        star=StarSettings(loops=2),
        save_every=2,
    )


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("arm", "paid"), [(single_turn, {"answer_1"}), (multi_turn, {"answer_1", "answer_2"})])
def test_an_arm_plays_and_pays_its_own_turns_and_is_evaluated_in_two(
    arm: Arm, paid: set[str], tiny_model_folder: Path, tmp_path: Path
) -> None:
    result = arm(settings_for(tiny_model_folder), out=tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2
    for step in steps:
        assert {name.removeprefix("reward/") for name in step if name.startswith("reward/")} == paid
        assert ("accuracy_t2" in step) == ("answer_2" in paid)
    assert len(result.after["accuracy"]) == 2
    budget = RunDirectory(tmp_path / "run").read_final()["budget"]  # type: ignore[index]
    assert budget == {"generated_tokens": sum(step["tokens"] for step in steps), "optimiser_steps": 4}


def test_pag_judges_itself_in_training_and_in_evaluation(tiny_model_folder: Path, tmp_path: Path) -> None:
    result = pag(settings_for(tiny_model_folder), out=tmp_path / "run")
    assert all("reward/critique_1" in step and "reward/answer_1" in step for step in steps_of(tmp_path / "run"))
    assert result.after["setting"] == "correction after own critique"
    assert "critique: self" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arm", "setting"), [(self_refine, "correction after own critique"), (sample_again, "sampling again")]
)
def test_an_untrained_arm_is_evaluated_in_its_own_loop_and_costs_nothing(
    arm: Arm, setting: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    result = arm(settings_for(tiny_model_folder), out=tmp_path / "run")
    assert (result.before["setting"], result.after["setting"]) == ("intrinsic correction", setting)
    final = RunDirectory(tmp_path / "run").read_final()
    assert final is not None and final["budget"] == {"generated_tokens": 0, "optimiser_steps": 0}
    assert (tmp_path / "run" / "report.html").exists()


class StoppedWhileTelling(SilentProgress):
    """Ctrl-C is pressed at the first message."""

    def __init__(self) -> None:
        self.is_closed = False

    def message(self, text: str) -> None:
        raise KeyboardInterrupt

    def close(self) -> None:
        self.is_closed = True


def test_an_untrained_arm_that_is_stopped_leaves_no_progress_bar_open(tiny_model_folder: Path, tmp_path: Path) -> None:
    progress = StoppedWhileTelling()
    with pytest.raises(KeyboardInterrupt):
        sample_again(settings_for(tiny_model_folder), out=tmp_path / "run", progress=progress)
    assert progress.is_closed


def test_star_as_stage_two_gets_what_stage_two_would_have_cost(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = settings_for(tiny_model_folder)
    first = RunDirectory.create(tmp_path / "stage1", settings)
    first.write_final({}, {}, budget=Budget(generated_tokens=100, optimiser_steps=2))  # one step of Stage I
    own = stage_two_settings(settings, first)
    assert (own.star.loops * (own.star.tokens or 0), own.star.loops * own.star.steps) == (100, 2)
    assert own.policy.model == str(first.model_path)
