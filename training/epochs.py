"""The order in which problems are played when a run is longer than its problems."""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def epochs(problems: Sequence[Item], *, batches: int, per_batch: int, seed: int) -> list[Item]:
    """The problems of a whole run, batch after batch: all of them shuffled, then all shuffled anew, and so on.

    The list is known from the beginning, so that a run that is resumed in a later epoch goes on in the same order; TRL's sampler
    would begin with the first epoch's order again. No batch holds a problem twice; what is left of an epoch that does not fill
    a batch is left out, as TRL does.

    Args:
        problems: at least `per_batch`; fewer are returned as they are, for the trainer to refuse.
        batches: of the whole run.
        per_batch: problems of a batch.
        seed: of the order.
    """
    if len(problems) < per_batch:
        return list(problems)
    dice = random.Random(seed)
    whole = len(problems) - len(problems) % per_batch
    order: list[Item] = []
    while len(order) < batches * per_batch:
        order.extend(dice.sample(list(problems), whole))
    return order[: batches * per_batch]
