"""What a model says of rows of tokens: log-probabilities of completions, hidden states, in slices that fit the memory;
and the fixed model that the KL terms refer to.

Shapes: R rows, P prompt and T completion positions, H hidden size, V vocabulary. No (R, T, V) tensor is ever made:
TRL's fused head projects tiles of positions and keeps one number of each.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.agents.policies.whole_models import whole_location
from selfcorrect.errors import PolicyError
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.undivided import undivided

Autocast = Callable[[], AbstractContextManager[Any]]


def inner_model(model: Any) -> Any:
    """The model of transformers under PEFT's wrapping."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_absolute_positions(model: Any) -> bool:
    """Whether it matters at which position a row begins, and only the caller can say so: learnt positions, as GPT-2 has
    them. Rotary positions are relative, and ALiBi's come from the mask."""
    inner = inner_model(model)
    if "position_ids" not in inspect.signature(type(inner).forward).parameters:
        return False
    config = inner.config.get_text_config()
    return getattr(config, "rope_parameters", None) is None and getattr(config, "rope_theta", None) is None


def positions_of(mask_RC: Tensor) -> Tensor:
    """(R, C): each token's place in its row, padding left out; sampling counts in the same way."""
    return (mask_RC.long().cumsum(1) - 1).clamp(min=0)


HALVINGS = 3
"""How often the width of a batch is halved for its shorter rows: the fewest columns are an eighth."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a padded batch, each cut to W columns that hold all its tokens: `rows_R1` tells which rows,
    `columns_RW` which columns, for `ids_RC[piece.at]`."""

    rows_R1: Tensor
    columns_RW: Tensor

    @property
    def at(self) -> tuple[Tensor, Tensor]:
        return self.rows_R1, self.columns_RW


