"""What is steered while training: the KL coefficients and the entropy bonus, the critic's head start, and the optimiser
where a stage begins. What has a memory is kept in the checkpoints, so that a resumed run goes on the same way.
"""

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from selfcorrect.files import write_whole
from selfcorrect.training.ppo.config import OptimiserSettings

_FILE = "controllers.json"
_LARGEST_ERROR = 0.2


class Controllers:
    """One factor on all KL coefficients, and the coefficient of the entropy bonus.

    Args:
        settings: without a target a quantity stays as it is.
    """

    def __init__(self, settings: OptimiserSettings) -> None:
        self._settings = settings
        self.kl_factor = 1.0
        self.entropy_coefficient = settings.entropy

    @property
    def watch_entropy(self) -> bool:
        return self._settings.entropy_target is not None

    def observe_kl(self, kl: float) -> None:
        """Ziegler et al. 2019 (arXiv 1909.08593, section 2.2): beta moves by its relative error, clipped to a fifth.

        Args:
            kl: of the last step's sampled tokens to the reference, nats a token.
        """
        target = self._settings.kl_target
        if target is not None:
            error = min(_LARGEST_ERROR, max(-_LARGEST_ERROR, kl / target - 1))
            self.kl_factor *= 1 + self._settings.kl_gain * error

    def observe_entropy(self, entropy: float) -> None:
        """Skywork-OR1 (arXiv 2505.22312): a constant step towards the target.

        Args:
            entropy: mean over the sampled tokens of the last step, nats.
        """
        target = self._settings.entropy_target
        if target is not None:
            step = self._settings.entropy_gain if entropy < target else -self._settings.entropy_gain
            self.entropy_coefficient = max(0.0, self.entropy_coefficient + step)

    def keeper(self) -> TrainerCallback:
        """A callback that stores the two numbers in every checkpoint and takes them from the one a run is resumed
        from."""
        return _Keeper(self)


class _Keeper(TrainerCallback):  # type: ignore[misc]
    def __init__(self, controllers: Controllers) -> None:
        self._controllers = controllers

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        numbers = {
            "kl_factor": self._controllers.kl_factor,
            "entropy_coefficient": self._controllers.entropy_coefficient,
        }
        write_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE, json.dumps(numbers) + "\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
        if state.global_step and saved.exists():
            numbers = json.loads(saved.read_text(encoding="utf-8"))
            self._controllers.kl_factor = numbers["kl_factor"]
            self._controllers.entropy_coefficient = numbers["entropy_coefficient"]


class ForgetMoments(TrainerCallback):  # type: ignore[misc]
    """Adam's moments are forgotten where a stage begins.

    Those of Stage I are of a smaller gradient: carried over at alpha 10 they were reported to make updates 2.3 times
    larger for twenty steps (not measured again here).

    Args:
        stages: training steps of each stage.
        updates_per_step: optimiser steps of a training step.
    """

    def __init__(self, stages: Sequence[int], updates_per_step: int) -> None:
        self._begins = {step * updates_per_step for step in [*accumulate(stages)][:-1]}

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        if state.global_step in self._begins:
            getattr(optimizer, "optimizer", optimizer).state.clear()


def rate_of_stages(stages: Sequence[int], *, warmup: int, decays: bool) -> Callable[[int], float]:
    """The learning rate over its highest at each update: in every stage it rises for `warmup` updates, and then falls
    linearly to 0 at the stage's end if it `decays`.

    Args:
        stages: updates of each stage.
    """
    ends = [*accumulate(stages)]

    def rate(update: int) -> float:
        stage = next((number for number, end in enumerate(ends) if update < end), len(ends) - 1)
        length, done = stages[stage], update - (ends[stage] - stages[stage])
        if done < warmup:
            return done / max(1, warmup)
        return max(0.0, (length - done) / max(1, length - warmup)) if decays else 1.0

    return rate
