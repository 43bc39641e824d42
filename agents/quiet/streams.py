"""Texts that were read once, and streams of thought that branch off them, all in the same forward passes; and the
attention that keeps the streams apart."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfcorrect.errors import PolicyError

# Attention for thoughts: every stream sees the text up to its position, and itself; no stream sees another.
#
# This is the diagonal mask of Quiet-STaR (arXiv 2403.09629, figure 3) without the mask: what a mask would hide is never
# computed, so time and memory grow with streams x length, not with its square. It is an attention function of
# transformers (`AttentionInterface`), so that a model's own code for projections, rotary positions and grouped heads
# stays in charge.

NAME = "selfcorrect_thoughts"
_TOLERANCE = 1e-3


def thought_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    thought_streams: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of L new tokens in each of S streams; transformers' own "sdpa" where there are no streams.

    Args:
        module: the attention layer.
        query: (B, H, L S, head size), all streams' first new tokens first, then their second ones.
        key: (B, key heads, T + M S, head size): the text, then the M tokens of every stream, the new ones included, in
            that order.
        value: like `key`.
        attention_mask: (B, 1, S, T) bool: which part of the text each stream sees.
        dropout: of attention weights; not supported in streams, 0 expected.
        scaling: of the scores; None is 1 / sqrt(head size).
        thought_streams: S, or None to read a text.
        **others: passed on to "sdpa"; in streams nothing else may change the scores.

    Returns:
        (B, L S, H, head size), and None for the weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if thought_streams is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return output, None
    _refuse_other_scores(others)
    assert attention_mask is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _attend(query * scale, key, value, attention_mask, thought_streams), None


def _attend(query: Tensor, key: Tensor, value: Tensor, sees_B1ST: Tensor, streams: int) -> Tensor:
    batch, heads, new, size = query.shape
    key_heads, text = key.shape[1], sees_B1ST.shape[-1]
    steps, known = new // streams, (key.shape[2] - text) // streams
    group = heads // key_heads
    # heads as (key heads h, group g), queries as (steps l, streams s), keys of streams as (steps m, streams s)
    query = query.view(batch, key_heads, group, steps, streams, size)
    own_key = key[:, :, text:].view(batch, key_heads, known, streams, size)
    own_value = value[:, :, text:].view(batch, key_heads, known, streams, size)
    text_scores = torch.einsum("bhglsd,bhtd->bhglst", query, key[:, :, :text])
    text_scores = text_scores.masked_fill(~sees_B1ST[:, :, None, None], -torch.inf)
    own_scores = torch.einsum("bhglsd,bhmsd->bhglsm", query, own_key)
    own_scores = own_scores.masked_fill(_later(steps, known, query.device)[:, None], -torch.inf)
    scores = torch.cat([text_scores, own_scores], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    output = torch.einsum("bhglst,bhtd->bhglsd", weights[..., :text], value[:, :, :text])
    output = output + torch.einsum("bhglsm,bhmsd->bhglsd", weights[..., text:], own_value)
    return output.reshape(batch, heads, new, size).transpose(1, 2).contiguous()


def _later(steps: int, known: int, device: torch.device) -> Tensor:
    """(steps, known): which of a stream's tokens come after each of its newest `steps` ones."""
    number = torch.arange(known - steps, known, device=device)
    return torch.arange(known, device=device)[None] > number[:, None]


def _refuse_other_scores(others: dict[str, Any]) -> None:
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name} is not supported for thoughts")


def use_thought_attention(lm: Any) -> None:
    """Make a causal language model able to read thought streams, and prove on a few tokens that it reads them rightly.

    Raises:
        PolicyError: its family has attention of another kind (none at all, sliding windows, biases by distance, soft
            caps).
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, thought_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    family = getattr(lm.config, "model_type", type(lm).__name__)
    _refuse_windows(lm.config, family)
    if not getattr(lm, "_supports_attention_backend", False):
        raise PolicyError(
            f"models of the family {family!r} do not let their attention be chosen (transformers' AttentionInterface), "
            "which thoughts in parallel need; use a Llama-like model: Llama, Mistral, Qwen, SmolLM, ..."
        )
    before = lm.config._attn_implementation
    wanted = _probe(lm, None)
    lm.set_attn_implementation(NAME)
    try:
        found = _probe(lm, 2)
    except (NotImplementedError, TypeError, RuntimeError, ValueError) as error:
        lm.set_attn_implementation(before)
        raise PolicyError(f"models of the family {family!r} cannot read thoughts in parallel: {error}") from error
    if not torch.allclose(wanted.expand_as(found), found, atol=_TOLERANCE * (1 + float(wanted.abs().max())), rtol=0):
        lm.set_attn_implementation(before)
        raise PolicyError(
            f"models of the family {family!r} read thoughts in parallel differently than one by one (by "
            f"{float((wanted - found).abs().max()):.2g} in a logit): their attention knows more than a mask; use a "
            "Llama-like model"
        )


def _refuse_windows(config: Any, family: str) -> None:
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if kinds or window is not None:
        what = f"a sliding window of {window}" if window is not None else f"layers of the kinds {sorted(kinds)}"
        raise PolicyError(
            f"this model of the family {family!r} has {what}, and thoughts in parallel need plain full attention in "
            "every layer; for texts shorter than the window, set sliding_window to None in its config.json"
        )


@torch.no_grad()
def _probe(lm: Any, streams: int | None) -> Tensor:
    """The logits after six tokens, once for each stream; of which the last two are read as streams, if there are
    any."""
    from transformers import DynamicCache

    mode, device = lm.training, next(lm.parameters()).device
    lm.eval()
    try:
        ids = (torch.arange(6, device=device) * 7 % lm.get_input_embeddings().weight.shape[0])[None]
        if streams is None:
            return lm(input_ids=ids).logits[0, -1:].float()  # type: ignore[no-any-return]
        cache = DynamicCache(config=lm.config)
        lm(input_ids=ids[:, :4], past_key_values=cache, use_cache=True)
        output = lm(
            inputs_embeds=lm.get_input_embeddings()(ids[:, 4:].repeat_interleave(streams, dim=1)),
            attention_mask=torch.ones(1, 1, streams, 4, dtype=torch.bool, device=device),
            position_ids=torch.tensor([[4, 5]], device=device).repeat_interleave(streams, dim=1),
            past_key_values=cache,
            use_cache=True,
            thought_streams=streams,
        )
        return output.logits[0, -streams:].float()  # type: ignore[no-any-return]
    finally:
        lm.train(mode)


@dataclass(slots=True)
class Reading:
    """Texts as a model read them.

    Attributes:
        ids_BT: their token ids, padded on either side.
        mask_BT: which columns are tokens, bool.
        position_BT: of each column in its text, from 0.
        logits_BTV: for the token after each column, without thinking.
        hidden_BTD: the last hidden state of each column.
        cache: the keys and values of all columns. Streams append to it.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    position_BT: Tensor
    logits_BTV: Tensor
    hidden_BTD: Tensor
    cache: Any

    def keep(self, rows: Tensor) -> None:
        """Go on with these texts only."""
        for name in ("ids_BT", "mask_BT", "position_BT", "logits_BTV", "hidden_BTD"):
            setattr(self, name, getattr(self, name).index_select(0, rows))
        self.cache.batch_select_indices(rows)


