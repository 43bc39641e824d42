"""The best checkpoint of a run: which it is, that it outlives rotation and resuming, and that its weights come out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_trainer import Easy
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.settings import combine
from selfcorrect.training.arms.budgets import Costs
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.arms.score_turns import part_settings
from selfcorrect.training.arms.star import score_stage2_star, star
from selfcorrect.training.compare.comparison import Comparison
from selfcorrect.training.own_graph import Trained, train
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.runs import held_out
from selfcorrect.training.runs.best import BestCheckpoint
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import RunSettings


def config_of(best: dict[str, Any] | None, **changes: Any) -> TurnPPOConfig:
    return TurnPPOConfig(**({"output_dir": Path("out"), "steps": 9, "save_every": 1, "best": best} | changes))


class Run:
    """The steps of a run, told to the callback one by one."""

    def __init__(self, settings: TurnPPOConfig, earlier: list[dict[str, Any]] | None = None) -> None:
        self.said: list[str] = []
        self.best = BestCheckpoint(settings, earlier or [], self.said.append)
        self.state = SimpleNamespace(global_step=0, best_global_step=None)
        self.control = SimpleNamespace(should_save=False, should_training_stop=False)
        self.updates = settings.updates_per_step

    def step(self, number: int, **figures: float) -> "Run":
        self.state.global_step = number * self.updates
        self.control.should_save = False
        self.best.on_log(None, self.state, self.control, {"tokens": 1.0, **figures})
        return self


def test_the_figure_of_a_steps_episodes_judges_the_weights_that_played_them() -> None:
    run = Run(config_of({"metric": "episode_reward"}))
    for number, reward in enumerate([0.9, 0.1, 0.5, 0.2], start=1):
        run.step(number, episode_reward=reward)
    # 0.9 is of the base, which is no checkpoint; 0.5 of what was saved after step 2
    assert run.best.step == 2 and run.state.best_global_step == 2


def test_only_steps_after_a_checkpoint_are_compared() -> None:
    run = Run(config_of({"metric": "episode_reward"}, save_every=2))
    for number, reward in enumerate([0.0, 0.9, 0.5, 0.8, 0.4], start=1):
        run.step(number, episode_reward=reward)
    assert run.best.step == 2  # 0.5 in step 3, against 0.4 in step 5


def test_a_held_out_figure_is_of_its_own_step_and_saves_what_is_better() -> None:
    run = Run(config_of({"metric": "eval_accuracy_t2"}, evaluate_every=1, save_every=0, minibatches=2))
    saved = [run.step(n, eval_accuracy_t2=value).control.should_save for n, value in enumerate([0.2, 0.4, 0.3, 0.4], 1)]
    assert saved == [True, True, False, False]
    assert run.best.step == 2 and run.state.best_global_step == 4
    assert run.best.path == Path("out/checkpoint-4")


def test_lower_can_be_better_and_what_is_not_a_number_is_not_compared() -> None:
    run = Run(config_of({"metric": "eval_c_to_i", "higher_is_better": False}, evaluate_every=1))
    run.step(1, eval_c_to_i=float("nan")).step(2, eval_c_to_i=0.3).step(3, eval_c_to_i=0.1).step(4, eval_c_to_i=0.2)
    assert run.best.step == 3


def test_only_checkpoints_of_the_last_stage_are_compared() -> None:
    run = Run(config_of({"metric": "episode_reward"}, stages=[3, 6]))
    for number, reward in enumerate([0.9, 0.9, 0.9, 0.9, 0.1, 0.3], start=1):
        run.step(number, episode_reward=reward)
    assert run.best.step == 5  # the reward of step 4 is of the last weights of the first stage


def test_patience_ends_a_run_that_gets_no_better_and_is_counted_over_a_resume() -> None:
    settings = config_of({"metric": "eval_x", "patience": 2}, evaluate_every=1)
    run = Run(settings).step(1, eval_x=0.5).step(2, eval_x=0.4)
    assert not run.control.should_training_stop
    rows = [{"step": 1, "eval_x": 0.5}, {"step": 2, "eval_x": 0.4}]
    for goes_on in (run, Run(settings, rows)):
        goes_on.step(3, eval_x=0.5)  # as good is not better
        assert goes_on.control.should_training_stop and goes_on.control.should_save and goes_on.best.is_over
        assert "no better in 2 comparisons" in goes_on.said[-1] and "step 1" in goes_on.said[-1]


def test_a_figure_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="step 1 has no figure 'rewrd'; it has episode_reward, tokens"):
        Run(config_of({"metric": "rewrd"})).step(1, episode_reward=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"best": {"metric": "eval_accuracy_t2"}}, "measured where evaluation.every says, and that is 0"),
        ({"best": {}, "save_every": 0}, "compares checkpoints, and save_every 0 writes none"),
    ],
)
def test_what_would_never_be_compared_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        combine(RunSettings(), changes, [])


def test_arms_without_checkpoints_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="star --data multi has no checkpoints to choose from"):
        star(combine(RunSettings(), {"best": {}}, []), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scores_ablation_whose_last_stage_has_none_refuses_it_before_its_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="score --stage2 star has no checkpoints to choose from"):
        score_stage2_star(combine(RunSettings(), {"best": {}}, []), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_comparison_asks_only_the_arms_that_have_checkpoints_for_their_best() -> None:
    asked = combine(RunSettings(), {"best": {"patience": 3}}, [])
    names = ["base", "star", "pair-sft", "score", "score-stage2-star"]
    comparison, costs = Comparison(arm_specs(names), asked, [0]), Costs(20.0, 20.0)
    kept = {spec.name: comparison.settings_of(spec, costs).best for spec in comparison.arm_specs}
    assert kept.pop("score") == asked.best and set(kept.values()) == {None}
    assert comparison.without_best == ["star", "pair-sft", "score-stage2-star"]
    assert replace(comparison, settings=RunSettings()).without_best == []


def test_of_scores_many_parts_the_last_alone_ends_with_its_best() -> None:
    settings = combine(RunSettings(), {"graph": {"revisions": 2}, "best": {"patience": 1}}, [])
    assert [part_settings(settings, number, []).best for number in range(3)] == [None, None, settings.best]


# Whole runs.


def settings_for(folder: Path, **best: Any) -> RunSettings:
    changes = {
        "policy": {"model": str(folder), "max_new_tokens": 5},
        "score": {"stage_one_steps": 0, "stage_two_steps": 5},
        "optimiser": {"problems_per_step": 4, "episodes_per_problem": 2, "learning_rate": 1e-2},
        "evaluation": {"problems": 4, "every": 1},
        "save_every": 1,
        "keep_checkpoints": 1,
        "best": best,
    }
    return combine(RunSettings(), changes, [])


def peaking(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """The held-out accuracy of step n is `values[n - 1]`, whatever the policy does."""
    left = iter(values)
    monkeypatch.setattr(held_out.HeldOut, "validate", lambda self, graph: {"accuracy_t2": next(left)})


class Keeps(SilentProgress):
    """Copies the weights of a step, which the next step will overwrite or rotation remove; may stop a run."""

    def __init__(self, run: Path, kept: Path, *, at: int, dies_at: int | None = None) -> None:
        self.run, self.kept, self.at, self.dies_at = run, kept, at, dies_at
        self.said: list[str] = []

    def step(self, metrics: Any) -> None:
        if metrics["step"] == self.at + 1:
            shutil.copytree(self.run / "checkpoints" / f"checkpoint-{self.at}", self.kept)
        if metrics["step"] == self.dies_at:
            raise RuntimeError("the power went")

    def message(self, text: str) -> None:
        self.said.append(text)


def same_weights(one: Path, other: Path) -> bool:
    left, right = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
def test_a_run_whose_held_out_figure_peaks_early_gives_back_those_very_weights(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaking(monkeypatch, [0.1, 0.6, 0.3, 0.2, 0.5])
    out, kept = tmp_path / "run", Keeps(tmp_path / "run", tmp_path / "kept", at=2)
    train_score(settings_for(tiny_model_folder, metric="eval_accuracy_t2"), out=out, progress=kept, task=Easy(3))
    assert same_weights(out / "model", tmp_path / "kept")
    left = sorted(path.name for path in (out / "checkpoints").glob("checkpoint-*"))
    assert left == ["checkpoint-2", "checkpoint-5"] and not same_weights(out / "model", out / "checkpoints" / left[1])
    assert any("the result is the checkpoint of step 2" in text for text in kept.said)


@pytest.mark.slow
def test_the_best_of_score_is_of_its_second_stage(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaking(monkeypatch, [0.9, 0.8, 0.1, 0.6, 0.3])
    out, kept = tmp_path / "run", Keeps(tmp_path / "run", tmp_path / "kept", at=4)
    settings = settings_for(tiny_model_folder, metric="eval_accuracy_t2")
    stages = settings.score.model_copy(update={"stage_one_steps": 2, "stage_two_steps": 3})
    train_score(settings.model_copy(update={"score": stages}), out=out, progress=kept, task=Easy(3))
    assert same_weights(out / "model", tmp_path / "kept")


@pytest.mark.slow
def test_the_last_weights_are_the_result_where_the_best_is_only_kept(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaking(monkeypatch, [0.1, 0.6, 0.3, 0.2, 0.5])
    train_score(
        settings_for(tiny_model_folder, metric="eval_accuracy_t2", final=False), out=tmp_path / "run", task=Easy(3)
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    assert (checkpoints / "checkpoint-2").is_dir()
    assert same_weights(tmp_path / "run" / "model", checkpoints / "checkpoint-5")


@pytest.mark.slow
def test_a_resumed_run_stops_early_where_the_whole_one_does_with_the_same_weights(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, settings = [0.6, 0.1, 0.3, 0.9, 0.9], settings_for(tiny_model_folder, metric="eval_accuracy_t2", patience=2)
    peaking(monkeypatch, values)
    train_score(settings, out=tmp_path / "whole", task=Easy(3))
    peaking(monkeypatch, values)
    parts = tmp_path / "parts"
    with pytest.raises(RuntimeError, match="power"):
        train_score(settings, out=parts, progress=Keeps(parts, tmp_path / "kept", at=1, dies_at=3), task=Easy(3))
    peaking(monkeypatch, values[2:])
    train_score(settings, out=parts, resume=True, task=Easy(3))
    steps = [json.loads(line)["step"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert same_weights(parts / "model", tmp_path / "kept")
    assert same_weights(parts / "model", tmp_path / "whole" / "model")


@pytest.mark.slow
def test_a_run_that_was_stopped_after_its_early_end_learns_no_more(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = settings_for(tiny_model_folder, metric="eval_accuracy_t2", patience=1), tmp_path / "run"
    peaking(monkeypatch, [0.6, 0.1])
    train_score(settings, out=out, task=Easy(3))
    shutil.copytree(out / "model", tmp_path / "model")
    (out / "metrics.json").unlink()
    train_score(settings, out=out, resume=True, task=Easy(3))
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert same_weights(out / "model", tmp_path / "model")


def own_run(folder: Path, out: Path, *, lora: bool = False, resume: bool = False, **best: Any) -> Trained:
    from peft import LoraConfig

    policy = policy_from(folder)
    settings = {"steps": 4, "save_every": 1, "keep_checkpoints": 4, "episodes_per_problem": 2, "evaluate_every": 1}
    return train(
        graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question, resume=resume,
        config=config(out, **settings, best=best or None), held_out=problems(3),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM") if lora else None,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_ones_own_graph_ends_with_the_checkpoint_that_was_paid_most(
    lora: bool, tiny_model_folder: Path, tmp_path: Path
) -> None:
    trained = own_run(tiny_model_folder, tmp_path / "run", lora=lora, metric="episode_reward")
    rewards = [step["episode_reward"] for step in trained.steps[1:]]
    best = rewards.index(max(rewards)) + 1
    checkpoint = tmp_path / "run" / "checkpoints" / f"checkpoint-{best}"
    if not lora:
        assert same_weights(trained.model_path, checkpoint)
        return
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), checkpoint)
    merged, saved = adapted.merge_and_unload().state_dict(), load_file(trained.model_path / "model.safetensors")
    assert all(torch.equal(merged[name], saved[name]) for name in saved)


@pytest.mark.slow
def test_ones_own_graph_is_evaluated_while_it_trains(tiny_model_folder: Path, tmp_path: Path) -> None:
    trained = own_run(tiny_model_folder, tmp_path / "run", metric="eval_episode_reward", patience=4)
    assert all(0 <= step["eval_reward/write_1"] <= 1 for step in trained.steps)
    figures = [step["eval_episode_reward"] for step in trained.steps]
    assert trained.after["episode_reward"] == max(figures), "the result is the policy that did best"


def test_a_best_checkpoint_that_is_gone_is_told(tmp_path: Path) -> None:
    run = Run(config_of({"metric": "eval_x"}, evaluate_every=1, output_dir=tmp_path)).step(1, eval_x=0.5)
    with pytest.raises(TrainingError, match="checkpoint-1, is gone; the weights of the last step"):
        run.best.give_back(None)
