"""The guard against a policy that only confirms itself: it watches the votes by which it learns, and stops."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.agreement import AgreementSignals, BatchOfVotes, summary_of
from selfcorrect.training.progress import ProgressSink


@dataclass(frozen=True)
class GuardSettings:
    """When to stop.

    Args:
        fall: stop when mean agreement, over `window` batches, is this much below that of the first `window` batches.
        collapse: stop when the most frequent winning answer is that of this share of a batch's different problems (of 4 or more).
        window: batches.
    """

    fall: float = 0.1
    collapse: float = 0.5
    window: int = 3

    def __post_init__(self) -> None:
        if not self.fall > 0 or not 0 < self.collapse <= 1 or self.window < 1:
            raise ConfigurationError(f"adapt: fall must be above 0, collapse in (0, 1], window 1 or more; got {self}")


class AgreementGuard(TrainerCallback):  # type: ignore[misc]
    """Watches the votes; stops the training, and remembers the adapter as it was before things went wrong.

    Attributes:
        batches: so far.
        stop_reason: None as long as all is well.
    """

    def __init__(self, signals: AgreementSignals, settings: GuardSettings, progress: ProgressSink) -> None:
        self._signals, self._settings, self._progress = signals, settings, progress
        self.batches: list[BatchOfVotes] = []
        self.stop_reason: str | None = None
        self._trainer: Any = None
        self._best: tuple[float, int, dict[str, Any]] | None = None

    def watch(self, trainer: Any) -> None:
        """The trainer whose adapter is to be remembered."""
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The batch was sampled by the adapter as it is before this step: that is the one that its votes speak of."""
        votes = self._signals.take()
        if not votes:
            return
        self.batches.append(summary_of(votes))
        recent = fmean(batch.agreement for batch in self.batches[-self._settings.window :])
        if self._best is None or recent >= self._best[0]:
            self._best = (recent, int(state.global_step), self._adapter())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stop_reason = self.reason()
        if self.batches:
            last = self.batches[-1]
            figures = {"agreement": last.agreement, "held_back": last.held_back / max(1, last.problems)}
            self._progress.step({"step": int(state.global_step), **figures})
        if self.stop_reason is not None:
            self._progress.message(f"stopped: {self.stop_reason}; the adapter goes back to its best state")
            control.should_training_stop = True

    def reason(self) -> str | None:
        """Why to stop now, or None."""
        window = self._settings.window
        if not self.batches:
            return None
        if self.batches[-1].problems >= 4 and self.batches[-1].same_answer >= self._settings.collapse:
            return "answers collapsed"
        if len(self.batches) < 2 * window:
            return None
        first = fmean(batch.agreement for batch in self.batches[:window])
        recent = fmean(batch.agreement for batch in self.batches[-window:])
        return "agreement fell" if recent < first - self._settings.fall else None

    def restore_if_stopped(self, model: Any) -> int:
        """After a stop, the adapter is that of the highest agreement again; how many updates it has had."""
        if self.stop_reason is None or self._best is None:
            return len(self.batches)
        from peft import set_peft_model_state_dict

        _, steps, adapter = self._best
        set_peft_model_state_dict(model, adapter)
        return steps

    def _adapter(self) -> dict[str, Any]:
        from peft import get_peft_model_state_dict

        if self._trainer is None:
            return {}
        state = get_peft_model_state_dict(self._trainer.accelerator.unwrap_model(self._trainer.model))
        return {name: tensor.detach().clone() for name, tensor in state.items()}
