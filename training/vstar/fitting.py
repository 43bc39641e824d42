"""What the fits of V-STaR share: telling of their steps, and noticing that they have gone wrong."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from selfcorrect.errors import ConfigurationError, DivergenceError
from selfcorrect.training.vstar.settings import FitSettings


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Passes on what a trainer logs: loss, learning rate, and for DPO the accuracy and margin of the pairs.

    Args:
        tell: called with the numbers of every logged step.

    Raises, in training:
        DivergenceError: a loss is not finite.
    """

    def __init__(self, tell: Callable[[Mapping[str, float]], None]) -> None:
        self._tell = tell
        self.steps = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.steps = int(state.global_step)
        if not logs or "loss" not in logs:
            return
        figures = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        if not math.isfinite(figures["loss"]):
            raise DivergenceError(
                f"the verifier's loss is {figures['loss']} at step {self.steps}; lower its learning_rate and resume the run"
            )
        self._tell(figures)


def refuse_divergence(model: Any) -> None:
    """Raise a DivergenceError if a weight is not finite: such a model would score every answer nan."""
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise DivergenceError(
                f"the verifier's weight {name} is no longer finite; lower its learning_rate and resume the run"
            )


def optimiser_for(model: Any, settings: FitSettings) -> torch.optim.Optimizer | None:
    """The optimiser that the settings name; None leaves AdamW to the trainer, which knows how to shard it.

    Raises:
        ConfigurationError: this torch has no Muon.
    """
    if settings.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        raise ConfigurationError(
            f"optimiser 'muon' needs torch 2.9 or later, this is {torch.__version__}; set it to adamw"
        )
    return Both(model, settings.learning_rate) if settings.optimiser == "muon" else None


class Both(torch.optim.Optimizer):
    """Muon for the weight matrices and AdamW for embeddings, head and norms, as one optimiser that a trainer can drive.

    Args:
        model: what is trained.
        learning_rate: of Muon; AdamW has 0.15 of it, as in pre-training.
    """

    def __init__(self, model: Any, learning_rate: float) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if _is_matrix(name, weight)]
        others = [weight for name, weight in named if not _is_matrix(name, weight)]
        self._inner: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        ]
        if matrices:
            self._inner.append(torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, momentum=0.95))
        super().__init__([weight for _, weight in named], {"lr": learning_rate})
        self.param_groups = [group for one in self._inner for group in one.param_groups]

    def step(self, closure: Any = None) -> Any:
        for one in self._inner:
            one.step()
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        for one in self._inner:
            one.zero_grad(set_to_none=set_to_none)


def _is_matrix(name: str, weight: Any) -> bool:
    return weight.ndim == 2 and "embed" not in name and "head" not in name