def pieces(mask_RC: Tensor, *, at_once: int | None = None, by_length: bool = True) -> Iterator[Piece]:
    """What is computed in one forward pass each: rows of similar lengths, so that little of it is padding.

    A row goes where half, a quarter, an eighth of the columns suffice for it, in the order of the batch: the shapes are
    few, and a batch without short rows stays as it is.

    Args:
        mask_RC: 1 for tokens, which stand together in every row, 0 for padding.
        at_once: most rows of a piece; None is no bound.
        by_length: False gives pieces of whole rows, as many for every batch of R: sharded models gather their weights
            in each pass, so all processes must make as many.
    """
    rows, columns = mask_RC.shape
    widths = [-(-columns // 2**halved) for halved in range(HALVINGS + 1)] if by_length else [columns]
    lengths_R = mask_RC.sum(1).tolist()
    starts_R = mask_RC.argmax(1)
    for width, shorter in zip(widths, [*widths[1:], 0], strict=True):
        chosen = [row for row in range(rows) if shorter < max(1, lengths_R[row]) <= width]
        for start in range(0, len(chosen), at_once or max(1, rows)):
            rows_R1 = torch.tensor(chosen[start : start + (at_once or rows)], device=mask_RC.device).unsqueeze(1)
            first_R1 = starts_R[rows_R1].clamp(max=columns - width)
            yield Piece(rows_R1, first_R1 + torch.arange(width, device=mask_RC.device))


def completion_logprobs(
    model: Any,
    ids_RC: Tensor,
    mask_RC: Tensor,
    completion: int,
    *,
    autocast: Autocast,
    positions: bool,
    rows_at_once: int | None = None,
    by_length: bool = True,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """(R, T) log-probabilities of the last `completion` ids of every row, and (R, T) entropies of what they were drawn
    from, in nats.

    Args:
        model: with TRL's fused head, which divides by the temperature; perhaps wrapped by accelerate.
        ids_RC, mask_RC: rows, prompts padded on the left and completions on the right.
        completion: T.
        autocast: makes the context in which the model computes.
        positions: give the model the positions of its tokens; see `has_absolute_positions`.
        rows_at_once: R of one forward pass; None is all rows.
        by_length: one pass for rows of similar lengths; see `pieces`.
        with_entropy: measure the entropies, else None.
    """
    labels_RC = ids_RC.masked_fill(mask_RC == 0, -100)
    labels_RC[:, :-completion] = -100
    logprobs: list[tuple[Piece, Tensor]] = []
    entropies: list[tuple[Piece, Tensor]] = []
    for piece in pieces(mask_RC, at_once=rows_at_once, by_length=by_length):
        with autocast():
            asked = _asked(ids_RC, mask_RC, piece, positions=positions)
            found = model(**asked, labels=labels_RC[piece.at], fused_lm_head=True)
        logprobs.append((piece, found.log_probs))
        if with_entropy:
            entropies.append((piece, found.entropy))
    logprobs_RT = _put_together(logprobs, mask_RC)[:, -completion:]
    return logprobs_RT, _put_together(entropies, mask_RC)[:, -completion:] if with_entropy else None


def _put_together(parts: list[tuple[Piece, Tensor]], mask_RC: Tensor) -> Tensor:
    """(R, C, ...): what was found of the last columns of every piece, of all but the first for what is predicted; 0
    elsewhere."""
    whole = parts[0][1].new_zeros(*mask_RC.shape, *parts[0][1].shape[2:])
    for piece, found in parts:
        whole = whole.index_put((piece.rows_R1, piece.columns_RW[:, -found.size(1) :]), found)
    return whole


def _asked(ids_RC: Tensor, mask_RC: Tensor, piece: Piece, *, positions: bool) -> dict[str, Tensor]:
    """What a model is given of a piece."""
    mask_RW = mask_RC[piece.at]
    asked = {"input_ids": ids_RC[piece.at], "attention_mask": mask_RW}
    return asked | ({"position_ids": positions_of(mask_RW)} if positions else {})


def hidden_before_each_token(
    model: Any,
    ids_RC: Tensor,
    mask_RC: Tensor,
    completion: int,
    *,
    positions: bool,
    rows_at_once: int | None = None,
) -> Tensor:
    """(R, T, H): the last hidden state at the position before each completion token, in float32 on the CPU, without
    gradient and without the head's (R, T, V) logits."""
    backbone = inner_model(model).base_model
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    hidden: list[tuple[Piece, Tensor]] = []
    for piece in pieces(mask_RC, at_once=rows_at_once):
        asked = _asked(ids_RC, mask_RC, piece, positions=positions)
        with torch.no_grad():
            states = backbone(**{name: tensor.to(device) for name, tensor in asked.items()}, use_cache=False)
        hidden.append((piece, states.last_hidden_state.float().cpu()))
    model.train(training)
    return _put_together(hidden, mask_RC)[:, -completion - 1 : -1]


def without_dropout(model: Any) -> None:
    """Switch off the dropout of `model`, in place: an update that drops what sampling did not would see ratios that are
    noise. Adapters that are added afterwards keep theirs. (Modules of torch, and the shares that models like OPT and
    Llama hand to functions.)"""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
            continue
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


# The fixed reference model of the KL terms.


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A frozen model that is chosen explicitly, never looked up by the name in a config.

    Looked up by name, a policy that was loaded from its Stage I checkpoint would be anchored to Stage I in Stage II,
    and one built in memory to nothing at all.
    """

    model: Any

    @classmethod
    def of(cls, policy_model: Any, reference: Any, config: TurnPPOConfig) -> "ReferenceModel":
        """`reference` as a frozen model of the policy's dtype.

        Args:
            policy_model: copied as it is now when `reference` is None.
            reference: None, a folder, a Hub id, or a model.
            config: gives the temperature at which log-probabilities are taken.

        Raises:
            PolicyError: the folder does not exist or holds no model. The base model is never put in its place.
        """
        if reference is None:
            model = copy.deepcopy(policy_model)
        elif isinstance(reference, str | Path):
            model = _load(reference, policy_model)
        else:
            model = reference
        model.eval().requires_grad_(False)
        add_fused_lm_head(model, temperature=config.temperature)
        return cls(model)

    def prepare(self, trainer: Any) -> Any:
        """The model as the trainer's engine (DeepSpeed, FSDP or plain accelerate) wants it for scoring."""
        if trainer.is_deepspeed_enabled:
            return prepare_deepspeed(self.model, trainer.accelerator)
        if trainer.is_fsdp_enabled:
            return prepare_fsdp(self.model, trainer.accelerator)
        return trainer.accelerator.prepare_model(self.model, evaluation_mode=True)


@undivided()
def _load(reference: str | Path, policy_model: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(whole_location(str(reference)), dtype=policy_model.dtype)
    except (OSError, ValueError) as error:
        raise PolicyError(f"the reference model '{reference}' cannot be loaded: {error}") from error
