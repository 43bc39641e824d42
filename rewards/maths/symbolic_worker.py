"""The job of a worker process: what math-verify says about pairs of expressions. Runs nowhere but in a killable worker.

math-verify's own time limits (signal.alarm) are off: the parent kills this process instead.
"""

import logging
from collections.abc import Callable
from typing import Any

from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

_LATEX_ONLY = [
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        ),
        boxed_match_priority=-1,
    )
]
"""Formulas alone: math-verify's reading of plain expressions goes through sympy's parse_expr, which no answer may
reach."""
_ROUNDING = 30

logging.disable(logging.CRITICAL)


def judge(pairs: list[tuple[str, str]], report: Callable[[str], None]) -> list[bool | None]:
    """For each (reference, answer): whether they are equal; None if the reference cannot be parsed."""
    verdicts: list[bool | None] = []
    for reference, answer in pairs:
        report("reference")
        gold = _parsed(reference)
        if not gold:
            verdicts.append(None)
            continue
        report("answer")
        found = _parsed(answer)
        report("comparison")
        verdicts.append(bool(found) and _same(gold[0], found[0]))
    return verdicts


def _parsed(text: str) -> list[Any]:
    found: list[Any] = parse(
        f"${text}$", _LATEX_ONLY, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
    )
    return found


def _same(reference: Any, answer: Any) -> bool:
    if reference.__class__.__name__ in _CONTAINERS or answer.__class__.__name__ in _CONTAINERS:
        return bool(type(reference) is type(answer) and reference == answer)
    return bool(
        verify(reference, answer, float_rounding=_ROUNDING, numeric_precision=2 * _ROUNDING, timeout_seconds=None)
    )


def _warm_up() -> None:
    """The first use of a grammar rule or of simplify is slow; that must not count against anybody's deadline."""
    pairs = [(r"\sqrt{2}+\frac{x^2}{3}", r"\frac{x^2}{3}+2^{1/2}"), (r"\int_0^1 x dx", r"\sin(0)+\frac{1}{2}")]
    judge(pairs, lambda stage: None)


_CONTAINERS = ("FiniteSet", "Tuple", "Interval", "Union")  # structure is the parent's to judge, not math-verify's

_warm_up()
