"""Problems that are too long for the model's context: training leaves them out, counts and names them."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_models import llama, word_tokenizer

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import TaskError
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.registry import GivenTask
from selfcorrect.training.arms.star import harvest_with
from selfcorrect.training.arms.supervised.sampling import gather
from selfcorrect.training.runs.fitting import shown_problems
from selfcorrect.training.runs.held_out import left_out_text
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.vstar.rounds import draw_problems


def long_and_short(count: int = 3) -> list[Problem]:
    short = [Problem(id=f"p{n}", prompt=f"{n} get {n} :", reference=str(n), checker="math") for n in range(count)]
    long = Problem(id="long", prompt="1 " * 60, reference="1", checker="math")
    return [*short[:1], long, *short[1:]]


@pytest.fixture
def small() -> TransformersPolicy:
    tokenizer = word_tokenizer([*map(str, range(10)), "get", ":", "again", "check", "hint", "right", "wrong", "="])
    return TransformersPolicy(llama(len(tokenizer), positions=48), tokenizer, max_new_tokens=4, template="plain")


class Hears(SilentProgress):
    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


def test_reinforced_runs_leave_it_out_and_tells_when_nothing_is_left(small: TransformersPolicy) -> None:
    hears = Hears()
    kept = shown_problems(long_and_short(), small, COUNTDOWN, hears)
    assert [problem.id for problem in kept] == ["p0", "p1", "p2"] and hears.told == [left_out_text(["long"])]
    with pytest.raises(TaskError, match="no problem fits into the model's context of 48 tokens"):
        shown_problems([long_and_short()[1]], small, COUNTDOWN, hears)


def settings_of(small: TransformersPolicy, folder: Path, **groups: Any) -> RunSettings:
    small.model.save_pretrained(folder)
    small.tokenizer.save_pretrained(folder)
    policy = {"model": str(folder), "max_new_tokens": 4, "template": "plain", "lora": None, "device": "cpu"}
    return combine(RunSettings(), {"policy": policy, "evaluation": {"problems": 4}} | groups, [])


class LongAndShort:
    """Three problems that a small policy can be shown, and one that it cannot."""

    name = "long and short"
    checker = staticmethod(lambda response, reference: True)
    prompts = "short"

    def available(self, split: Any) -> int:
        return 4

    def problems(self, split: Any, count: int, *, seed: int = 0) -> list[Problem]:
        return long_and_short()[:count]


@pytest.mark.slow
def test_sampling_for_star_leaves_it_out_counted_and_named(small: TransformersPolicy, tmp_path: Path) -> None:
    group = {"data": "multi+correct", "loops": 1, "problems": 4, "samples_per_problem": 2, "steps": 1, "batch_size": 2}
    hears, settings = Hears(), settings_of(small, tmp_path / "small", star=group)
    task = GivenTask.of(LongAndShort()).open()  # type: ignore[arg-type]
    harvest = harvest_with(settings)(small, task)
    examples, figures = gather(task, settings.star, 3, harvest, hears.message)
    assert figures["left_out/problems_too_long"] == 1 and figures["problems"] == 4 and figures["episodes"] == 6
    assert "long" not in {example.problem for example in examples} and hears.told[-1] == left_out_text(["long"])


def test_a_budget_of_tokens_that_nothing_can_spend_ends(small: TransformersPolicy, tmp_path: Path) -> None:
    class Long(LongAndShort):
        def problems(self, split: Any, count: int, *, seed: int = 0) -> list[Problem]:
            return [long_and_short()[1]] * count

    settings = settings_of(small, tmp_path / "small", star={"data": "multi", "tokens": 100, "samples_per_problem": 2})
    task = GivenTask.of(Long()).open()  # type: ignore[arg-type]
    examples, figures = gather(task, settings.star, 3, harvest_with(settings)(small, task))
    assert not examples and figures["left_out/problems_too_long"] == 1


def test_vstar_leaves_it_out_of_all_its_pools(small: TransformersPolicy, tmp_path: Path) -> None:
    """Of what is learnt, of calibration and of what the verifiers are measured on."""
    many = [Problem(id=f"k{n}", prompt=f"{n} get :", reference=str(n), checker="math") for n in range(6)]
    hears, task = Hears(), SimpleNamespace(problems=lambda *_, **__: [*long_and_short(), *many, long_and_short()[1]])
    settings = settings_of(small, tmp_path / "small", vstar={"problems": 4, "calibration_problems": 7})
    shown = partial(shown_problems, policy=small, prompts=COUNTDOWN, progress=hears)  # type: ignore[call-arg]
    learnt, kept = draw_problems(settings, task, shown)  # type: ignore[arg-type]
    assert [one.id for one in learnt] == ["p0", "p1", "p2"] and [one.id for one in kept] == [one.id for one in many]
    assert hears.told == [left_out_text(["long"])] * 2
