"""The second tier: expressions that our own evaluator cannot decide go to math-verify, in worker processes."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.rewards.maths.tokens import FUNCTIONS, GREEK
from selfcorrect.rewards.maths.value_comparison import Pair
from selfcorrect.rewards.worker_pool import Outcome, WorkerPool

HANDLER = "selfcorrect.rewards.maths.symbolic_worker:judge"
MAX_PAIRS = 40
_INDEX = re.compile(r"_\s*\{[^{}]*\}")
_MARKS = re.compile(r"(?<=[\d)}])\s*_\s*\{?\w+|'|\\circ|%|\"[^\"]*\"|\\[lcv]?dots|\.\.\.")
_FOREIGN = re.compile(rf"(?!(?:{'|'.join((*FUNCTIONS, *GREEK))})(?![a-zA-Z]))(?<![a-zA-Z])[a-zA-Z]{{3,}}|[$€£#&@?]")
"""Words and signs that belong in no formula; math-verify would read a word as a product of its letters."""
_RELATION = re.compile(r"<|>|=|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|\\equiv|\\approx|\\sim")


@dataclass(frozen=True, slots=True)
class Findings:
    """What became of a question to math-verify.

    Attributes:
        verdicts: for every pair, or empty if there are none.
        problem: "" if there are verdicts; otherwise what went wrong.
        blame: whose fault that is: "answer", "reference" or "judge".
    """

    verdicts: dict[Pair, bool]
    problem: str = ""
    blame: str = ""


def worth_asking(pair: Pair) -> bool:
    """Filters for math-verify's known wrong verdicts: what it drops in reading must be the same on both sides.

    It drops primes, degrees, per cent, words and indices of numbers; of equations it compares right sides.
    """
    reference, answer = pair
    if _FOREIGN.search(re.sub(r"\\[a-zA-Z]+", " ", answer)):
        return False
    if Counter(_MARKS.findall(reference)) != Counter(_MARKS.findall(answer)):
        return False
    return _relations(reference) == _relations(answer)


def _relations(text: str) -> list[str]:
    """The relation signs outside of indices: the one in \\sum_{k=1}^n does not count."""
    return _RELATION.findall(_INDEX.sub("", text))


def findings(pairs: Sequence[Pair], outcome: Outcome) -> Findings:
    """Read the outcome of a job over `pairs`.

    A worker that spent its time computing was kept busy by what it was given: the text it was reading, or, while it
    compared, the answer. One that hardly ran was starved by the machine: nobody's fault.
    """
    if outcome.kind == "done":
        if None in outcome.result:
            return Findings({}, "the reference cannot be read as mathematics", "reference")
        return Findings({pair: bool(said) for pair, said in zip(pairs, outcome.result, strict=True)})
    fault = "reference" if outcome.stage in ("", "reference") else "answer"
    if outcome.kind == "timed out":
        busy = outcome.kept_busy
        return Findings(
            {}, f"too costly: {outcome.result}" if busy else "the machine was too busy", fault if busy else "judge"
        )
    if outcome.kind == "failed" and outcome.result in ("MemoryError", "RecursionError"):
        return Findings({}, f"too costly: {outcome.result}", fault)
    if outcome.kind == "crashed":
        return Findings({}, f"too costly: it crashed two workers ({outcome.result})", fault)
    return Findings({}, f"the judge failed: {outcome.result}", "judge")


def open_pool(deadline: float, memory_mb: int, workers: int | None) -> WorkerPool:
    return WorkerPool(HANDLER, workers=workers, deadline=deadline, memory_mb=memory_mb)
