"""Warm up, measure, train in the graph, measure again: `python -m corrective_rag` in the folder `examples`."""

import random
from collections.abc import Iterator

from gallery import Example, Trace, main

from corrective_rag.data import passages, search, split, vocabulary
from corrective_rag.graph import build, outcome, paid, question


def traces(seed: int, *, habit: float = 0.6, wrong: float = 0.1) -> Iterator[Trace]:
    """What the nodes show and say about the questions to train on, by a writer with bad habits: it mostly grades any
    passage "yes", and mostly searches for the question's own words again. What is right is rarer, and has to be found
    by reward. A share of the answers is `wrong` by chance."""
    dice, (known, _) = random.Random(seed), split()
    while True:
        problem = dice.choice(known)
        kind, _, name = problem.prompt.split()
        found = dice.choice([problem.reference, search(problem.prompt), dice.choice(passages())])
        useful = "yes" if found == problem.reference or dice.random() < habit else "no"
        words = f"{kind} {name}" if dice.random() < habit else " ".join(problem.reference.split()[:2])
        yield dice.choice(
            [
                (f"{problem.prompt} ; {found} useful :", useful),
                (f"{problem.prompt} search :", words),
                (f"{problem.prompt} ; {found} answer :", found.split()[-1 if dice.random() >= wrong else 0]),
            ]
        )


def example() -> Example:
    known, held_out = split()
    return Example(
        name="corrective_rag", words=vocabulary(), traces=traces, build=build, known=known, held_out=held_out,
        inputs=question, paid=paid, outcome=outcome, max_new_tokens=3, warm_up_steps=150, warm_up_by="muon", batches=20,
    )  # fmt: skip


if __name__ == "__main__":
    main(example())
