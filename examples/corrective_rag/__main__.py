"""Warm up, measure, train in the graph, measure again: `python -m corrective_rag` in the folder `examples`."""

import random
from collections.abc import Iterator

from gallery import Example, Trace, main

from corrective_rag.data import NAMES, passages, search, split, vocabulary
from corrective_rag.graph import build, outcome, paid, question


def traces(seed: int, *, wrong: float = 0.3) -> Iterator[Trace]:
    """What the nodes show and say about the questions to train on; a share of it is `wrong`."""
    dice, (known, _) = random.Random(seed), split()
    while True:
        problem = dice.choice(known)
        first, second, *_ = problem.reference.split()
        spoilt = dice.random() < wrong
        found = dice.choice([problem.reference, search(problem.prompt), dice.choice(passages())])
        useful = "yes" if (found == problem.reference) != spoilt else "no"
        yield dice.choice(
            [
                (f"{problem.prompt} ; {found} useful :", useful),
                (f"{problem.prompt} search :", f"{dice.choice(NAMES) if spoilt else first} {second}"),
                (f"{problem.prompt} ; {found} answer :", dice.choice(found.split()) if spoilt else found.split()[-1]),
            ]
        )


def example() -> Example:
    known, held_out = split()
    return Example(
        name="corrective_rag", words=vocabulary(), traces=traces, build=build, known=known, held_out=held_out,
        inputs=question, paid=paid, outcome=outcome, max_new_tokens=3, warm_up_steps=150, batches=40,
    )  # fmt: skip


if __name__ == "__main__":
    main(example())
