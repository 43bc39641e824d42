"""System calls that Python has no function for, by ctypes."""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library this process already runs on."""
    return ctypes.CDLL(None, use_errno=True)


def system_call(function: Callable[..., int], *arguments: Any) -> int:
    """Call a C function that returns -1 and sets errno on failure; integers are passed as 64 bits.

    Raises:
        OSError: it failed.
    """
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = function(*wide)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
