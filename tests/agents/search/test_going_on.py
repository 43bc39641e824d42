"""Going on with unfinished answers, and samples that share their prompt's cache."""

import asyncio
from typing import Any

import pytest
from small_models import MODELS
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import ContinuingPolicy, Sampling
from selfcorrect.agents.search.cached import CachedPolicy, CachedVerifier
from selfcorrect.agents.state import Generation, Message, tokens_of
from selfcorrect.rewards.checker import ScriptedVerifier

ASK = [Message(role="user", content="3 5 7 get 14 :")]


def policy_of(kind: str, tokenizer: PreTrainedTokenizerFast, **options: Any) -> TransformersPolicy:
    return TransformersPolicy(MODELS[kind](len(tokenizer)), tokenizer, max_new_tokens=12, **options)


async def stepwise(policy: ContinuingPolicy, seed: int, limit: int) -> Generation:
    """An answer written two tokens at a time."""
    answer = await policy.generate(ASK, Sampling(temperature=0, max_new_tokens=2, seed=seed))
    while answer["finish_reason"] == "length" and len(answer["completion_ids"]) < limit:
        answer = await policy.extend(answer, Sampling(temperature=0, max_new_tokens=2, seed=seed))
    return answer


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_written_in_pieces_is_the_answer_written_at_once(
    kind: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = policy_of(kind, tokenizer)
    whole = asyncio.run(policy.generate(ASK, Sampling(temperature=0, max_new_tokens=8)))
    pieces = asyncio.run(stepwise(policy, 0, 8))
    assert pieces["completion_ids"] == whole["completion_ids"] and pieces["text"] == whole["text"]
    assert pieces["prompt_ids"] == whole["prompt_ids"] and pieces["messages"] == whole["messages"]
    assert pieces["logprobs"] == pytest.approx(whole["logprobs"], abs=1e-4)


def test_a_stop_text_ends_a_step_and_stays_inside_what_follows(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = policy_of("llama", tokenizer)
    whole = asyncio.run(policy.generate(ASK, Sampling(temperature=0, max_new_tokens=8)))
    words = whole["text"].split()
    stop = next(word for word in words[1:-2] if word not in words[:1])
    step = asyncio.run(policy.generate(ASK, Sampling(temperature=0, max_new_tokens=8, stop=(f" {stop}",))))
    assert step["stop_text"] == f" {stop}" and step["text"] == whole["text"][: whole["text"].index(f" {stop}")]
    longer = asyncio.run(policy.extend(step, Sampling(temperature=0, max_new_tokens=2)))
    assert whole["text"].startswith(longer["text"]) and stop in longer["text"].split()
    assert "stop_text" not in longer


def test_extensions_continue_the_remembered_cache(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of("llama", tokenizer)
    read: list[int] = []
    from selfcorrect.agents.decoding import prefill as reading

    original = reading.Reader.read
    monkeypatch.setattr(
        reading.Reader, "read", lambda self, ids, *rest: (read.append(ids.shape[1]), original(self, ids, *rest))[1]
    )
    asyncio.run(stepwise(policy, 0, 6))
    assert read == [len(ASK[0]["content"].split()), 1, 1, 1, 1, 1]  # the prompt once, then one token at a time


@pytest.mark.parametrize("kind", MODELS)
def test_parallel_samples_read_their_prompt_once_and_have_the_log_probabilities_of_samples_alone(
    kind: str, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(kind, tokenizer, reuse_cache=False)
    alone = [asyncio.run(policy.generate(ASK, Sampling(seed=seed))) for seed in range(5)]
    prefilled: list[int] = []
    from selfcorrect.agents.decoding import prefill as reading

    original = reading.Reader.read
    monkeypatch.setattr(
        reading.Reader, "read", lambda self, ids, *rest: (prefilled.append(ids.shape[0]), original(self, ids, *rest))[1]
    )

    async def together() -> list[Generation]:
        return list(await asyncio.gather(*(policy.generate(ASK, Sampling(seed=seed)) for seed in range(5))))

    shared = asyncio.run(together())
    assert prefilled[0] == 1  # one row for five samples
    for one, other in zip(alone, shared, strict=True):
        assert one["completion_ids"] == other["completion_ids"]
        assert one["logprobs"] == pytest.approx(other["logprobs"], abs=1e-4)


def test_equal_calls_are_made_once(tokenizer: PreTrainedTokenizerFast) -> None:
    cached = CachedPolicy(policy_of("llama", tokenizer))

    async def calls() -> None:
        first = await cached.generate(ASK, Sampling(seed=1, max_new_tokens=12))
        assert await cached.generate(ASK, Sampling(seed=1, max_new_tokens=12)) == first
        await cached.generate(ASK, Sampling(seed=2, max_new_tokens=12))
        await cached.generate(ASK, Sampling(max_new_tokens=12))
        await cached.generate(ASK, Sampling(max_new_tokens=12))

    asyncio.run(calls())
    assert cached.calls == 4  # a call without a seed is drawn afresh


def test_a_remembered_answer_is_not_given_where_there_is_less_room() -> None:
    from step_policy import ListPolicy

    cached = CachedPolicy(ListPolicy(["one two three"]))
    long = asyncio.run(cached.generate(ASK, Sampling(seed=1)))
    assert long["finish_reason"] == "stop"
    cut = asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=2)))
    assert cut["finish_reason"] == "length"
    assert asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=9)))["finish_reason"] == "stop"


def test_a_chat_model_s_answer_is_cut_where_there_is_less_room_and_not_paid_for_again() -> None:
    from step_policy import ListPolicy

    cached = CachedPolicy(ListPolicy(["one two three four"]))
    long = asyncio.run(cached.generate(ASK, Sampling(seed=1)))
    cut = asyncio.run(cached.generate(ASK, Sampling(seed=1, max_new_tokens=2)))
    assert cut == {**long, "text": "one two t", "finish_reason": "length", "usage": cut["usage"]}
    assert tokens_of(cut) == 2 and cached.calls == 1
    cut = asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=3)))
    assert cut["text"] == "one two three" and cached.calls == 2
    assert asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=1)))["text"] == "one "
    assert asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=3))) == cut and cached.calls == 2
    assert asyncio.run(cached.generate(ASK, Sampling(seed=2, max_new_tokens=4)))["text"] == long["text"]


def test_equal_answers_are_scored_once() -> None:
    asked: list[str] = []
    cached = CachedVerifier(ScriptedVerifier(lambda prompt, text: asked.append(text) or 0.5))
    assert asyncio.run(cached.scores("?", ["a", "b", "a"])) == [0.5] * 3
    assert asyncio.run(cached.scores("?", ["b"])) == [0.5] and asked == ["a", "b"]
