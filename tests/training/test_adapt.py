"""Learning from votes: rewards, the guard, and going back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import WORDS, llama, word_tokenizer
from toy_policy import call

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.adapt import AdaptSettings, adapt, revert
from selfcorrect.training.agreement import (
    AgreementGuard,
    AgreementSignals,
    BatchOfVotes,
    GuardSettings,
    Vote,
    summary_of,
    vote,
)
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import LoraSettings, OptimiserSettings

pytestmark = pytest.mark.slow


def problems(count: int) -> list[Problem]:
    return [
        Problem(id=f"p{n}", prompt=f"{n} 2 get {n + 2} :", reference=None, checker="none") for n in range(1, count + 1)
    ]


def test_answers_that_agree_with_the_most_frequent_one_are_paid() -> None:
    assert vote(["a", "b", "a", None], 0.5) == (Vote("a", 0.5, True), [1.0, 0.0, 1.0, 0.0])


def test_a_vote_that_is_not_clear_pays_nobody() -> None:
    assert vote(["a", "b", "c", None], 0.5) == (Vote("a", 0.25, False), [None] * 4)
    assert vote([None, None], 0.1) == (Vote(None, 0.0, False), [None, None])


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=12), st.floats(0.05, 1))
def test_paid_answers_are_those_of_the_winner_or_nobody_is_paid(keys: list[str | None], least: float) -> None:
    result, rewards = vote(keys, least)
    assert result.paid == (result.agreement >= least and result.winner is not None)
    assert rewards == ([1.0 if key == result.winner else 0.0 for key in keys] if result.paid else [None] * len(keys))


def test_rewards_wait_for_all_answers_to_a_problem_and_not_for_other_problems() -> None:
    signals = AgreementSignals(3, 0.5, kl=0.1, key=lambda problem: lambda text: text)
    first, second = problems(2)

    async def answer(problem: Problem, text: str) -> float | None:
        one = call([1], [2], torch.tensor([-1.0]))
        one.generation["text"] = text
        turn_signals, scores = await signals(problem, {}, [one])
        assert scores == [] and turn_signals[0].kl_coefficient == 0.1
        return turn_signals[0].reward

    async def play() -> list[float | None]:
        asked = [(first, "a"), (second, "x"), (first, "b"), (second, "y"), (first, "a"), (second, "z")]
        return list(await asyncio.wait_for(asyncio.gather(*(answer(*one) for one in asked)), 5))

    assert asyncio.run(play()) == [1.0, None, 0.0, None, 1.0, None]
    assert summary_of(signals.take()) == BatchOfVotes(agreement=0.5, problems=2, held_back=1, same_answer=0.5)
    assert signals.take() == []


def test_programs_are_paid_for_doing_what_most_of_them_do() -> None:
    signals = AgreementSignals(3, 0.5, kl=0.0)
    problem = Problem(id="p", prompt="def f(x):\n    'f(2) => 4'", reference=None, checker="code")

    async def answer(text: str) -> float | None:
        one = call([1], [2], torch.tensor([-1.0]))
        one.generation["text"] = text
        return (await signals(problem, {}, [one]))[0][0].reward

    async def play() -> list[float | None]:
        programs = ["def f(x): return x + x", "def f(x): return 5", "def f(x): return x * x"]
        return list(await asyncio.gather(*map(answer, programs)))

    assert asyncio.run(play()) == [1.0, 0.0, 1.0]


def test_a_problem_whose_first_vote_was_not_clear_is_never_paid() -> None:
    signals = AgreementSignals(2, 0.75, kl=0.0, key=lambda problem: lambda text: text)
    (problem,) = problems(1)

    async def batch(*texts: str) -> list[float | None]:
        async def answer(text: str) -> float | None:
            one = call([1], [2], torch.tensor([-1.0]))
            one.generation["text"] = text
            return (await signals(problem, {}, [one]))[0][0].reward

        return list(await asyncio.gather(*map(answer, texts)))

    assert asyncio.run(batch("a", "b")) == [None, None]
    assert asyncio.run(batch("a", "a")) == [None, None]
    assert summary_of(signals.take()).held_back == 2


def guard(agreements: list[float], same: float = 0.25, **changes: Any) -> AgreementGuard:
    made = AgreementGuard(
        AgreementSignals(2, 0.5, 0.0, lambda problem: str), GuardSettings(window=2, **changes), SilentProgress()
    )
    made.batches = [BatchOfVotes(agreement, 4, 0, same) for agreement in agreements]
    return made


def test_the_guard_stops_when_agreement_falls_or_all_problems_get_one_answer() -> None:
    assert guard([0.5, 0.5, 0.45, 0.45]).reason() is None
    assert guard([0.5, 0.5, 0.45, 0.3]).reason() == "agreement fell"
    assert guard([0.5], same=0.5).reason() == "answers collapsed"
    assert guard([]).reason() is None


@pytest.fixture
def policy() -> TransformersPolicy:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    return TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=2, template="plain")


SMALL = AdaptSettings(
    steps=3,
    min_agreement=0.25,
    kl=0.0,
    lora=LoraSettings(rank=2),
    optimiser=OptimiserSettings(problems_per_step=2, episodes_per_problem=4, learning_rate=0.02),
)


def test_adapting_trains_an_adapter_that_loads_and_comes_off_again(policy: TransformersPolicy, tmp_path: Path) -> None:
    before = [parameter.clone() for parameter in policy.model.parameters()]
    adapted = adapt(policy, problems(2), prompts=COUNTDOWN, out=tmp_path, settings=SMALL)
    assert adapted.stop_reason == "steps" and adapted.kept_steps == 3 and len(adapted.batches) == 3
    trained = {name: value for name, value in policy.model.named_parameters() if "lora_B" in name}
    assert any(bool(value.abs().sum() > 0) for value in trained.values())
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists() and (tmp_path / "adapt.json").exists()
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    revert(policy)
    after = list(policy.model.parameters())
    assert len(after) == len(before) and all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_votes_that_are_never_clear_change_nothing(policy: TransformersPolicy, tmp_path: Path) -> None:
    nobody = combine(SMALL, {"min_agreement": 1.0, "optimiser": {"episodes_per_problem": 8, "temperature": 5.0}}, [])
    adapted = adapt(policy, problems(2), prompts=COUNTDOWN, out=tmp_path, settings=nobody)
    assert adapted.held_back == 1.0
    assert all(bool((value == 0).all()) for name, value in policy.model.named_parameters() if "lora_B" in name)


def test_a_fall_of_agreement_brings_the_best_adapter_back(policy: TransformersPolicy, tmp_path: Path) -> None:
    guard = {"fall": 1e-9, "window": 1, "collapse": 1.0}
    always = combine(SMALL, {"steps": 8, "guard": guard, "optimiser": {"learning_rate": 0.5}}, [])
    adapted = adapt(policy, problems(3), prompts=COUNTDOWN, out=tmp_path, settings=always)
    agreements = [batch.agreement for batch in adapted.batches]
    if adapted.stop_reason == "agreement fell":
        assert agreements[adapted.kept_steps] == max(agreements)
    else:
        assert agreements[-1] >= agreements[0]


def test_what_cannot_be_adapted_is_refused(policy: TransformersPolicy, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no problems"):
        adapt(policy, [], prompts=COUNTDOWN, out=tmp_path)
    with pytest.raises(TaskError, match="one id"):
        adapt(policy, problems(1) * 2, prompts=COUNTDOWN, out=tmp_path)
    with pytest.raises(ConfigurationError, match="holds no model"):
        adapt(ScriptedPolicy(["a"]), problems(1), prompts=COUNTDOWN, out=tmp_path)
    alone = OptimiserSettings(episodes_per_problem=1, baseline="none")
    for bad in ({"optimiser": alone}, {"min_agreement": 0.0}, {"steps": 0}, {"samples": 4}):
        with pytest.raises(ConfigurationError, match="AdaptSettings: a setting is wrong"):
            AdaptSettings(**bad)  # type: ignore[arg-type]
