"""The training loop: one optimiser step after the other, written down and saved."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from selfcorrect.errors import DivergenceError, TrainingError
from selfcorrect.files import replacing, told
from selfcorrect.training.quiet_star.learners import Learner
from selfcorrect.training.quiet_star.settings import QuietRun, QuietSettings, StepSettings
from selfcorrect.training.quiet_star.texts import Texts, padded
from selfcorrect.training.runs.progress import ProgressSink

# What an interrupted run goes on from: weights, optimiser, random numbers, in one file that is whole or not there.

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
    path = folder / _NAME
    with told(path), replacing(path) as unfinished:
        torch.save(state, unfinished)


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


def train_steps(learner: Learner, texts: Texts, settings: QuietSettings, run: QuietRun, progress: ProgressSink) -> None:
    """Train to `settings.steps`, from the last checkpoint in `run` if there is one.

    Raises:
        KeyboardInterrupt: Ctrl-C; the step under way was finished and saved.
        DivergenceError: the loss or its gradient is not finite.
    """
    device = next(learner.module.parameters()).device
    generator = torch.Generator(device).manual_seed(settings.seed)
    optimiser = _optimiser(learner.module, settings.optimiser)
    done = load_checkpoint(run.checkpoints_path, learner.module, optimiser, generator)
    run.truncate_metrics(done)
    progress.start(settings.steps, _NAMES[settings.thought.kind])
    learner.module.train()
    with _interrupt_heard() as heard:
        for step in range(done, settings.steps):
            figures = _step(learner, texts, settings, optimiser, generator, step, run.checkpoints_path)
            run.append_metrics(figures)
            progress.step(figures)
            finished = step + 1 == settings.steps
            if heard or finished or (step + 1) % settings.save_every == 0:
                save_checkpoint(run.checkpoints_path, step + 1, learner.module, optimiser, generator)
            if heard and not finished:
                raise KeyboardInterrupt
    learner.module.eval()


_NAMES = {"thought": "Quiet-STaR", "pause": "pause tokens", "none": "plain training"}


def _step(
    learner: Learner,
    texts: Texts,
    settings: QuietSettings,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    step: int,
    checkpoints: Path,
) -> dict[str, Any]:
    """One update; its figures."""
    began = time.perf_counter()
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * warm_up(settings.optimiser, step)
    device = next(learner.module.parameters()).device
    ids_BT, mask_BT = padded(texts.training(step, settings.optimiser.texts), device)
    loss = learner.loss(ids_BT, mask_BT, generator)
    optimiser.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]
    norm = float(nn.utils.clip_grad_norm_(learner.module.parameters(), settings.optimiser.max_grad_norm))
    if not (math.isfinite(norm) and math.isfinite(float(loss.total.detach()))):
        raise DivergenceError(
            f"loss or gradient of step {step + 1} is not finite; the last good checkpoint is in {checkpoints}: go on "
            "from a copy of it with a smaller optimiser.learning_rate or loss.policy_weight"
        )
    optimiser.step()
    seconds = time.perf_counter() - began
    return {
        "step": step + 1,
        **loss.figures,
        "grad_norm": norm,
        "text_tokens": int(mask_BT.sum()),
        "seconds": seconds,
        "tokens_per_second": loss.figures["tokens"] / seconds,
    }


def _optimiser(module: nn.Module, settings: StepSettings) -> torch.optim.Optimizer:
    """AdamW, with a learning rate of its own for the mixing head."""
    named = list(module.named_parameters())
    head = [parameter for name, parameter in named if name.startswith("mixing.")]
    others = [parameter for name, parameter in named if not name.startswith("mixing.")]
    groups = [{"params": others, "peak": settings.learning_rate}, {"params": head, "peak": settings.head_learning_rate}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=settings.weight_decay,
    )


def warm_up(settings: StepSettings, step: int) -> float:
    """The share of the learning rates at step `step`, counted from 0: rises linearly over the warm-up, then stays 1."""
    return min(1.0, (step + 1) / max(1, settings.warm_up))


@contextmanager
def _interrupt_heard() -> Iterator[list[int]]:
    """The list fills with the first Ctrl-C, which then interrupts nothing; the second one does."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    try:
        before = signal.signal(signal.SIGINT, hear)
    except ValueError:  # not in the main thread, where signals cannot be heard
        yield heard
        return
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
