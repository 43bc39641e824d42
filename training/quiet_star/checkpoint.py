"""What an interrupted run goes on from: weights, optimiser, random numbers, in one file that is whole or not there."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfcorrect.errors import TrainingError
from selfcorrect.training.durable_files import told

_NAME = "last.pt"


def save_checkpoint(
    folder: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    """Write the state after `step` steps over that before. Raises a TrainingError if the disk is full."""
    state = {
        "step": step,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
    }
    unfinished = folder / (_NAME + ".unfinished")
    with told(folder / _NAME):
        torch.save(state, unfinished)
        unfinished.replace(folder / _NAME)


def load_checkpoint(
    folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> int:
    """Take up the last state in `folder`; how many steps it had done, 0 if there is none.

    Raises:
        TrainingError: the file cannot be read, or is of another model.
    """
    path = folder / _NAME
    if not path.exists():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise TrainingError(f"cannot go on from {path}: {error}; start a new run in another folder") from error
    return int(state["step"])
