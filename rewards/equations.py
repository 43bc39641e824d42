"""The judge of equations in positive whole numbers: every step and every value is checked in exact arithmetic."""

import re
import time
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from selfcorrect.rewards.answer_keys import equation_values, unknowns_of
from selfcorrect.rewards.checker import Status, Verdict

_STEP = re.compile(
    r"(?<![\w.])([0-9]{1,9})\s{0,9}([-/−÷])\s{0,9}([0-9]{1,9})\s{0,9}=\s{0,9}([0-9]{1,9})(?!\w|\.[0-9]|\s{0,9}[-−+*/×÷=^])"
)
_ASCII_OPERATOR = {"−": "-", "÷": "/"}
_MAX_RESPONSE = 20_000
_NAMES = "xyzw"

Step = tuple[int, str, int, int]
"""left, "-" or "/", right, result."""


class EquationChecker:
    """Judges "96 - 33 = 63 ; 63 - 28 = 35 ; 35 / 5 = 7" against `{"coefficients": [11, 7, 5], "total": 96}`: 11 x + 7 y
    + 5 z = 96.

    Rules: n unknowns need n steps. The first n - 1 take something away, beginning with the total, each going on with
    what the one before left; the last divides the rest by a coefficient. Every step is true. What is taken away are
    positive multiples of the other coefficients, one of each in any order, and the quotient is a positive whole number:
    then the unknowns are known, and solve the equation. When a response holds more steps (an earlier try, say), the
    last n count. No step at all is UNREADABLE.
    """

    def check_sync(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """Judge `response`; linear in its length, of which the last 20,000 characters are read. The reference
        is the whole problem, so `problem` tells nothing more."""
        start = time.perf_counter()
        coefficients, total = list(reference["coefficients"]), reference["total"]
        status, answer, reason = _judge(response[-_MAX_RESPONSE:], coefficients, total)
        return Verdict(status, answer, reason, time.perf_counter() - start)

    async def check(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """As `check_sync`; it takes microseconds, so it runs on the event loop itself."""
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        """Why `reference` is no such equation, or None."""
        if not isinstance(reference, Mapping) or not {"coefficients", "total"} <= set(reference):
            return "expected {'coefficients': [...], 'total': N}"
        coefficients, total = reference["coefficients"], reference["total"]
        if not isinstance(coefficients, list | tuple) or not 2 <= len(coefficients) <= len(_NAMES):
            return f"'coefficients' must be two to four numbers, got {coefficients!r}"
        if not all(type(number) is int and number >= 1 for number in [*coefficients, total]):
            return f"'coefficients' and 'total' must be positive whole numbers, got {coefficients!r} and {total!r}"
        return None

    def answer_key(self, response: str, problem: str) -> str | None:
        """The values of the unknowns, as far as the steps tell them."""
        return equation_values(response, unknowns_of(problem))


def _judge(response: str, coefficients: Sequence[int], total: int) -> tuple[Status, str | None, str]:
    steps = [_step(*found) for found in _STEP.findall(response)[-len(coefficients) :]]
    if not steps:
        return Status.UNREADABLE, None, "no step of the form 'a - b = c' or 'a / b = c' was found"
    answer = " ; ".join(map(_written, steps))
    if len(steps) < len(coefficients):
        return Status.WRONG, answer, f"{len(coefficients)} unknowns need {len(coefficients)} steps, found {len(steps)}"
    fault = _fault_of_form(steps, total) or next(filter(None, map(_falsehood, steps)), "")
    if fault:
        return Status.WRONG, answer, fault
    values = _values(steps, coefficients)
    if values is None:
        return Status.WRONG, answer, "what is taken away are no multiples of the other coefficients, one of each"
    solution = ", ".join(f"{name} = {value}" for name, value in zip(_NAMES, values, strict=False))
    return Status.CORRECT, answer, f"{solution} solves the equation"


def _step(left: str, operator: str, right: str, result: str) -> Step:
    return int(left), _ASCII_OPERATOR.get(operator, operator), int(right), int(result)


def _written(step: Step) -> str:
    left, operator, right, result = step
    return f"{left} {operator} {right} = {result}"


def _fault_of_form(steps: Sequence[Step], total: int) -> str:
    """What is wrong with the order of the steps, or ""."""
    rest = total
    for number, step in enumerate(steps, start=1):
        operator = "/" if number == len(steps) else "-"
        if step[1] != operator:
            return f"step {number}, '{_written(step)}', should {'divide' if operator == '/' else 'take away'}"
        if step[0] != rest:
            return f"step {number}, '{_written(step)}', should go on with {rest}"
        rest = step[3]
    return ""


def _falsehood(step: Step) -> str:
    """Why a step is false, or ""."""
    left, operator, right, result = step
    if operator == "-":
        return "" if left - right == result else f"'{_written(step)}' is false: it makes {left - right}"
    if right == 0:
        return f"'{_written(step)}' divides by zero"
    if result * right == left:
        return ""
    return f"'{_written(step)}' is false: {result} * {right} = {result * right}"


def _values(steps: Sequence[Step], coefficients: Sequence[int]) -> list[int] | None:
    """The unknowns in the equation's order, from true steps in the right order; None if the steps do not settle
    them."""
    amounts = [step[2] for step in steps[:-1]] + [steps[-1][0]]
    for order in permutations(range(len(coefficients))):
        if coefficients[order[-1]] != steps[-1][2]:
            continue
        if all(amount > 0 and amount % coefficients[place] == 0 for place, amount in zip(order, amounts, strict=True)):
            by_place = {place: amount // coefficients[place] for place, amount in zip(order, amounts, strict=True)}
            return [by_place[place] for place in range(len(coefficients))]
    return None
