"""Program and tests in one process, for tests that no stand-in can serve: as if they were one file.

What is reported here is the program's word as much as the tests': it can read them, and change whatever it likes. The
parent (`rewards/code/together.py`) therefore believes no single run. It has the tests run in several processes, with
what some of them expect changed, and only it knows where.
"""

import builtins
import importlib
import sys
import types
from typing import Any

from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.inside import frameworks
from selfcorrect.rewards.sandbox.inside.candidate import run_without_input
from selfcorrect.rewards.sandbox.inside.suite import (
    FAILED,
    PASSED,
    POINT_FAILED,
    POINT_HELD,
    RUN_CASE,
    RUN_EXAMPLE,
    RUN_FUNCTION,
    TestCode,
    UnusableTests,
)

_CHANNEL = 3
_MAX_TEXT = 300


def run() -> None:
    """The role of a child: load a program, then, and not before, hear the tests, and run them."""
    channel = framing.Channel(_CHANNEL)
    try:
        job = channel.receive()
        modules = _loaded()
        space, problem = _load(job["program"], job["given"])
        channel.send(problem or {"loaded": True})
        if problem is None:
            tests = channel.receive()
            _put_back(modules)
            _run(channel, space, tests["code"], tests["entry_point"])
    except framing.ChannelClosed:
        return


def _load(program: str, given: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The namespace of the program, and what kept it from loading."""
    module = sys.modules["solution"] = types.ModuleType("solution")
    try:
        exec(compile(given, "given.py", "exec", dont_inherit=True), vars(module))  # noqa: S102 - in the jail
        code = compile(program, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return {}, {"unloadable": _told(error), "readable": False}
    try:
        try:
            exec(code, vars(module))  # noqa: S102 - in the jail
        except EOFError:  # it reads input, and there is none
            run_without_input(program, vars(module))
    except BaseException as error:  # noqa: BLE001 - whatever a program raises
        return {}, {"unloadable": _told(error), "readable": True}
    return vars(module), None


def _loaded() -> dict[str, tuple[types.ModuleType, dict[str, Any]]]:
    """The modules that are loaded, with what is in them."""
    kept = {name: module for name, module in sys.modules.items() if isinstance(module, types.ModuleType)}
    return {name: (module, dict(vars(module))) for name, module in kept.items() if module is not sys}


def _put_back(modules: dict[str, tuple[types.ModuleType, dict[str, Any]]]) -> None:
    """Undo what the program did to modules while it loaded: `math.isclose = lambda *_: True`."""
    for name, (module, before) in modules.items():
        vars(module).update(before)
        sys.modules[name] = module


def _run(channel: framing.Channel, program: dict[str, Any], code: str, entry_point: str | None) -> None:
    """Run the tests and report: `{"tests": n}`, `{"unit": k, "why": text or null}` and `{"point": k, "held": bool}` as
    they come, and at last `{"done": true}` or `{"unusable": why}`."""
    try:
        tests = TestCode(code, entry_point)
    except UnusableTests as problem:
        channel.send({"unusable": str(problem)[:_MAX_TEXT]})
        return
    channel.send({"tests": tests.count})

    def held(number: int) -> None:
        channel.send({"point": number, "held": True})

    def not_held(number: int) -> None:
        channel.send({"point": number, "held": False, "why": _failure()})

    space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    space |= {name: importlib.import_module(name) for name in tests.modules}
    own = {name for name in program if not hasattr(builtins, name) and name[:2] != "__"}
    space |= {name: program[name] for name in own or program}  # tests of a function called `sum` use nothing else
    if entry_point in program:
        space[str(entry_point)] = program[str(entry_point)]
    space[PASSED] = lambda number: channel.send({"unit": number, "why": None})
    space[FAILED] = lambda number: channel.send({"unit": number, "why": _failure()})
    space |= {POINT_HELD: held, POINT_FAILED: not_held}
    if "pytest" in tests.names or {RUN_CASE, RUN_FUNCTION, RUN_EXAMPLE} & tests.names:
        sys.modules["pytest"] = frameworks.pytest_module()
        space |= {RUN_CASE: frameworks.run_case, RUN_FUNCTION: frameworks.run_function}
        space[RUN_EXAMPLE] = lambda number: frameworks.run_example(tests.examples[number], space)
    try:
        exec(tests.program, space)  # noqa: S102 - in the jail
    except Exception as error:  # noqa: BLE001 - between the tests
        channel.send({"stopped": _told(error)})
    channel.send({"done": True})


def _failure() -> str:
    """Why a test failed, without the test's own message, which often tells what was expected."""
    error = sys.exc_info()[1]
    return "an assertion of the test failed" if isinstance(error, AssertionError) else _told(error)


def _told(error: BaseException | None) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_MAX_TEXT].removesuffix(": ")
    except BaseException:  # noqa: BLE001 - a hostile __str__
        return type(error).__name__[:_MAX_TEXT]
