"""`selfcorrect train ARM`: which arm is carried out, where, and how a run is gone on with."""

from pathlib import Path
from typing import Any

import pytest

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.reinforced import ablated, ablation_name
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.reinforced_run import Plan
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import DEMO, FULL, RunSettings

FIGURES = {"n": 10, "accuracy_t1": 0.5, "accuracy_t2": 0.5, "delta": 0.0, "i_to_c": 0.0, "c_to_i": 0.0}
RL_ARMS = ["score", "single-turn", "multi-turn", "pag"]


class ScriptedPlan:
    """Stands for `train_plan`: makes the run's folder and is stopped, or ends."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.settings: RunSettings | None = None
        self.out: Path | None = None
        self.stopped = False

    def __call__(
        self, plan: Plan, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool
    ) -> RunResult:
        self.plan, self.settings, self.out = plan, settings, out
        RunDirectory.create(out, settings, resume=resume, arm=plan.arm)
        if self.stopped:
            raise KeyboardInterrupt
        return RunResult(out, FIGURES, FIGURES)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedPlan:
    scripted = ScriptedPlan()
    for home in ("reinforced", "star"):
        monkeypatch.setattr(f"selfcorrect.training.arms.{home}.train_plan", scripted)
    monkeypatch.chdir(tmp_path)
    return scripted


@pytest.mark.parametrize("arm", RL_ARMS)
def test_an_arm_trains_in_a_folder_of_its_own_name(run: Any, training: ScriptedPlan, arm: str) -> None:
    assert run("train", arm, "--preset", "demo").status == 0
    assert training.plan is not None and training.plan.arm == arm
    assert training.out == Path("runs") / arm
    assert training.plan.schedule.total_batches == DEMO.score.total_steps


@pytest.mark.parametrize("arm", RL_ARMS)
def test_a_stopped_arm_says_how_to_go_on_with_it(run: Any, training: ScriptedPlan, arm: str) -> None:
    training.stopped = True
    done = run("train", arm, "--out", "here", "--set", "seed=3")
    assert done.status == 130 and f"selfcorrect train {arm} --resume here" in done.stderr
    training.stopped = False
    assert run("train", arm, "--resume", "here").status == 0
    assert training.settings is not None and training.settings.seed == 3


def test_ablations_are_named_with_their_options(run: Any, training: ScriptedPlan) -> None:
    training.stopped = True
    done = run("train", "score", "--no-shaping", "--no-stage1", "--preset", "demo", "--out", "here")
    assert "selfcorrect train score --no-stage1 --no-shaping --resume here" in done.stderr
    assert training.settings is not None
    score = training.settings.score
    assert (score.stage_one_steps, score.stage_two_steps, score.alpha) == (0, 160, 0.0)


def test_star_as_stage_two_is_named_too_and_goes_with_no_other_ablation(run: Any, training: ScriptedPlan) -> None:
    training.stopped = True
    done = run("train", "score", "--stage2", "star", "--out", "here")
    assert "selfcorrect train score --stage2 star --resume here" in done.stderr
    assert training.plan is not None and training.plan.schedule.total_batches == FULL.score.stage_one_steps
    assert run("train", "score", "--stage2", "star", "--no-shaping").status == 2


def test_a_run_is_not_gone_on_with_as_another_arm(run: Any, training: ScriptedPlan) -> None:
    run("train", "score", "--no-stage1", "--out", "here")
    done = run("train", "multi-turn", "--resume", "here")
    assert done.status == 2
    assert "selfcorrect train score --no-stage1 --resume here" in " ".join(done.stderr.split())


def test_an_unknown_arm_names_the_nearest(run: Any) -> None:
    done = run("train", "multi-trun")
    assert done.status == 2 and "did you mean multi-turn?" in " ".join(done.stderr.replace("│", " ").split())
    assert "single-turn" in run("train", "quite-else").stderr


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("score --steps 10", "--set score.stage_two_steps=10"),
        ("star --steps=10", "--set star.steps=10"),
        ("star --epochs 3", "No such option: --epochs"),  # STaR has none: its steps are counted
        ("score --save-every --json", "--set save_every=VALUE"),
        ("quiet-star --lr 1e-4", "--set optimiser.learning_rate=1e-4"),
        ("score --modle x", "--model"),
    ],
)
def test_a_setting_that_is_typed_as_an_option_is_told_with_what_to_type(run: Any, typed: str, told: str) -> None:
    done = run("train", *typed.split())
    assert done.status == 2 and told in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("given", [["--set", "score.alpha=5"], ["--map", "a.b=prompt"], ["--set=score.alpha=5"]])
def test_what_is_typed_as_it_should_be_is_not_taken_for_a_slip(run: Any, given: list[str]) -> None:
    done = run("train", "score", *given, "--device", "nowhere")
    assert done.status == 2 and "--set" not in done.stderr


def test_options_without_an_arm_are_told_so(run: Any) -> None:
    done = run("train", "--preset", "demo")
    assert done.status == 2 and "selfcorrect train score --preset demo" in " ".join(
        done.stderr.replace("│", " ").split()
    )


def test_only_pag_lets_the_policy_judge_itself_and_only_single_turn_plays_fewer_turns(
    run: Any, training: ScriptedPlan
) -> None:
    seen = {}
    for arm in RL_ARMS:
        run("train", arm)
        assert training.plan is not None and training.settings is not None
        seen[arm] = (
            training.settings.graph.critique,
            training.plan.training_revisions,
            training.plan.normalise_by,
        )
    usual = ("instruction", None, "nothing")
    assert seen == {
        "score": usual,
        "multi-turn": usual,
        "single-turn": ("instruction", 0, "nothing"),
        "pag": ("self", None, "role"),
    }


def test_ablating_twice_changes_no_more() -> None:
    once = ablated(DEMO, ["stage1", "shaping"])
    assert ablated(once, ["stage1", "shaping"]) == once
    assert ablated(DEMO, []) == DEMO
    assert ablation_name(["shaping"]) == "score --no-shaping"


def test_what_a_run_cost_is_written_beside_its_figures(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", DEMO, arm="pag")
    run.write_final(FIGURES, FIGURES, budget=Budget(generated_tokens=1200, optimiser_steps=8))
    final = run.read_final()
    assert final is not None and final["budget"] == {"generated_tokens": 1200, "optimiser_steps": 8}
    assert run.arm == "pag"


def test_runs_of_unknown_arms_can_be_taken_up_by_any(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", DEMO)
    RunDirectory.create(tmp_path / "run", DEMO, resume=True, arm="pag")
    with pytest.raises(ConfigurationError, match="not of 'score'"):
        RunDirectory.create(tmp_path / "run", DEMO, resume=True, arm="score")
