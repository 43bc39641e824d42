"""How far values are computed and to how many digits, and what is raised where they are not."""

import threading
from importlib import import_module
from typing import Any

DIGITS = 60
MAX_BITS = 4096
MAX_LOG = 2e4
"""Natural logarithm of the largest power that is computed."""
MAX_FACTORIAL = 300
MAX_ROOT = 64
MAX_TRIGONOMETRIC = 1e9

Value = Any  # Fraction, or an mpmath number: mpmath has no types


class TooCostly(Exception):
    """The value lies beyond the bounds of what is computed."""


class NoValue(Exception):
    """Undefined (division by zero), infinite, or notation without a value here."""


_local = threading.local()


def arithmetic(digits: int = DIGITS) -> Any:
    """An mpmath context of this thread (mpmath's global one is not safe to share between threads)."""
    contexts = _local.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        context = import_module("mpmath").MPContext()  # not before it is needed; it has no types
        context.dps = digits
        contexts[digits] = context
    return contexts[digits]
