"""The judge of Countdown answers: every step and the final value are checked with exact sympy arithmetic."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from selfcorrect.rewards.answer_keys import countdown_expression, countdown_last_equation, countdown_steps, steps_of
from selfcorrect.rewards.checker import Status, Verdict

_STEP = re.compile(
    r"(?<![\w.])(\d{1,9}(?:/\d{1,9})?)\s*([-+*/x×÷])\s*(\d{1,9}(?:/\d{1,9})?)\s*=\s*(\d{1,9}(?:/\d{1,9})?)(?![\w.])"
)
_ASCII_OPERATOR = {"x": "*", "×": "*", "÷": "/"}
_MAX_RESPONSE = 20_000


class CountdownChecker:
    """Judges answers written as steps, "3 + 5 = 8 ; 8 * 7 = 56", against `{"numbers": [3, 5, 7], "target": 56}`.

    Rules: n numbers need n - 1 steps; each operand is a given number or an earlier result, used once; each equation is
    true in exact rational arithmetic; the last result is the target, and nothing is left over. When a response holds
    more steps than that (an earlier try, say), the last n - 1 count. No step at all is UNREADABLE.
    """

    def check_sync(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """Judge `response`; linear in its length, of which the last 20,000 characters are read. The reference
        is the whole problem, so `problem` tells nothing more."""
        start = time.perf_counter()
        status, answer, reason = self._judge(response[-_MAX_RESPONSE:], list(reference["numbers"]), reference["target"])
        return Verdict(status, answer, reason, time.perf_counter() - start)

    async def check(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """As `check_sync`; it takes microseconds, so it runs on the event loop itself."""
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        """Why `reference` is no Countdown problem, or None."""
        if not isinstance(reference, Mapping) or not {"numbers", "target"} <= set(reference):
            return "expected {'numbers': [...], 'target': N}"
        numbers, target = reference["numbers"], reference["target"]
        if (
            not isinstance(numbers, list | tuple)
            or len(numbers) < 2
            or not all(type(n) is int and n >= 0 for n in numbers)
        ):
            return f"'numbers' must be two or more whole numbers, got {numbers!r}"
        if type(target) is not int:
            return f"'target' must be a whole number, got {target!r}"
        return None

    def answer_key(self, response: str, problem: str) -> str | None:
        """The last equation; see `answer_keys`."""
        return countdown_last_equation(response, steps_of(problem))

    def strict_answer_key(self, response: str, problem: str) -> str | None:
        """All equations: different ways to the target are different answers."""
        return countdown_expression(response, steps_of(problem))

    def final_answer(self, response: str, problem: str) -> str:
        """The last steps, as many as the problem needs."""
        return countdown_steps(response, steps_of(problem))

    def _judge(self, response: str, numbers: list[int], target: int) -> tuple[Status, str | None, str]:
        from sympy import Integer

        steps = _STEP.findall(response)[-(len(numbers) - 1) :]
        if not steps:
            return Status.UNREADABLE, None, "no step of the form 'a + b = c' was found"
        answer = " ; ".join(f"{left} {operator} {right} = {result}" for left, operator, right, result in steps)
        if len(steps) < len(numbers) - 1:
            return Status.WRONG, answer, f"{len(numbers)} numbers need {len(numbers) - 1} steps, found {len(steps)}"
        left_over = Counter(Integer(n) for n in numbers)
        for step in steps:
            problem, value = _play(step, left_over)
            if problem:
                return Status.WRONG, answer, problem
        if value != target:
            return Status.WRONG, answer, f"the steps reach {value}, not {target}"
        return Status.CORRECT, answer, f"the steps reach {target}"


def _play(step: tuple[str, str, str, str], left_over: Counter[Any]) -> tuple[str, Any]:
    """Apply one step to the multiset of values still to be used; returns (what is wrong or "", the value reached)."""
    left, operator, right, claimed = (_rational(step[0]), step[1], _rational(step[2]), _rational(step[3]))
    written = f"{step[0]} {operator} {step[2]} = {step[3]}"
    if left is None or right is None or claimed is None:
        return f"'{written}' divides by zero", None
    for operand in (left, right):
        if left_over[operand] < 1:
            return f"in '{written}', {operand} is not available", None
        left_over[operand] -= 1
    value = _apply(left, _ASCII_OPERATOR.get(operator, operator), right)
    if value is None:
        return f"'{written}' divides by zero", None
    if value != claimed:
        return f"'{written}' is false: it makes {value}", None
    left_over[value] += 1
    return "", value


def _rational(text: str) -> Any:
    """A digits-only literal ("7" or "7/2") as a sympy number, None for a zero denominator. Never parses expressions."""
    from sympy import Integer, Rational

    numerator, _, denominator = text.partition("/")
    if not denominator:
        return Integer(int(numerator))
    return Rational(int(numerator), int(denominator)) if int(denominator) else None


def _apply(left: Any, operator: str, right: Any) -> Any:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left / right if right != 0 else None
