"""What TRL's loop carries from the episodes to the loss: tensors by the names that TRL gives them."""

from typing import Any

import torch
from torch import Tensor

from selfcorrect.training.batching import CallTable, RowTensors
from selfcorrect.training.loss import TokenBatch


def text_of(rows: RowTensors) -> dict[str, Tensor]:
    """Prompts and completions: all that scoring needs."""
    return {
        "prompt_ids": rows.prompt_ids_RP,
        "prompt_mask": rows.prompt_mask_RP,
        "completion_ids": rows.completion_ids_RT,
        "completion_mask": rows.completion_mask_RT,
    }


def trl_batch(rows: RowTensors, table: CallTable, advantages_RT: Tensor, betas_RT: Tensor) -> dict[str, Tensor]:
    """All that the loss needs, as far as no model must be asked for it."""
    return {
        **text_of(rows),
        "tool_mask": rows.spread(table.learns_C),
        "advantages": advantages_RT,
        "kl_coefficients": betas_RT,
        "calls": rows.calls_RT,
        "kinds": torch.where(rows.calls_RT >= 0, table.kinds_C[rows.calls_RT.clamp(min=0)], -1),
        "old_per_token_logps": rows.old_logprobs_RT,
    }


def whole_rows(batch: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Ids and mask of prompts with their completions, and how many positions at the end are completion."""
    return (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].size(1),
    )


def token_batch(inputs: dict[str, Any], normaliser: Tensor) -> TokenBatch:
    """A minibatch as `ppo_loss` takes it."""
    return TokenBatch(
        old_logprobs_BT=inputs["old_per_token_logps"],
        reference_logprobs_BT=inputs.get("ref_per_token_logps"),
        advantages_BT=inputs["advantages"],
        kl_coefficients_BT=inputs["kl_coefficients"],
        mask_BT=inputs["tool_mask"],
        normaliser=normaliser,
    )
