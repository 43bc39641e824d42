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
    return PreparedCall(function, *arguments)()


def give_back_free_memory() -> None:
    """Give memory that was freed back to the kernel, where the C library can (glibc)."""
    trim = getattr(libc(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


class PreparedCall:
    """The same, made in one process and called in another that it forks."""

    def __init__(self, function: Callable[..., int], *arguments: Any) -> None:
        self._function = function
        self._arguments = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]

    def __call__(self) -> int:
        result = self._function(*self._arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
