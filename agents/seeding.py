"""Seeds without state: every draw is a function of (seed, position), never of what else shares a batch.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_UNIFORM_BITS = 48


def derive_seed(seed: int, index: int) -> int:
    """The `index`-th child of `seed`: a whole number in [0, 2**63), the same on every machine."""
    state = _finalise(_finalise(seed & _MASK) + (index + 1) * _GAMMA & _MASK)
    return state >> 1


def uniforms(seeds: "npt.NDArray[np.uint64]", position: int) -> "npt.NDArray[np.float64]":
    """One uniform number in [0, 1) for each of `seeds` (B,) at `position`, a multiple of 2**-48."""
    import numpy as np

    offset = np.uint64((position + 1) * _GAMMA & _MASK)
    state = seeds + offset  # unsigned arithmetic on arrays wraps, as SplitMix64 wants
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX2)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(64 - _UNIFORM_BITS)).astype(np.float64) * 2.0**-_UNIFORM_BITS


def seed_array(seeds: Sequence[int]) -> "npt.NDArray[np.uint64]":
    """`seeds` as the array that `uniforms` takes; each is mixed first, so that neighbours do not resemble each
    other."""
    import numpy as np

    return np.array([_finalise(seed & _MASK) for seed in seeds], dtype=np.uint64)


def _finalise(state: int) -> int:
    state = (state ^ (state >> 30)) * _MIX1 & _MASK
    state = (state ^ (state >> 27)) * _MIX2 & _MASK
    return state ^ (state >> 31)
