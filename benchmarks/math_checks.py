"""How many answers a minute does the math checker judge, against math-verify alone?

    python benchmarks/math_checks.py                 # about a minute on two cores
    python benchmarks/math_checks.py --checks 2000 --json math.json
    python benchmarks/math_checks.py --bombs 100 --deadline 2    # instead: how long answers take that never end

Three kinds of rows, each half right and half wrong, every response a few sentences with its answer in a box:

- plain: integers, decimals and fractions;
- expressions: surds, polynomials, tuples, sets, intervals, units;
- opaque: integrals, also up to a variable, sums and limits, which our checker hands to math-verify in its worker
  processes.

Two judges see the same rows in turns, round after round, in one process: `MathChecker.check_sync`, and math-verify's
`parse` of reference and response followed by `verify`, with its own default time limits (5 s each), references in
dollar signs as it wants them. Both are warm; every round has new rows. The figure is the best round, because other
programs on the machine can only slow one down; the processor time of all rounds (that of our workers included) tells
the same on a machine that is busy. Also measured: the first check after the start of a fresh interpreter, of a plain
and of an opaque row; and how many of the verdicts are right.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from selfcorrect.rewards.maths import EquivalenceRules, MathChecker

TARGET = 3.0
"""Times math-verify on plain rows."""


@dataclass(frozen=True)
class Row:
    response: str
    reference: str
    right: bool


@dataclass(frozen=True)
class Result:
    """Checks a minute (the best round), milliseconds of processor time a check (all rounds), and the share of verdicts
    that are right."""

    rows: str
    ours_a_minute: float
    math_verify_a_minute: float
    ratio: float
    ours_cpu_ms: float
    math_verify_cpu_ms: float
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
        a, b = rng.randint(2, 10**6), rng.randint(2, 40)  # so many that neither judge has met the row before
        yield rf"\int_0^1 {2 * a} x dx", str(a), str(a + 1)
        yield rf"\sum_{{k=1}}^{{{a}}} k", rf"\frac{{{a} \cdot {a + 1}}}{{2}}", rf"\frac{{{a} \cdot {a}}}{{2}}"
        yield rf"\lim_{{x \to 0}} \frac{{\sin {a}x}}{{x}}", str(a), "1"
        yield (
            rf"\int_0^x {a} t^{{{b}}} dt",
            rf"\frac{{{a} x^{{{b + 1}}}}}{{{b + 1}}}",
            rf"\frac{{{a} x^{{{b}}}}}{{{b}}}",
        )


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


_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pids: list[int]) -> float:
    """Of this process and of `pids`, as far as they live, since their starts."""
    used = time.process_time()
    for pid in pids:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += (int(numbers[11]) + int(numbers[12])) / _TICKS
    return used


def compare(kind: str, count: int, rounds: int, checker: MathChecker) -> Result:
    """Both judges over the same rows, in turns."""

    def ours(row: Row) -> bool:
        return checker.check_sync(row.response, row.reference).correct

    judges = {"ours": ours, "theirs": math_verify_alone}
    best: dict[str, float] = dict.fromkeys(judges, 0.0)
    right: dict[str, float] = dict.fromkeys(judges, 0.0)
    cpu_ms: dict[str, float] = dict.fromkeys(judges, 0.0)
    for judge in judges.values():
        for row in rows_of(kind, 20, seed=-1):
            judge(row)
    for seed in range(rounds):  # new rows every round: both judges remember what they have read
        rows = rows_of(kind, count, seed)
        for name, judge in judges.items():
            start, used = time.perf_counter(), processor_seconds(checker.worker_pids)
            verdicts = [judge(row) for row in rows]
            cpu_ms[name] += 1000 * (processor_seconds(checker.worker_pids) - used) / count / rounds
            best[name] = max(best[name], 60 * count / (time.perf_counter() - start))
            agreed = sum(verdict == row.right for verdict, row in zip(verdicts, rows, strict=True))
            right[name] += agreed / count / rounds
    return Result(
        kind,
        best["ours"],
        best["theirs"],
        best["ours"] / best["theirs"],
        cpu_ms["ours"],
        cpu_ms["theirs"],
        right["ours"],
        right["theirs"],
    )


BOMBS = (
    r"\sum_{{k=1}}^{{10}} (k^{{10^{0}}})!",
    r"\sum_{{k=1}}^{{3}} \left(\int_0^1 x^k dx\right)^{{10^{0}}}",
    r"\int_0^1 x^{{10^{0}}}(1-x)^{{10^{0}}} dx",
    r"\sum_{{k=1}}^{{10^{0}}} \frac{{1}}{{k!+{0}}}",
    r"\prod_{{k=1}}^{{10^{0}}} (k^2+{0})",
    r"\int_0^\infty e^{{-x^{0}}}\cos(x^3)\ln(x+{0}) dx",
    r"\int_0^1 \frac{{x^{{1{0}}}}}{{1+x^{{1{0}1}}+x^7}} dx",
    r"\sum_{{i=1}}^{{99}} \sum_{{j=1}}^{{99}} \sum_{{k=1}}^{{99}} \int_0^1 x^{{ijk+{0}}} dx",
    r"\lim_{{x \to 0}} \frac{{\sin(\sin(\sin(\sin(x^{0}))))-\tan(\tan(x^{0}))}}{{x^{{1{0}}}}}",
    r"\sum_{{k=1}}^{{5}} 9^{{9^{{9^{0}}}}}",
    r"\int_0^1 \sqrt{{\sin(\sqrt{{\cos(\sqrt{{x^{0}+1}})}})}} dx",
    r"\sum_{{k=1}}^{{10}} \binom{{10^{{1{0}}}}}{{5 \cdot 10^{{{0}}}}}",
)
"""Answers that keep math-verify busy for longer than anybody waits; the number makes each one new."""


def bombs(count: int, deadline: float) -> None:
    """One worker and costly answers one after the other: how long checks take, and what their verdicts are."""
    numbers = itertools.product(range(4, 10**6), BOMBS)
    with MathChecker(workers=1, deadline=deadline, policy=EquivalenceRules(form="any")) as checker:
        checker.check_sync(r"\boxed{1}", r"\int_0^1 2x dx")
        verdicts = [
            checker.check_sync(rf"\boxed{{{bomb.format(number)}}}", r"\int_0^1 t^2 dt")
            for number, bomb in itertools.islice(numbers, count)
        ]
    seconds = sorted(verdict.seconds for verdict in verdicts)
    costly = [verdict for verdict in verdicts if verdict.reason.startswith("too costly")]
    print(
        f"{count} bombs, deadline {deadline:g} s, load {os.getloadavg()[0]:.1f}: longest {seconds[-1]:.2f} s, median "
        f"{seconds[count // 2]:.2f} s, {sum(one > deadline + 0.5 for one in seconds)} over it by more than 0.5 s, "
        f"{len(costly)} too costly, {dict(Counter(verdict.status.value for verdict in verdicts))}"
    )


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
    arguments.add_argument("--bombs", type=int, default=0, help="judge so many answers that never end, and stop")
    arguments.add_argument("--deadline", type=float, default=2.0, help="seconds a bomb has")
    chosen = arguments.parse_args()

    if chosen.bombs:
        bombs(chosen.bombs, chosen.deadline)
        return
    first = {"plain": first_check(r"\boxed{42}", "42"), "opaque": first_check(r"\boxed{1}", r"\int_0^1 2x dx")}
    with MathChecker() as checker:
        results = [
            compare(kind, chosen.checks if kind == "plain" else max(chosen.checks // 3, 20), chosen.rounds, checker)
            for kind in KINDS
        ]
    heads = ("ours / min", "math-verify", "ratio", "CPU ms", "theirs", "right", "theirs")
    print(f"{'rows':<12}" + "".join(f"{head:>13}" for head in heads))
    for one in results:
        print(
            f"{one.rows:<12}{one.ours_a_minute:>13,.0f}{one.math_verify_a_minute:>13,.0f}{one.ratio:>13.1f}"
            f"{one.ours_cpu_ms:>13.2f}{one.math_verify_cpu_ms:>13.2f}{one.ours_right:>13.1%}"
            f"{one.math_verify_right:>13.1%}"
        )
    print(f"first check after start: {first['plain']:.2f} s plain, {first['opaque']:.2f} s opaque (target 2 s)")
    print(f"plain rows: {results[0].ratio:.1f} times math-verify (target {TARGET:g})")
    if chosen.json is not None:
        figures = {"results": [asdict(result) for result in results], "first_check_seconds": first}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
