"""An optimiser step in several passes: what a device cannot hold at once is learnt one part after the other, and the
step is that of the whole batch."""

from typing import Any

from selfcorrect.training.processes import count


def rows_of_a_pass(batch: int, micro_batch: int | None) -> int:
    """Examples that one process reads at once: the largest equal part of its share of `batch` that is no larger than
    `micro_batch` (None: all of it)."""
    share = batch // count()
    most = min(share, micro_batch or share)
    return next(rows for rows in range(most, 0, -1) if share % rows == 0)


def passes_arguments(batch: int, micro_batch: int | None) -> dict[str, int]:
    """The arguments of a `transformers.Trainer` by which it makes its steps of `batch` examples, over all processes."""
    rows = rows_of_a_pass(batch, micro_batch)
    return {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": batch // count() // rows,
    }


class WholeSteps:
    """For trainers whose loss is a mean over the things in a batch: passes, and processes, count by how many they hold.

    The trainer itself takes the mean over passes and processes, as if all held the same number: a last pass with one
    answer would weigh as much as one with eight.
    """

    accelerator: Any

    def counted(self, inputs: Any) -> Any:
        """Over how many things the loss of `inputs` is a mean."""
        raise NotImplementedError

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples, items = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if samples:
            held = sum(self.counted(inputs).float() for inputs in samples)
            held = self.accelerator.reduce(held.to(self.accelerator.device), reduction="mean")
            self._usual = held / len(samples)
        return samples, items

    def weighed(self, loss: Any, inputs: Any) -> Any:
        """The loss of one pass, by its share of the step."""
        return loss * self.counted(inputs) / self._usual