def read_texts(lm: Any, ids_BT: Tensor, mask_BT: Tensor) -> Reading:
    """Read whole texts. Raises a PolicyError if one is longer than the model's context."""
    from transformers import DynamicCache

    refuse_beyond_context(lm.config, ids_BT.shape[1], 0)
    reading = Reading(
        ids_BT[:, :0], mask_BT[:, :0], ids_BT[:, :0], torch.empty(0), torch.empty(0), DynamicCache(config=lm.config)
    )
    return read_on(lm, reading, ids_BT, mask_BT)


def read_on(lm: Any, reading: Reading, ids_BC: Tensor, mask_BC: Tensor) -> Reading:
    """Read more columns after those of `reading`, whose cache is used up; logits and hidden states are of the new
    columns only."""
    mask_BT = torch.cat([reading.mask_BT, mask_BC], dim=1)
    position_BT = (mask_BT.long().cumsum(1) - 1).clamp(min=0)
    output = lm(
        input_ids=ids_BC,
        attention_mask=mask_BT,
        position_ids=position_BT[:, -ids_BC.shape[1] :],
        past_key_values=reading.cache,
        use_cache=True,
        output_hidden_states=True,
    )
    ids_BT = torch.cat([reading.ids_BT, ids_BC], dim=1)
    return Reading(ids_BT, mask_BT, position_BT, output.logits, output.hidden_states[-1], reading.cache)


class Streams:
    """Thoughts under way: S streams at each of B texts. Call `append` as long as there is something to read.

    Args:
        lm: a model that `use_thought_attention` has prepared.
        reading: the texts. Its cache grows with the streams; `forget` makes it what it was.
        anchor_BS: the column each stream follows: it sees the text up to there, that column included.
    """

    def __init__(self, lm: Any, reading: Reading, anchor_BS: Tensor) -> None:
        self._lm, self._cache = lm, reading.cache
        column_T = torch.arange(reading.mask_BT.shape[1], device=anchor_BS.device)
        sees_BST = (column_T <= anchor_BS[..., None]) & reading.mask_BT[:, None]
        self._sees_B1ST = sees_BST[:, None]
        self._first_BS = reading.position_BT.gather(1, anchor_BS) + 1
        self._furthest = int(self._first_BS.max())
        self.length = 0

    def append(self, embeddings_BLSD: Tensor) -> tuple[Tensor, Tensor]:
        """Read L more tokens in every stream, given as embeddings.

        Returns:
            For each new token: logits (B, L, S, V) of what follows it, and its last hidden state (B, L, S, D).

        Raises:
            PolicyError: text and stream together are longer than the model's context.
        """
        batch, steps, streams, _ = embeddings_BLSD.shape
        refuse_beyond_context(self._lm.config, self._furthest, self.length + steps)
        step_L = torch.arange(self.length, self.length + steps, device=embeddings_BLSD.device)
        position_BLS = self._first_BS[:, None] + step_L[None, :, None]
        output = self._lm(
            inputs_embeds=embeddings_BLSD.flatten(1, 2),
            attention_mask=self._sees_B1ST,
            position_ids=position_BLS.flatten(1),
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=True,
            thought_streams=streams,
        )
        self.length += steps
        shape = (batch, steps, streams, -1)
        return output.logits.view(shape), output.hidden_states[-1].view(shape)

    def forget(self) -> None:
        """Take the streams out of the cache: the text goes on as if nobody had thought."""
        self._cache.crop(-self.length * self._first_BS.shape[1])
        self.length = 0


def refuse_beyond_context(config: Any, text: int, thought: int) -> None:
    """Raise a PolicyError if a text of `text` tokens with a stream of `thought` more does not fit the model."""
    context: int | None = getattr(config, "max_position_embeddings", None)
    if context is not None and text + thought > context:
        raise PolicyError(
            f"a text of {text} tokens and {thought} of thought (its marks and the tokens ahead included) do not fit "
            f"the model's context of {context}; use shorter texts, shorter thoughts or fewer tokens ahead"
        )
