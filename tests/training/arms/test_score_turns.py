"""SCoRe for more than two turns: which answer is taught when, anchored to what, at what cost."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms import score_turns as module
from selfcorrect.training.arms.budgets import Costs, refuse_unequal
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.arms.score_turns import score_turns
from selfcorrect.training.arms.specs import stage_one_lengths
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import (
    DEMO,
    EvaluationSettings,
    GraphSettings,
    LoraSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)


def settings_for(folder: Path, **changes: Any) -> RunSettings:
    return RunSettings(
        **(
            {
                "policy": PolicySettings(model=str(folder), max_new_tokens=5),
                "graph": GraphSettings(revisions=2),
                "score": ScoreSettings(stage_one_steps=3, stage_two_steps=1),
                "optimiser": OptimiserSettings(
                    problems_per_step=4, episodes_per_problem=2, learning_rate=1e-2, entropy=0.1
                ),
                "evaluation": EvaluationSettings(problems=6),
            }
            | changes
        )
    )


def changed(**changes: Any) -> RunSettings:
    return DEMO.model_copy(update=changes)


def test_stage_one_is_divided_evenly() -> None:
    three = changed(graph=GraphSettings(revisions=3), score=ScoreSettings(stage_one_steps=11, stage_two_steps=1))
    assert stage_one_lengths(three) == [4, 4, 3]


def test_its_steps_cost_what_the_answers_do_that_they_play() -> None:
    """60 steps of two answers, 60 of three, 40 of three: 18 + 24 x (60 + 120 + 80) / 160 = 57 tokens an episode."""
    longer = changed(graph=GraphSettings(revisions=2), score=ScoreSettings(stage_one_steps=120, stage_two_steps=40))
    costs = Costs(attempt=18.0, revise=24.0)
    score, turns = arm_specs(["score", "score-turns"])
    assert turns.planned is not None and score.planned is not None
    assert turns.planned(longer, costs).generated_tokens == 160 * 256 * 57
    fitted = turns.fitted(longer, costs)
    assert fitted.optimiser.problems_per_step == round(32 * 66 / 57)
    refuse_unequal({"score": score.planned(longer, costs), "score-turns": turns.planned(fitted, costs)})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (DEMO, "at least 2, got 1"),
        (changed(graph=GraphSettings(build="my.loops:make")), "loop of your own"),
        (
            changed(graph=GraphSettings(revisions=3), score=ScoreSettings(stage_one_steps=2, stage_two_steps=5)),
            "at least 3 score.stage_one_steps",
        ),
        (changed(graph=GraphSettings(revisions=2), policy=PolicySettings(model="(given)")), "name its folder"),
    ],
)
def test_settings_that_are_none_of_its_are_refused(settings: RunSettings, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=words):
        score_turns(settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Anchors:
    """Remembers the weights that each trainer begins with and those of its reference."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[dict[str, torch.Tensor]] = []
        self.held: list[dict[str, torch.Tensor]] = []
        make = TurnPPOTrainer.__init__

        def watched(trainer: TurnPPOTrainer, *args: Any, **options: Any) -> None:
            make(trainer, *args, **options)
            self.begun.append(weights(trainer.model))
            self.held.append(weights(trainer.model if trainer.ref_model is None else trainer.ref_model))

        monkeypatch.setattr(TurnPPOTrainer, "__init__", watched)


def weights(model: Any) -> dict[str, torch.Tensor]:
    """By the names that a plain model has them under; adapters left out."""
    state = {name.removeprefix("base_model.model.").replace(".base_layer", ""): t for name, t in
             model.state_dict().items() if "lora_" not in name}  # fmt: skip
    return {name: tensor.clone() for name, tensor in state.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    shared = sorted(set(one) & set(other))
    assert len(shared) > 5
    return all(torch.equal(one[name], other[name]) for name in shared)


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


Finished = tuple[Path, RunResult, Anchors]


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Finished]:
    """A run that nothing stopped, with all weights or with adapters: its folder, its result and its anchors."""

    @cache
    def trained(lora: LoraSettings | None) -> Finished:
        out = tmp_path_factory.mktemp("whole") / "run"
        policy = PolicySettings(model=str(tiny_model_folder), max_new_tokens=5, lora=lora)
        with pytest.MonkeyPatch.context() as patched:
            anchors = Anchors(patched)
            return out, score_turns(settings_for(tiny_model_folder, policy=policy), out=out), anchors

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["all weights", "adapters"])
def test_every_part_goes_on_from_the_last_and_is_anchored_as_the_paper_says(
    lora: LoraSettings | None, tiny_model_folder: Path, finished: Callable[..., Finished]
) -> None:
    """Stage I(a): the base to the base. I(b): what I(a) left, to itself. Stage II: what I(b) left, to the base."""
    out, result, anchors = finished(lora)
    base = load_file(tiny_model_folder / "model.safetensors")
    first, second = (load_file(out / part / "model" / "model.safetensors") for part in ("stage1a", "stage1b"))
    assert not same(base, first) and not same(first, second)
    assert [same(one, other) for one, other in zip(anchors.begun, (base, first, second), strict=True)] == [True] * 3
    assert [same(one, other) for one, other in zip(anchors.held, (base, first, base), strict=True)] == [True] * 3
    assert isinstance(result, RunResult) and len(result.after["accuracy"]) == 3


@pytest.mark.slow
def test_each_part_plays_and_pays_its_own_answers(finished: Callable[..., Finished]) -> None:
    out, _, _ = finished(None)
    steps = steps_of(out)
    paid = [sorted(name for name in step if name.startswith("reward/")) for step in steps]
    answers = ["reward/answer_1", "reward/answer_2", "reward/answer_3"]
    assert paid == [answers[1:2], answers[1:2], answers[2:], answers]
    assert [step["stage"] for step in steps] == [1, 1, 2, 3] and [step["step"] for step in steps] == [1, 2, 3, 4]
    assert ["accuracy_t3" in step for step in steps] == [False, False, True, True]
    seeds = [RunDirectory.saved_settings(out / part).seed for part in ("stage1a", "stage1b", "stage2")]
    assert len(set(seeds)) == 3
    final = RunDirectory(out).read_final()
    assert final is not None and final["budget"]["generated_tokens"] == sum(step["tokens"] for step in steps)
    assert same(load_file(out / "model" / "model.safetensors"), load_file(out / "stage2" / "model/model.safetensors"))


class Stopped(SilentProgress):
    """Ctrl-C before the second part."""

    parts = 0

    def start(self, total_steps: int, stage: str) -> None:
        self.parts += 1
        if self.parts == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_part_that_is_finished_is_not_trained_again(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Callable[..., Finished]
) -> None:
    settings, out = settings_for(tiny_model_folder), tmp_path / "run"
    whole, _, _ = finished(None)
    with pytest.raises(KeyboardInterrupt):
        score_turns(settings, out=out, progress=Stopped())
    begun: list[Path] = []
    train = module.train_plan

    def told(*args: Any, **options: Any) -> RunResult:
        begun.append(options["out"])
        return train(*args, **options)

    monkeypatch.setattr(module, "train_plan", told)
    score_turns(settings, out=out, resume=True)
    assert [part.name for part in begun] == ["stage1b", "stage2"]
    assert same(load_file(out / "model" / "model.safetensors"), load_file(whole / "model" / "model.safetensors"))
