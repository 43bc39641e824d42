"""What symbols stand for: constants for themselves, variables for fixed complex numbers. `context` is an mpmath context."""

import hashlib
from typing import Any

from selfcorrect.rewards.maths.bounds import Value


def value_of_symbol(name: str, point: int, context: Any) -> Value:
    if name == "pi":
        return +context.pi
    if name == "e":
        return +context.e
    if name in ("i", "I"):
        return context.mpc(0, 1)
    return stand_in(name, point, context)


def stand_in(name: str, point: int, context: Any) -> Value:
    """A fixed complex number for a variable, in another quadrant for every point; size between 0.3 and 1.8."""
    digest = hashlib.blake2b(f"{point}:{name}".encode(), digest_size=16).digest()
    real, imaginary = (0.3 + int.from_bytes(digest[part : part + 8]) / 2**64 for part in (0, 8))
    signs = ((1, 1), (-1, 1), (-1, -1))[point % 3]
    return context.mpc(signs[0] * real, signs[1] * imaginary)
