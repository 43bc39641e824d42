"""Four small tasks for a model of 135 M parameters, each written as a file in a published format.

    python recipes/smollm2/tasks.py data/smollm2

shopping.jsonl   two prices and two amounts, in words; in the form of GSM8K, with the solution worked out
sorting.jsonl    four words in the order of the alphabet; a file of prompts and answers, short ones for a CPU
letters.jsonl    how often a letter stands in some words, counted word by word; in the form of GSM8K
functions.jsonl  a function of one line, of two numbers or of a list, with tests; in the form of MBPP, with its splits
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

NAMES = ("Ann", "Ben", "Cora", "Dan", "Eva", "Finn", "Gina", "Hugo")
GOODS = ("pens", "cups", "books", "lamps", "plates", "shirts", "balls", "chairs")
WORDS = [
    "apple",
    "banana",
    "cherry",
    "letter",
    "pepper",
    "garden",
    "winter",
    "summer",
    "little",
    "yellow",
    "street",
    "bottle",
    "kitchen",
    "window",
    "dinner",
    "rabbit",
    "butter",
    "summit",
    "cotton",
    "parrot",
    "mirror",
    "ladder",
    "puzzle",
    "saddle",
    "ribbon",
    "tunnel",
    "valley",
    "hammer",
    "pillow",
    "needle",
    "barrel",
    "kettle",
]


def shopping(dice: random.Random) -> tuple[str, str]:
    """Question and worked solution."""
    (one, other), name = dice.sample(GOODS, 2), dice.choice(NAMES)
    (a, b), (p, q) = (dice.sample(range(2, 10), 2) for _ in range(2))
    question = f"{name} buys {a} {one} at {p} coins each and {b} {other} at {q} coins each. How many coins is that?"
    steps = f"The {one} cost {a} x {p} = {a * p} coins.\nThe {other} cost {b} x {q} = {b * q} coins."
    return question, f"{steps}\nTogether that is {a * p} + {b * q} = {a * p + b * q} coins.\n#### {a * p + b * q}"


def sorting(dice: random.Random) -> tuple[str, str]:
    """Prompt and answer, of some twenty tokens together: a CPU reads and writes every one of them."""
    words = dice.sample(WORDS, 4)
    return f"Sort the words: {' '.join(words)}", f"\\boxed{{{' '.join(sorted(words))}}}"


def letters(dice: random.Random) -> tuple[str, str]:
    words = dice.sample(WORDS, 3)
    letter = dice.choice(sorted(set("".join(words))))
    counts = [word.count(letter) for word in words]
    question = (
        f'How often does the letter "{letter}" stand in the words {words[0]}, {words[1]} and {words[2]} together?'
    )
    steps = "\n".join(
        f"{word}: {'-'.join(word)} has {count} of them." for word, count in zip(words, counts, strict=True)
    )
    return question, f"{steps}\n{' + '.join(map(str, counts))} = {sum(counts)}\n#### {sum(counts)}"


MOST_FUNCTIONS = 1600
"""To train on; with a quarter as many to test on, of some 2,300 that there are."""
CHOSEN: tuple[tuple[str, str, Callable[[int, int], bool]], ...] = (
    ("that exceed {m}", "x > {m}", lambda x, m: x > m),
    ("below {m}", "x < {m}", lambda x, m: x < m),
    ("that {m} divides", "x % {m} == 0", lambda x, m: x % m == 0),
    ("that {m} does not divide", "x % {m} != 0", lambda x, m: x % m != 0),
)
CHANGED: tuple[tuple[str, str, Callable[[int, int], int]], ...] = (
    ("the numbers of a list", "x", lambda x, k: x),
    ("{k} times the numbers of a list", "{k} * x", lambda x, k: k * x),
    ("{k} plus the numbers of a list", "{k} + x", lambda x, k: k + x),
)


def of_numbers(dice: random.Random) -> tuple[str, str, list[tuple[str, object]]]:
    """What is asked, the expression, and two calls' arguments and values: of two numbers `a` and `b`."""
    k, m, sign = dice.randint(2, 12), dice.randint(2, 12), dice.choice((1, -1))
    says = f"{k} times the first number {'plus' if sign > 0 else 'minus'} {m} times the second"
    pairs = [dice.sample(range(1, 12), 2) for _ in range(2)]
    return says, f"{k} * a {'+' if sign > 0 else '-'} {m} * b", [(f"{a}, {b}", k * a + sign * m * b) for a, b in pairs]


def _telling(dice: random.Random, holds: Callable[[int], bool]) -> list[int]:
    """Four numbers, of which a condition holds for some: a program without it is told from one with it."""
    while True:
        numbers = dice.sample(range(1, 20), 4)
        if 0 < sum(map(holds, numbers)) < len(numbers):
            return numbers


def of_list(dice: random.Random) -> tuple[str, str, list[tuple[str, object]]]:
    """The same, of a list of numbers `xs`."""
    k, m = dice.randint(2, 12), dice.randint(2, 12)
    (which, condition, holds), (what, part, change) = dice.choice(CHOSEN), dice.choice(CHANGED)
    says, code = f"{what} {which}".format(k=k, m=m), f"{part} for x in xs if {condition}".format(k=k, m=m)
    lists = [_telling(dice, lambda x: holds(x, m)) for _ in range(2)]
    values = [[change(x, k) for x in xs if holds(x, m)] for xs in lists]
    if dice.random() < 0.5:
        return f"the sum of {says}", f"sum({code})", [(str(xs), sum(of)) for xs, of in zip(lists, values, strict=True)]
    return f"the list of {says}", f"[{code}]", [(str(xs), of) for xs, of in zip(lists, values, strict=True)]


def functions(rows: int) -> Iterator[dict[str, object]]:
    """Training problems (task_id from 601) and a quarter as many test problems (from 11), as MBPP counts. No function
    is asked for twice, so what is held out was never seen, under any name."""
    dice, seen = random.Random(0), set[str]()
    for number in (*range(11, 11 + min(500, rows // 4)), *range(601, 601 + rows)):
        says = ""
        while not says or says in seen:
            head, make = ("a, b", of_numbers) if dice.random() < 0.2 else ("xs", of_list)
            says, code, calls = make(dice)
        seen.add(says)
        name = dice.choice(WORDS)
        yield {
            "task_id": number,
            "text": f"Write a function {name} that returns {says}.",
            "code": f"def {name}({head}):\n    return {code}",
            "test_list": [f"assert {name}({given}) == {value}" for given, value in calls],
        }


def worded(make: Callable[[random.Random], tuple[str, str]], rows: int) -> Iterator[dict[str, object]]:
    dice, seen = random.Random(0), set[str]()
    while len(seen) < rows:
        question, answer = make(dice)
        if question not in seen:
            seen.add(question)
            yield {"question": question, "answer": answer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=6000, help="of each task in words")
    parser.add_argument("--functions", type=int, default=MOST_FUNCTIONS, help="to train on; each is tried in the jail")
    arguments = parser.parse_args()
    if not 4 <= arguments.functions <= MOST_FUNCTIONS:
        parser.error(
            f"--functions is {arguments.functions}: it must be 4 to {MOST_FUNCTIONS}, as no function comes twice"
        )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("shopping", worded(shopping, arguments.rows)),
        ("sorting", ({"prompt": row["question"], "answer": row["answer"]} for row in worded(sorting, arguments.rows))),
        ("letters", worded(letters, arguments.rows)),
        ("functions", functions(arguments.functions)),
    ):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (arguments.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
