"""How a run tells what it is doing. Training knows only this protocol; the command line draws it.

Names of the figures of one step, in `ProgressSink.step` and in `metrics.jsonl`. Shares are of the step's episodes,
sampled:

    step                 counted from 1 over both stages
    stage                1 or 2
    accuracy_t1          share of correct first answers; accuracy_t2 of second ones
    delta                accuracy_t2 - accuracy_t1
    i_to_c, c_to_i       share of episodes that went from incorrect to correct, and the reverse
    unchanged            share of episodes whose answer stayed the same
    kl_t1, kl_t2         KL(policy || reference) of the turn, in nats per token
    tokens_per_second    sampled tokens over the wall-clock time of the rollout
    eval_accuracy_t1 ... the same figures on held-out problems, greedy; only in steps that evaluate

    alarm/NAME           1.0 while the alarm NAME stands (see `alarms.py`)

Others (policy_loss, entropy, clipped, ...) are written down and drawn as they come.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class ProgressSink(Protocol):
    """Receives the progress of a run. Called from one thread; must not raise."""

    def start(self, total_steps: int, stage: str) -> None:
        """A stage of `total_steps` steps begins; ends the stage before it."""
        ...

    def step(self, metrics: Mapping[str, float]) -> None:
        """One step of the stage is done."""
        ...

    def message(self, text: str) -> None:
        """Something to tell once, in one line."""
        ...

    def close(self) -> None:
        """Nothing more will come. May be called twice."""
        ...


class SilentProgress:
    """Shows nothing: for tests, notebooks and `--json`."""

    def start(self, total_steps: int, stage: str) -> None: ...

    def step(self, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def close(self) -> None: ...
