"""Four small tasks for a model of 135 M parameters, each written as a file in a published format.

    python recipes/smollm2/tasks.py data/smollm2

shopping.jsonl   two prices and two amounts, in words; in the form of GSM8K, with the solution worked out
sorting.jsonl    four words in the order of the alphabet; a file of prompts and answers, short ones for a CPU
letters.jsonl    how often a letter stands in some words, counted word by word; in the form of GSM8K
functions.jsonl  a function of two numbers or of a list, with tests; in the form of MBPP and with its splits
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


FORMS: tuple[tuple[str, str, Callable[[int, int], int]], ...] = (
    ("{k} times the first number plus the second", "{k} * a + b", lambda k, a: k * a),
    ("the second number minus {k} times the first", "b - {k} * a", lambda k, a: -k * a),
    ("the sum of both numbers and {k}", "a + b + {k}", lambda k, a: a + k),
    ("the second number plus the first number to the power of {k}", "b + a ** {k}", lambda k, a: a**k),
)
LISTS: tuple[tuple[str, str, Callable[[list[int], int], object]], ...] = (
    ("how many numbers of a list exceed {k}", "sum(x > {k} for x in xs)", lambda xs, k: sum(x > k for x in xs)),
    ("the list of all numbers of a list times {k}", "[{k} * x for x in xs]", lambda xs, k: [k * x for x in xs]),
    ("the sum of all numbers of a list that {k} divides", "sum(x for x in xs if x % {k} == 0)",
     lambda xs, k: sum(x for x in xs if x % k == 0)),
    ("the numbers of a list without those below {k}", "[x for x in xs if x >= {k}]",
     lambda xs, k: [x for x in xs if x >= k]),
)  # fmt: skip


def function(dice: random.Random, number: int) -> dict[str, object]:
    """A row of MBPP's form; `number` is its task_id."""
    k, name = dice.randint(2, 9), f"{dice.choice(WORDS)}_{number}"
    if dice.random() < 0.5:
        says, code, part = dice.choice(FORMS)
        pairs = [dice.sample(range(1, 12), 2) for _ in range(3)]
        tests = [f"assert {name}({a}, {b}) == {b + part(k, a)}" for a, b in pairs]
        head = f"def {name}(a, b):"
    else:
        says, code, whole = dice.choice(LISTS)
        lists = [dice.sample(range(1, 20), 5) for _ in range(3)]
        tests = [f"assert {name}({xs}) == {whole(xs, k)}" for xs in lists]
        head = f"def {name}(xs):"
    text = f"Write a function {name} that returns {says.format(k=k)}."
    return {"task_id": number, "text": text, "code": f"{head}\n    return {code.format(k=k)}", "test_list": tests}


def worded(make: Callable[[random.Random], tuple[str, str]], rows: int) -> Iterator[dict[str, object]]:
    dice, seen = random.Random(0), set[str]()
    while len(seen) < rows:
        question, answer = make(dice)
        if question not in seen:
            seen.add(question)
            yield {"question": question, "answer": answer}


def functions(rows: int) -> Iterator[dict[str, object]]:
    """Training problems (task_id from 601) and a quarter as many test problems (from 11), as MBPP counts."""
    dice = random.Random(0)
    yield from (function(dice, number) for number in (*range(11, 11 + min(500, rows // 4)), *range(601, 601 + rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=6000, help="of each task in words")
    parser.add_argument("--functions", type=int, default=800, help="to train on; each is tried in the jail when read")
    arguments = parser.parse_args()
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
