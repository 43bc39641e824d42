"""Calls with the values they must return."""

import math
from collections.abc import Callable
from typing import Any


class Mismatch(Exception):
    """A call returned another value than expected. Not told which: the reason goes into prompts."""


def check_case(function: Callable[..., Any], case: dict[str, Any], tolerance: float) -> None:
    """One call with its expected value."""
    value = function(*case["args"], **case["kwargs"])
    if not same(value, case["expected"], tolerance):
        raise Mismatch("not the expected value")


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality as `==` has it, but tuples count as lists (JSON has no tuples), at every depth; floats within `tolerance`."""
    if type(value) is float or type(expected) is float:
        return _is_number(value) and _is_number(expected) and (value == expected or _near(value, expected, tolerance))
    if type(expected) in (list, tuple):
        fits = isinstance(value, (list, tuple)) and len(value) == len(expected)
        return fits and all(same(mine, theirs, tolerance) for mine, theirs in zip(value, expected, strict=True))
    if type(expected) is dict:
        if not isinstance(value, dict) or value.keys() != expected.keys():
            return False
        return all(same(value[key], item, tolerance) for key, item in expected.items())
    return bool(value == expected)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def _near(value: float, expected: float, tolerance: float) -> bool:
    return tolerance > 0 and math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
