"""A lock that survives a fork."""

import os
import threading

import pytest

from selfcorrect.rewards.process_pool import ForkSafeLock

LOCK = ForkSafeLock()


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # the very thing tried, from Python 3.12
def test_a_child_forked_while_another_thread_holds_the_lock_can_take_it() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with LOCK.held():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with LOCK.held():
            os.write(write, b"taken")
        os._exit(0)
    os.close(write)
    told = os.read(read, 5)
    os.close(read)
    os.waitpid(pid, 0)
    done.set()
    thread.join()
    assert told == b"taken"


def test_only_one_at_a_time_holds_it() -> None:
    order: list[str] = []
    with LOCK.held():
        thread = threading.Thread(target=lambda: _note(order))
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def _note(order: list[str]) -> None:
    with LOCK.held():
        order.append("second")
