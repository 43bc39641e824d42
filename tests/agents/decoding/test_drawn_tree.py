"""Sampling without replacement: nothing is drawn twice, and what is left is drawn as often as it should be."""

import asyncio
import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import llama
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.decoding.sampling import Cursors, DrawnTree, draw, logprobs_of
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, RenewingPolicy, Sampling
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, GraphError

ASK = [Message(role="user", content="3 5 7 get 14 :")]
TOKENS, LENGTH = 3, 3
COMPLETIONS = list(itertools.product(range(TOKENS), repeat=LENGTH))


@pytest.fixture
def policy(tokenizer: PreTrainedTokenizerFast) -> TransformersPolicy:
    return TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=1)


def drawn_of(completions: list[tuple[int, ...]], logits: dict[tuple[int, ...], torch.Tensor], heat: float) -> DrawnTree:
    tree = DrawnTree()
    for completion in completions:
        logprobs = [
            float(torch.log_softmax(logits[completion[:place]] / heat, 0)[token])
            for place, token in enumerate(completion)
        ]
        tree.add(completion, logprobs)
    return tree


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(COMPLETIONS), min_size=1, unique=True), st.floats(0.5, 2))
def test_a_new_completion_is_as_likely_as_it_is_among_those_not_drawn(
    seed: int, drawn: list[tuple[int, ...]], heat: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    begins = [begin for length in range(LENGTH) for begin in itertools.product(range(TOKENS), repeat=length)]
    logits = {begin: torch.randn(TOKENS, generator=generator, dtype=torch.float64) for begin in begins}
    tree = drawn_of(drawn, logits, heat)

    def probability(completion: tuple[int, ...], cursors: Cursors) -> float:
        product = 1.0
        for place, token in enumerate(completion):
            if product == 0:
                break
            changed = cursors.without_drawn(logits[completion[:place]][None], [0], torch.tensor([heat]).double())
            product *= float(torch.softmax(changed[0] / heat, 0)[token])
            cursors.advance([0], [token])
        return product

    def plain(completion: tuple[int, ...]) -> float:
        return probability(completion, Cursors([None]))

    left = sum(plain(completion) for completion in COMPLETIONS if completion not in drawn)
    assert tree.left == pytest.approx(left, abs=1e-9)
    for completion in COMPLETIONS:
        if left < 1e-6:
            continue
        expected = 0.0 if completion in drawn else plain(completion) / left
        assert probability(completion, Cursors([tree])) == pytest.approx(expected, abs=1e-6)


def test_a_policy_says_everything_once_and_then_nothing(policy: TransformersPolicy) -> None:
    drawn: list[Generation] = []
    while (new := asyncio.run(policy.generate_new(ASK, Sampling(seed=len(drawn)), drawn=drawn))) is not None:
        drawn.append(new)
        assert len(drawn) <= len(policy.tokenizer)
    said = [generation["completion_ids"][0] for generation in drawn]
    assert sorted(said) == list(range(len(policy.tokenizer)))
    assert math.fsum(math.exp(generation["logprobs"][0]) for generation in drawn) == pytest.approx(1, abs=1e-5)


def test_what_is_left_is_drawn_as_often_as_it_is_likely(policy: TransformersPolicy) -> None:
    first = asyncio.run(policy.generate(ASK, Sampling(seed=1)))
    gone = math.exp(first["logprobs"][0])

    async def crowd(count: int) -> list[Generation | None]:
        calls = [policy.generate_new(ASK, Sampling(seed=seed), drawn=[first]) for seed in range(count)]
        return await asyncio.gather(*calls)

    said = [generation for generation in asyncio.run(crowd(6000)) if generation is not None]
    counts = Counter(generation["completion_ids"][0] for generation in said)
    expected = {
        generation["completion_ids"][0]: math.exp(generation["logprobs"][0]) / (1 - gone) for generation in said
    }
    assert first["completion_ids"][0] not in counts
    for token, share in expected.items():
        assert abs(counts[token] / 6000 - share) < 5 * math.sqrt(share * (1 - share) / 6000) + 1e-3


def test_rows_of_one_batch_know_their_own_past_only(policy: TransformersPolicy) -> None:
    async def both(drawn: list[Generation]) -> list[Generation | None]:
        new = policy.generate_new(ASK, Sampling(seed=5, max_new_tokens=6), drawn=drawn)
        plain = policy.generate(ASK, Sampling(seed=5, max_new_tokens=6))
        return list(await asyncio.gather(new, plain))

    alone = asyncio.run(policy.generate(ASK, Sampling(seed=5, max_new_tokens=6)))
    new, plain = asyncio.run(both([alone]))
    assert plain is not None and plain["completion_ids"] == alone["completion_ids"]
    assert new is not None and new["completion_ids"] != alone["completion_ids"]


def test_recorded_log_probabilities_are_the_models_own(policy: TransformersPolicy) -> None:
    sampling = Sampling(temperature=0.8, max_new_tokens=6, seed=3)
    first = asyncio.run(policy.generate(ASK, sampling))
    new = asyncio.run(policy.generate_new(ASK, sampling, drawn=[first]))
    assert new is not None
    ids = torch.tensor([[*new["prompt_ids"], *new["completion_ids"]]])
    with torch.no_grad():
        table = torch.log_softmax(policy.model(ids).logits[0, len(new["prompt_ids"]) - 1 : -1] / 0.8, -1)
    expected = table.gather(1, torch.tensor(new["completion_ids"])[:, None])[:, 0]
    assert new["logprobs"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_log_probabilities_of_given_tokens_are_those_of_a_draw() -> None:
    logits, heat = torch.randn(5, 7), torch.tensor([0.0, 0.5, 1.0, 2.0, 1.0])
    tokens, logprobs = draw(logits, heat, None, torch.rand(5, dtype=torch.float64))
    assert torch.allclose(logprobs_of(logits, heat, tokens), logprobs, atol=1e-6)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(top_p=0.9)])
def test_greedy_and_cut_draws_are_refused(policy: TransformersPolicy, sampling: Sampling) -> None:
    with pytest.raises(ConfigurationError, match="without replacement"):
        asyncio.run(policy.generate_new(ASK, sampling, drawn=[]))


def test_such_draws_cannot_be_trained_on(policy: TransformersPolicy) -> None:
    with recording(policy), pytest.raises(GraphError, match="cannot be trained on"):
        asyncio.run(policy.generate_new(ASK, Sampling(seed=1), drawn=[]))


def test_a_transformers_policy_is_a_renewing_one(policy: TransformersPolicy) -> None:
    assert isinstance(policy, RenewingPolicy)
