"""Token-exactness: what is recorded is what the model would say again, to every digit that float32 has.

Semantics (changing one of these tests is a decision):
1. The ids of a later prompt begin with the earlier prompt's ids and the sampled ids.
2. The text of a later prompt holds the earlier completion verbatim, thoughts included.
3. The recorded log-probabilities are those of a plain forward pass over the ids alone: no padding, no batch, no cache.
4. What is drawn depends on (policy, prompt, seed) alone: not on the batch, nor on whether caches are taken up again.
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import CHAT_TEMPLATE, CHAT_WORDS, MODELS, WORDS, problems, word_tokenizer

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState, Generation, Message

TOLERANCE = 1e-4
NUMBERS = st.lists(st.integers(0, 29).map(str), min_size=1, max_size=7)
PROMPTS = st.lists(NUMBERS.map(" ".join), min_size=1, max_size=8)


def plain_policy(kind: str, **options: Any) -> TransformersPolicy:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    return TransformersPolicy(MODELS[kind](len(tokenizer)), tokenizer, max_new_tokens=12, **options)


def chat_policy(kind: str, **options: Any) -> TransformersPolicy:
    tokenizer = word_tokenizer(CHAT_WORDS, eos="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return TransformersPolicy(MODELS[kind](len(tokenizer)), tokenizer, max_new_tokens=12, **options)


POLICIES = {
    f"{kind}, {form}, {'caches kept' if reuse else 'caches dropped'}": make(kind, reuse_cache=reuse, max_batch=5)
    for kind in MODELS
    for form, make in (("plain", plain_policy), ("chat", chat_policy))
    for reuse in (True, False)
}


def play(policy: TransformersPolicy, prompts: Sequence[str], sampling: Sampling, seed: int = 0) -> list[EpisodeState]:
    return play_sync(
        build_graph(policy, prompts=COUNTDOWN, revisions=2), problems(prompts), sampling=sampling, seed=seed
    )


def scored_again(policy: TransformersPolicy, generation: Generation, temperature: float) -> list[float]:
    """The log-probabilities of a completion by one forward pass over one sequence."""
    ids = torch.tensor([generation["prompt_ids"] + generation["completion_ids"]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, len(generation["prompt_ids"]) - 1 : -1]
    logprobs = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
    return [float(row[token]) for row, token in zip(logprobs, generation["completion_ids"], strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
@given(
    prompts=PROMPTS,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.5]),
    top_p=st.sampled_from([1.0, 0.8]),
    seed=st.integers(0, 99),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.differing_executors])
def test_recorded_episodes_score_again_as_recorded(
    name: str, prompts: list[str], temperature: float, top_p: float, seed: int
) -> None:
    policy = POLICIES[name]
    for state in play(policy, prompts, Sampling(temperature=temperature, top_p=top_p), seed):
        generations = [turn["generation"] for turn in state["turns"]]
        for generation in generations:
            assert generation["logprobs"] == pytest.approx(scored_again(policy, generation, temperature), abs=TOLERANCE)
        for before, after in pairwise(generations):
            known = before["prompt_ids"] + before["completion_ids"]
            assert after["prompt_ids"][: len(known)] == known
            assert before["text"] in policy.tokenizer.decode(after["prompt_ids"])


@pytest.mark.parametrize(("kind", "kept"), [("llama", True), ("gpt2", True), ("sliding", False)])
def test_caches_are_really_taken_up_again(kind: str, kept: bool) -> None:
    """Otherwise the property above would compare a path with itself."""
    policy, widths = plain_policy(kind), []
    policy.model.register_forward_pre_hook(
        lambda module, args, arguments: widths.append(arguments["input_ids"].shape[1]), with_kwargs=True
    )
    play(policy, ["3 5 7 get 8 :"] * 3, Sampling())
    longest_later_prompt = max(widths[1:])
    assert (longest_later_prompt <= 4) is kept  # the last token, an end token if there was none, "again", ":"


def one_by_one(policy: TransformersPolicy, calls: Sequence[tuple[str, Sampling]]) -> list[Generation]:
    return [asyncio.run(policy.generate([Message(role="user", content=text)], sampling)) for text, sampling in calls]


def together(policy: TransformersPolicy, calls: Sequence[tuple[str, Sampling]]) -> list[Generation]:
    async def crowd() -> list[Generation]:
        return await asyncio.gather(
            *(policy.generate([Message(role="user", content=text)], sampling) for text, sampling in calls)
        )

    return asyncio.run(crowd())


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    top_p=st.sampled_from([0.9, 1.0]),
    max_new_tokens=st.integers(1, 15),
    seed=st.integers(0, 1000),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@given(calls=st.lists(st.tuples(NUMBERS.map(" ".join), SAMPLINGS), min_size=1, max_size=9))
@settings(max_examples=15, suppress_health_check=[HealthCheck.differing_executors])
def test_the_same_seed_gives_the_same_text_in_any_batch(kind: str, calls: list[tuple[str, Sampling]]) -> None:
    policy = POLICIES[f"{kind}, plain, caches kept"]
    alone, crowded = one_by_one(policy, calls), together(policy, calls)
    assert [generation["completion_ids"] for generation in alone] == [
        generation["completion_ids"] for generation in crowded
    ]


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_caches_change_nothing(form: str) -> None:
    kept, dropped = (
        play(POLICIES[f"llama, {form}, {caches}"], ["3 5 7", "1", "3 5 7", "2 2 2 2 2"] * 3, Sampling(), seed=5)
        for caches in ("caches kept", "caches dropped")
    )
    for one, other in zip(kept, dropped, strict=True):
        for turn, same in zip(one["turns"], other["turns"], strict=True):
            assert turn["generation"]["completion_ids"] == same["generation"]["completion_ids"]


def test_greedy_takes_the_likeliest_token_every_time() -> None:
    policy = POLICIES["llama, plain, caches kept"]
    for state in play(policy, ["3 5 7", "1"], GREEDY):
        for turn in state["turns"]:
            generation = turn["generation"]
            ids = torch.tensor([generation["prompt_ids"] + generation["completion_ids"]])
            best = policy.model(input_ids=ids).logits[0, len(generation["prompt_ids"]) - 1 : -1].argmax(-1)
            assert best.tolist() == generation["completion_ids"]
