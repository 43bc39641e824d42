"""How many answers a minute does the math checker judge, against math-verify alone?

    python benchmarks/math_checks.py                 # about a minute on two cores
    python benchmarks/math_checks.py --checks 2000 --json math.json

Three kinds of rows, each half right and half wrong, every response a few sentences with its answer in a box:

- plain: integers, decimals and fractions;
- expressions: surds, polynomials, tuples, sets, intervals, units;
- opaque: integrals, sums and limits, which our checker hands to math-verify in its worker processes.

Two judges see the same rows in turns, round after round, in one process: `MathChecker.check_sync`, and math-verify's
`parse` of reference and response followed by `verify`, with its own default time limits (5 s each), references in
dollar signs as it wants them. Both are warm; every round has new rows. The figure is the best round, because other
programs on the machine can only slow one down. Also measured: the first check after the start of a fresh interpreter,
of a plain and of an opaque row; and how many of the verdicts are right.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from selfcorrect.rewards.maths import MathChecker

TARGET = 3.0
"""Times math-verify on plain rows."""


@dataclass(frozen=True)
class Row:
    response: str
    reference: str
    right: bool


@dataclass(frozen=True)
class Result:
    """Checks a minute (the best round) and the share of verdicts that are right."""

    rows: str
    ours_a_minute: float
    math_verify_a_minute: float
    ratio: float
    ours_right: float
    math_verify_right: float


def plain(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Triples: reference, an answer equal to it, an answer that is not."""
    while True:
        number = rng.randint(-9999, 9999)
        yield str(number), f"{number}", f"{number + rng.choice([-10, -1, 1, 10])}"
        yield f"{number / 100:.2f}", f"{number / 100:.2f}", f"{number / 100 + 0.5:.2f}"
        top, bottom = rng.randint(1, 99), rng.randint(2, 99)
        yield f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"\frac{{{top}}}{{{bottom + 1}}}"


def expressions(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    while True:
        a, b, c = rng.sample(range(2, 60), 3)
        yield rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"\sqrt{{{a * a * b + 1}}}"
        yield rf"(x+{a})(x-{b})", rf"x^2 + {a - b}x - {a * b}".replace("+ -", "- "), rf"x^2 + {a}x - {b}"
        yield rf"({a}, {b})", rf"\left({a}, {b}\right)", rf"({b}, {a})"
        yield rf"\{{{a}, {b}, {c}\}}", rf"\{{{c}, {a}, {b}\}}", rf"\{{{a}, {b}\}}"
        yield rf"[{a}, {a + b})", rf"{a} \le x < {a + b}", rf"{a} < x < {a + b}"
        yield rf"{a} \text{{ cm}}", rf"{a}\text{{ cm}}", rf"{a + 1} \text{{ cm}}"


def opaque(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    while True:
        a = rng.randint(2, 30)
        yield rf"\int_0^1 {2 * a} x dx", str(a), str(a + 1)
        yield rf"\sum_{{k=1}}^{{{a}}} k", rf"\frac{{{a} \cdot {a + 1}}}{{2}}", rf"\frac{{{a} \cdot {a}}}{{2}}"
        yield rf"\lim_{{x \to 0}} \frac{{\sin {a}x}}{{x}}", str(a), "1"


KINDS: dict[str, Callable[[random.Random], Iterator[tuple[str, str, str]]]] = {
    "plain": plain,
    "expressions": expressions,
    "opaque": opaque,
}


def rows_of(kind: str, count: int, seed: int) -> list[Row]:
    rng = random.Random(f"{kind}-{seed}")
    triples = KINDS[kind](rng)
    rows = []
    for number in range(count):
        reference, good, bad = next(triples)
        right = number % 2 == 0
        text = (
            "We add up what is given, step by step, and simplify. Therefore the answer is "
            f"$\\boxed{{{good if right else bad}}}$."
        )
        rows.append(Row(text, reference, right))
    return rows


def math_verify_alone(row: Row) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"${row.reference}$"), parse(row.response)))


def compare(kind: str, count: int, rounds: int, checker: MathChecker) -> Result:

    def ours(row: Row) -> bool:
        return checker.check_sync(row.response, row.reference).correct

    judges = {"ours": ours, "theirs": math_verify_alone}
    best: dict[str, float] = dict.fromkeys(judges, 0.0)
    right: dict[str, float] = dict.fromkeys(judges, 0.0)
    for judge in judges.values():
        for row in rows_of(kind, 20, seed=-1):
            judge(row)
    for seed in range(rounds):  # new rows every round: both judges remember what they have read
        rows = rows_of(kind, count, seed)
        for name, judge in judges.items():
            start = time.perf_counter()
            verdicts = [judge(row) for row in rows]
            best[name] = max(best[name], 60 * count / (time.perf_counter() - start))
            agreed = sum(verdict == row.right for verdict, row in zip(verdicts, rows, strict=True))
            right[name] += agreed / count / rounds
    return Result(kind, best["ours"], best["theirs"], best["ours"] / best["theirs"], right["ours"], right["theirs"])


FIRST = """
import time
start = time.perf_counter()
from selfcorrect.rewards.maths import MathChecker
with MathChecker(workers=1) as checker:
    assert checker.check_sync({response!r}, {reference!r}).correct
    print(time.perf_counter() - start)
"""


def first_check(response: str, reference: str, tries: int = 3) -> float:
    """Seconds from the import of the checker in a fresh interpreter to its first verdict; the best of `tries`."""
    code = FIRST.format(response=response, reference=reference)
    return min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(tries)
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--checks", type=int, default=600, help="plain rows a round; a third of that of the others")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", type=Path, help="write the figures here as well")
    chosen = arguments.parse_args()

    first = {"plain": first_check(r"\boxed{42}", "42"), "opaque": first_check(r"\boxed{1}", r"\int_0^1 2x dx")}
    with MathChecker() as checker:
        results = [
            compare(kind, chosen.checks if kind == "plain" else max(chosen.checks // 3, 20), chosen.rounds, checker)
            for kind in KINDS
        ]
    print(f"{'rows':<12} {'ours / min':>12} {'math-verify':>12} {'ratio':>7} {'right':>7} {'theirs':>7}")
    for result in results:
        print(
            f"{result.rows:<12} {result.ours_a_minute:>12,.0f} {result.math_verify_a_minute:>12,.0f} "
            f"{result.ratio:>7.1f} {result.ours_right:>7.1%} {result.math_verify_right:>7.1%}"
        )
    print(f"first check after start: {first['plain']:.2f} s plain, {first['opaque']:.2f} s opaque (target 2 s)")
    print(f"plain rows: {results[0].ratio:.1f} times math-verify (target {TARGET:g})")
    if chosen.json is not None:
        figures = {"results": [asdict(result) for result in results], "first_check_seconds": first}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
