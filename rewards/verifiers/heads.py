"""A language model's body with one number a token on top."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfcorrect.errors import CheckerError

_HEAD = "head.safetensors"


class ScoringModel(nn.Module):
    """Hidden states of a transformer, and from each a logit.

    Args:
        body: a transformers model without a language-model head (`AutoModel`, or `model.base_model` of a causal one).
        head: (H,) -> (1,); None makes one whose logits are 0 everywhere.
    """

    def __init__(self, body: Any, head: nn.Linear | None = None) -> None:
        super().__init__()
        self.body = body
        self.head = head if head is not None else _silent_head(body)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (R, T) of ids (R, T)."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(hidden.to(self.head.weight.dtype)).squeeze(-1).float()  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the body to `folder`/model and the head beside it."""
        from safetensors.torch import save_file

        self.body.save_pretrained(folder / "model")
        save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, folder / _HEAD)

    @classmethod
    def load(cls, folder: Path) -> "ScoringModel":
        """What `save` wrote.

        Raises:
            CheckerError: weights are missing or do not fit.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel

        body = AutoModel.from_pretrained(folder / "model")
        model = cls(body)
        try:
            model.head.load_state_dict(load_file(folder / _HEAD))
        except (OSError, RuntimeError) as error:
            raise CheckerError(f"cannot load the verifier's head from {folder / _HEAD}: {error}") from error
        return model.eval()


def _silent_head(body: Any) -> nn.Linear:
    head = nn.Linear(int(body.config.hidden_size), 1, device=body.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
