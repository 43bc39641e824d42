"""What a model says of rows of tokens: log-probabilities of completions, hidden states, in slices that fit the memory.

Shapes: R rows, P prompt and T completion positions, H hidden size, V vocabulary. No (R, T, V) tensor is ever made:
TRL's fused head projects tiles of positions and keeps one number of each.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

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


def _slices(rows: int, at_once: int | None) -> Iterator[slice]:
    size = at_once or max(1, rows)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def completion_logprobs(
    model: Any,
    ids_RC: Tensor,
    mask_RC: Tensor,
    completion: int,
    *,
    autocast: Autocast,
    positions: bool,
    rows_at_once: int | None = None,
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
        with_entropy: measure the entropies, else None.
    """
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for part in _slices(len(ids_RC), rows_at_once):
        labels_RC = ids_RC[part].masked_fill(mask_RC[part] == 0, -100)
        labels_RC[:, :-completion] = -100
        asked = {"input_ids": ids_RC[part], "attention_mask": mask_RC[part]}
        if positions:
            asked["position_ids"] = positions_of(mask_RC[part])
        with autocast():
            found = model(**asked, labels=labels_RC, fused_lm_head=True)
        logprobs.append(found.log_probs[:, -completion:])
        if with_entropy:
            entropies.append(found.entropy[:, -completion:])
    return torch.cat(logprobs), torch.cat(entropies) if with_entropy else None


def hidden_before_each_token(
    model: Any, ids_RC: Tensor, mask_RC: Tensor, completion: int, *, positions: bool, rows_at_once: int | None = None
) -> Tensor:
    """(R, T, H): the last hidden state at the position before each completion token, in float32 on the CPU, without
    gradient and without the head's (R, T, V) logits."""
    backbone = inner_model(model).base_model
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found: list[Tensor] = []
    for part in _slices(len(ids_RC), rows_at_once):
        asked = {"input_ids": ids_RC[part].to(device), "attention_mask": mask_RC[part].to(device)}
        if positions:
            asked["position_ids"] = positions_of(mask_RC[part]).to(device)
        with torch.no_grad():
            states = backbone(**asked, use_cache=False).last_hidden_state
        found.append(states[:, -completion - 1 : -1].float().cpu())
    model.train(training)
    return torch.cat(found)


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
