"""What the small model is warmed up on: what the graph's nodes show and say, often wrong. And the whole example."""

import random
from collections.abc import Iterator

from gallery import Example, Trace

from selfcorrect import Problem
from sql_repair.checker import SqlChecker
from sql_repair.data import NUMBERS, SCHEMAS, SqlTask, vocabulary
from sql_repair.graph import Paid, build, in_words, outcome, question


def traces(seed: int, *, wrong: float = 0.1, habit: float = 0.6) -> Iterator[Trace]:
    """Prompts and continuations as the graph's nodes make them, by a writer with bad habits: where a query should say
    "<" or MIN it mostly says ">" or MAX, and it mostly calls a query right. A greedy model has the habits, too; what is
    right is in it, and has to be found by reward. A share of the rest is `wrong` by chance."""
    dice, checker = random.Random(seed), SqlChecker()
    problems = SqlTask().problems("train", SqlTask().available("train"))
    while True:
        problem = dice.choice(problems)
        first = _spoilt(problem, dice) if dice.random() < 0.3 else _habitual(problem, dice, habit)
        where = problem.reference
        seen = f"{problem.prompt} : {first} ; {in_words(checker.outcome(first, where['schema'], where['database']))}"
        answer = _spoilt(problem, dice) if dice.random() < wrong else _habitual(problem, dice, habit)
        right = first == problem.gold or dice.random() < habit
        yield dice.choice(
            [
                (f"{problem.prompt} :", answer),
                (f"{seen} check", "right" if right else "wrong"),
                (f"{seen} again :", answer),
            ]
        )


def _habitual(problem: Problem, dice: random.Random, habit: float) -> str:
    """The right query, or what habit makes of it."""
    query = str(problem.gold)
    return query.replace("<", ">").replace("MIN", "MAX") if dice.random() < habit else query


def _spoilt(problem: Problem, dice: random.Random) -> str:
    """The right query with one word changed for one of its kind, or left out."""
    schema = SCHEMAS[problem.reference["schema"]]
    words = str(problem.gold).split()
    place = dice.randrange(len(words))
    kinds = [
        [f"'{word}'" for _, known in schema.words.values() for word in known],
        [str(number) for number in NUMBERS],
        ["<", ">"],
        ["MAX", "MIN"],
        schema.columns,
        list(SCHEMAS),
    ]
    kind = next((kind for kind in kinds if words[place] in kind), [""])
    return " ".join([*words[:place], *dice.choice(kind).split(), *words[place + 1 :]])


def example(held_out: int = 200) -> Example:
    """The example; `held_out` questions of the test split are its measure."""
    task = SqlTask()
    return Example(
        name="sql_repair",
        words=vocabulary(),
        traces=traces,
        build=build,
        known=task.problems("train", task.available("train")),
        held_out=task.problems("test", held_out),
        inputs=question,
        paid=Paid(SqlChecker()),
        outcome=outcome,
        max_new_tokens=24,
        warm_up_steps=300,
        warm_up_by="muon",
        batches=25,
        learning_rate=5e-4,
    )
