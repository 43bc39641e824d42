"""A whole program, judged by what it prints: its process has the program's input and output, and nothing of the
tests."""

import os
import sys
import traceback
import types

from selfcorrect.rewards import framing

_CHANNEL = 3
_MAX_TEXT = 400


def run() -> None:
    """The role of a child for programs judged by what they print: the program comes on 3; 4 and 5 are its input and
    output."""
    program = framing.Channel(_CHANNEL).receive()
    os.close(_CHANNEL)
    if "threading" in program:
        _run_threads_in_turn()
    for standard, own in ((0, 4), (1, 5), (2, 6)):
        os.dup2(own, standard)
        os.close(own)
    _run(program)


def _run_threads_in_turn() -> None:
    """Where threads are refused, let a thread that the program starts with a function of its own run at once, to its
    end: contest programs start one for its larger stack."""
    import threading

    begin = threading._start_new_thread  # type: ignore[attr-defined]
    try:
        begin(int, ())
        return  # threads are allowed
    except RuntimeError:
        threading.stack_size(0)

    def start(thread: threading.Thread) -> None:
        if getattr(thread._target, "__module__", None) != "__main__":  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")
        thread._started.set()  # type: ignore[attr-defined]
        thread.run()

    threading.Thread.start = start  # type: ignore[assignment, method-assign]
    threading.Thread.join = lambda self, timeout=None: None  # type: ignore[method-assign]
    threading.Thread.is_alive = lambda self: False  # type: ignore[method-assign]


def _run(program: str) -> None:
    """Run a program as `python program.py` would, and end this process as that would."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    code = 0
    try:
        exec(compile(program, "solution.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - in the jail
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException as error:  # noqa: BLE001 - told to the parent
        sys.stderr.write("".join(traceback.format_exception_only(error))[-_MAX_TEXT:])
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)
