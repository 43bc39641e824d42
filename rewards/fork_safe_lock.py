"""A lock for objects that live on in forked children."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ForkSafeLock:
    """A lock that a forked child finds open, whoever held it in the parent: the thread that did is not in the child.

    For module level: every one made is remembered until the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a `with` block."""
        with self._lock:
            yield
