"""What holds for all tests, however many of them run at once."""

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # until all is imported, of which nothing is garbage

# How long an example takes, or is drawn, is the machine's business and not a fault.
settings.register_profile("under load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("under load")

# TRL imports MLflow wherever it is installed, which is a fifth of the start of every process that trains.
os.environ["DISABLE_MLFLOW_INTEGRATION"] = "TRUE"

# What a shell starts in the background does not hear Ctrl-C, nor do its children: who presses it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int | None:
    """One more worker than cores: there is always a test that waits, for a process, a clock or a kill."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist itself reads it
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Takes Python's place in a command, and has done its imports; one for all workers."""
    from warm_processes import warm_python

    folder, divided = tmp_path_factory.getbasetemp(), "PYTEST_XDIST_WORKER" in os.environ
    return warm_python((folder.parent if divided else folder) / "warm", os.getppid() if divided else os.getpid())


LONGEST = ("test_pages.py", "test_notebooks.py", "test_reproduce.py", "test_sharding.py", "test_several_processes.py")
"""Modules with tests of a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules come first, then others with slow tests, so that at the end no core waits for one test.
    Modules stay together, for what their fixtures make."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))


def pytest_collection_finish() -> None:
    """Look for garbage again, but never in what was imported: that is a second of work whenever it is done."""
    gc.enable()
    gc.freeze()
