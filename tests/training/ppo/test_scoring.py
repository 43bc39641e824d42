"""Rows of similar lengths are scored together: the same figures, with little padding."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.training.ppo.scoring import (
    HALVINGS,
    completion_logprobs,
    has_absolute_positions,
    hidden_before_each_token,
    pieces,
)

VOCABULARY = 20
SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=12)


def padded(sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, int]:
    """Ids, mask and T of rows of (prompt tokens, completion tokens): prompts end and completions begin together."""
    prompt, completion = (max(size[part] for size in sizes) for part in (0, 1))
    ids = torch.zeros(len(sizes), prompt + completion, dtype=torch.long)
    mask = torch.zeros_like(ids)
    drawn = torch.Generator().manual_seed(sum(map(sum, sizes)))
    for row, (before, after) in enumerate(sizes):
        where = slice(prompt - before, prompt + after)
        ids[row, where] = torch.randint(3, VOCABULARY, (before + after,), generator=drawn)
        mask[row, where] = 1
    return ids, mask, completion


def model_of(family: str, *, heads: int = 2) -> Any:
    torch.manual_seed(0)
    if family == "gpt2":
        shape = {"n_embd": 16, "n_layer": 2, "n_head": heads, "n_positions": 64}
        config: Any = transformers.GPT2Config(vocab_size=VOCABULARY, initializer_range=0.3, **shape)
    else:
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": heads}
        config = transformers.LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.3, **shape)
    model: Any = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    return model


def by_hand(model: Any, ids: Tensor, mask: Tensor, completion: int) -> tuple[Tensor, Tensor]:
    """Every row alone and without padding: log-probabilities and entropies of its completion, 0 elsewhere."""
    found = [torch.zeros(len(ids), completion, dtype=torch.double) for _ in range(2)]
    prompt = ids.size(1) - completion
    for row, (one, kept) in enumerate(zip(ids, mask.bool(), strict=True)):
        before, after = int(kept[:prompt].sum()), int(kept[prompt:].sum())
        logprobs = torch.log_softmax(model(one[kept].unsqueeze(0)).logits[0, before - 1 : -1] / 0.7, dim=-1)
        found[0][row, :after] = logprobs.gather(1, one[prompt : prompt + after].unsqueeze(1)).squeeze(1).detach()
        found[1][row, :after] = -(logprobs.exp() * logprobs).sum(1).detach()
    return found[0], found[1]


@given(SIZES, st.one_of(st.none(), st.integers(1, 5)), st.booleans())
def test_every_row_is_in_one_piece_with_all_its_tokens(
    sizes: list[tuple[int, int]], at_once: int | None, by_length: bool
) -> None:
    ids, mask, _ = padded(sizes)
    found = list(pieces(mask, at_once=at_once, by_length=by_length))
    assert sorted(row for piece in found for row in piece.rows_R1.flatten().tolist()) == list(range(len(ids)))
    for piece in found:
        width = piece.columns_RW.size(1)
        assert mask[piece.at].sum(1).tolist() == mask[piece.rows_R1.flatten()].sum(1).tolist(), "no token is cut off"
        assert 0 <= int(piece.columns_RW.min()) and int(piece.columns_RW.max()) < ids.size(1)
        assert len(piece.rows_R1) <= (at_once or len(ids))
        assert width == ids.size(1) or by_length
        narrowest, shortest = width < ids.size(1) / 2**HALVINGS + 1, int(mask[piece.at].sum(1).min())
        assert not by_length or narrowest or 2 * shortest >= width - 1, "half of it would have sufficed"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("rows_at_once", [None, 2])
def test_figures_are_those_of_every_row_alone(family: str, by_length: bool, rows_at_once: int | None) -> None:
    model = model_of(family)
    batch = padded([(3, 40), (5, 2), (1, 9), (4, 18), (2, 1), (5, 40), (3, 4)])
    logprobs, entropies = completion_logprobs(
        model,
        *batch,
        autocast=nullcontext,
        positions=has_absolute_positions(model),
        rows_at_once=rows_at_once,
        by_length=by_length,
        with_entropy=True,
    )
    hand = by_hand(model, *batch)
    assert entropies is not None
    assert float((logprobs.detach() - hand[0]).abs().max()) < 1e-5  # the head computes in float32
    assert float((entropies.detach() - hand[1]).abs().max()) < 1e-5


def test_gradients_are_those_of_whole_rows() -> None:
    model, batch = model_of("llama"), padded([(3, 40), (5, 2), (1, 9), (4, 18), (2, 1)])
    weights = torch.randn(len(batch[0]), batch[2], generator=torch.Generator().manual_seed(1), dtype=torch.double)
    gradients = []
    for by_length in (True, False):
        model.zero_grad()
        logprobs, _ = completion_logprobs(model, *batch, autocast=nullcontext, positions=False, by_length=by_length)
        (logprobs * weights).sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    assert float(gradients[0].abs().max()) > 1e-2
    assert float((gradients[0] - gradients[1]).abs().max()) < 1e-5 * float(gradients[1].abs().max())


def test_a_batch_without_short_rows_stays_as_it_is() -> None:
    _, mask, _ = padded([(3, 20), (5, 11), (4, 16)])
    (piece,) = pieces(mask)
    assert piece.rows_R1.flatten().tolist() == [0, 1, 2]
    assert piece.columns_RW.tolist() == [list(range(25))] * 3


def test_long_and_short_rows_are_apart_and_little_is_padding() -> None:
    """One row of 400 tokens and 63 of 40: 25,600 positions if all are as wide as the longest."""
    _, mask, _ = padded([(4, 396)] + [(4, 36)] * 63)
    found = [tuple(piece.columns_RW.shape) for piece in pieces(mask)]
    assert found == [(1, 400), (63, 50)]
    assert sum(rows * columns for rows, columns in found) == 3550


def test_with_sharded_models_the_passes_depend_on_the_number_of_rows_alone() -> None:
    for sizes in ([(4, 396)] + [(4, 3)] * 6, [(4, 10)] * 7):
        _, mask, _ = padded(sizes)
        assert len(list(pieces(mask, at_once=3, by_length=False))) == 3
        assert all(piece.columns_RW.size(1) == mask.size(1) for piece in pieces(mask, by_length=False))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_hidden_states_before_each_token_are_those_of_the_row_alone(family: str) -> None:
    model = model_of(family)
    ids, mask, completion = padded([(3, 40), (5, 2), (1, 9), (4, 18)])
    found = hidden_before_each_token(model, ids, mask, completion, positions=has_absolute_positions(model))
    prompt = ids.size(1) - completion
    for row, kept in enumerate(mask.bool()):
        after = int(kept[prompt:].sum())
        alone = model.base_model(ids[row][kept].unsqueeze(0)).last_hidden_state[0].float()
        assert torch.allclose(found[row, :after], alone[-after - 1 : -1], atol=1e-5)
