"""Texts that were read once, and streams of thought that branch off them, all in the same forward passes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfcorrect.errors import PolicyError


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
