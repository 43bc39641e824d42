"""The side of the tests: runs them, and alone reports to the parent.

The program's process answers on descriptor 4; the parent hears on 3. A test passes when its statement was run to the
end and nothing went wrong on the way that no test may forgive (`Session.fault`).
"""

import builtins
import contextlib
import functools
import importlib
import itertools
import operator
import os
import random
import re
import socket
import sys
from typing import Any

from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.inside import REHEARSALS, attacks, script
from selfcorrect.rewards.sandbox.inside.foresight import Call
from selfcorrect.rewards.sandbox.inside.mirrors import Mirrors, SolutionModule
from selfcorrect.rewards.sandbox.inside.session import Session, Unloadable
from selfcorrect.rewards.sandbox.inside.suite import (
    CASE_FAILED,
    CASE_PASSED,
    CASES_OVER,
    FAILED,
    PASSED,
    RUN_CASE,
    RUN_EXAMPLE,
    RUN_FUNCTION,
    Mismatch,
    TestCode,
    UnusableTests,
    check_case,
    names_in,
)
from selfcorrect.rewards.sandbox.inside.wording import Exchange, one_line

PARENT, FIRST_PROGRAM = 3, 4
_UNLIKE = "an assertion of the test failed"
_ROOT = re.compile(r"\b([a-z_]\w*)\s*\.")


def run() -> None:
    """The role of a child: a job and its report, and another if nothing of the tests' own code was run.

    Every program has a connection of its own: descriptors 4, 5, ... in the order of the jobs.
    """
    parent = framing.Channel(PARENT)
    try:
        for program in itertools.count(FIRST_PROGRAM):
            tester = Tester(parent, program)
            if program > FIRST_PROGRAM:
                os.close(program - 1)  # only now: the last program would notice, and end by itself before it is killed
            if not tester.run():
                return
    except framing.ChannelClosed:
        return


class Tester:
    """Runs the tests of one job and reports to the parent.

    The report: `{"tests": n}`, any number of `{"results": [[number, why or null], ...], "now": text, "answers": n}`,
    and at last one of `{"done": true, "gone": bool}`, `{"unloadable": why, "readable": bool, "gone": bool}`,
    `{"unusable": why}`.
    "gone": the program's process closed its connection; the parent finds out why. "again": this process takes another
    job.
    """

    def __init__(self, parent: framing.Channel, program: int) -> None:
        self._parent = parent
        self._job: dict[str, Any] = parent.receive()
        self._results: list[tuple[int, str | None]] = []
        self._told: set[int] = set()
        self._cases: dict[int, list[str | None]] = {}
        self._session = Session(program, self._is_slow)
        self._clean = not self._job["given"]

    def run(self) -> bool:
        """Do the job; whether this process is as it was before."""
        suite = self._job["suite"]
        try:
            self._run_cases(suite) if suite["kind"] == "calls" else self._run_code(suite)
        except Unloadable as problem:
            self._end({"unloadable": one_line(str(problem)), "readable": problem.readable, "gone": self._session.gone})
        except UnusableTests as problem:
            self._end({"unusable": one_line(str(problem))})
        else:
            again = self._clean and not self._session.gone
            self._end({"done": True, "gone": self._session.gone, "again": again})
            return again
        return False

    def _run_cases(self, suite: dict[str, Any]) -> None:
        self._report({"tests": len(suite["cases"])})
        root, _, method = suite["function"].partition(".")
        foreseen = [] if method else [(root, tuple(case["args"]), case["kwargs"]) for case in suite["cases"]]
        names = self._session.load(self._job["program"], self._job["given"], calls=foreseen)
        if root.removesuffix("()") not in names:
            what = "class" if method else "function"
            raise Unloadable(f"the program defines no {what} {root.removesuffix('()')!r}", readable=True)
        self._clean = self._clean and not method
        for number, case in enumerate(suite["cases"]):
            try:
                check_case(self._callable(root, method, names), case, suite)
            except Exception:  # noqa: BLE001 - whatever it is, the test has failed
                self._failed(number)
            else:
                self._passed(number)

    def _callable(self, root: str, method: str, names: dict[str, str]) -> Any:
        """A function, or a method: of the class itself, or of a new object where the name says `Class().method`."""
        if not method:
            return self._session.function(root)
        name = root.removesuffix("()")
        owner = self._session.named(name, names[name])
        return operator.attrgetter(method)(owner() if root.endswith("()") else owner)

    def _run_code(self, suite: dict[str, Any]) -> None:
        entry_point = suite.get("entry_point")
        sources = suite["code"] if isinstance(suite["code"], str) else tuple(suite["code"])
        code = _test_code(sources, entry_point, bool(self._job.get("by_case")))
        self._clean = self._clean and code.leaves_nothing
        space, names = self._given(entry_point)
        self._report({"tests": code.count})
        mirrors = Mirrors(self._session, code.names)
        foreseen = [(str(entry_point) if n == code.candidate else n, args, kwargs) for n, args, kwargs in code.calls()]
        ours = space.keys() | code.modules  # names that are not the program's, whatever it defines
        certain = mirrors.idle and not any(name in ours for name, _, _ in foreseen)
        defined = self._session.load(
            self._job["program"],
            self._job["given"],
            echo=mirrors.echo,
            calls=foreseen if certain else [],
            names=(code.names | names) - ours,
        )
        plain = code.plain and self._session.ahead == len(foreseen)
        if plain and not code.begins_with_imports:
            self._run_plain(foreseen, code.expected())
            return
        mirrors.start(SolutionModule(self._session, defined))
        if "random" in code.names:
            random.seed(0)  # as in a fresh process, whatever other tests did here
        try:
            space.update({name: importlib.import_module(name) for name in code.modules - space.keys()})
            if plain:
                exec(code.beginning, space)  # noqa: S102 - the data set's code
                self._run_plain(foreseen, code.expected())
            else:
                self._bind(space, code.names | names, defined)
                if entry_point in defined:
                    space[entry_point] = self._session.named(entry_point, defined[entry_point])
                self._run_all(code, space)
        except BaseException as error:  # noqa: BLE001 - the tests' own code between the tests
            self._stopped(error, code, defined)
        finally:
            mirrors.stop()
        if self._session.limit is not None:
            raise UnusableTests(self._session.limit)
        if self._session.fault is not None:  # swallowed by a statement after the last test
            self._note(code.count - 1, self._session.fault)
        for number in range(code.count):
            if number not in self._told:
                self._note(number, "it was not reached")

    def _run_all(self, code: TestCode, space: dict[str, Any]) -> None:
        """Run all the code of the tests, which reports by itself how each of them went."""
        space.update({PASSED: self._passed, FAILED: self._failed, **_runners(code, space)})
        space.update({CASE_PASSED: self._case, CASE_FAILED: self._case, CASES_OVER: self._cases_over})
        exec(code.program, space)  # noqa: S102 - the data set's code

    def _run_plain(self, calls: list[Call], expected: list[Any]) -> None:
        """What `assert f(2) == 4` does, without the way over Python's compiler: most suites hold nothing else."""
        unlike = 0
        for number, ((name, _, _), value) in enumerate(zip(calls, expected, strict=True)):
            try:
                same = bool(self._session.next_ahead(name) == value)
            except BaseException:  # noqa: BLE001 - whatever it is, the test has failed
                self._failed(number)
                continue
            if same:
                self._passed(number)
                continue
            unlike += 1  # only the first is told in full: a verdict names no other
            self._note(number, self._why(AssertionError()) if unlike == 1 else _UNLIKE)
            self._forgive()

    def _given(self, entry_point: str | None) -> tuple[dict[str, Any], set[str]]:
        """A namespace for the tests with the functions and values that the task gives, out of the program's reach;
        names it uses.

        Its classes live with the program, so that their objects can be handed to it; so does the function under test.
        """
        space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
        if not self._job["given"]:
            return space, set()
        try:
            given = compile(self._job["given"], "given.py", "exec", dont_inherit=True)
            exec(given, space)  # noqa: S102 - as above
        except BaseException as error:  # noqa: BLE001 - the data set's fault
            raise UnusableTests(f"the code given with the task fails: {type(error).__name__}: {error}") from None
        for name, value in list(space.items()):
            if name == entry_point or isinstance(value, type) and value.__module__ == "tests":
                del space[name]
        return space, names_in(given)

    def _bind(self, space: dict[str, Any], names: set[str], defined: dict[str, str]) -> None:
        """Let the tests find the program's names, unless the task gives them or they are builtin or modules."""
        used = names & defined.keys() - space.keys()
        own = {name for name in used if not hasattr(builtins, name)}
        for name in own or used:  # tests of a function called `sum` use nothing else of the program's
            space[name] = self._session.named(name, defined[name])

    def _stopped(self, error: BaseException, code: TestCode, defined: dict[str, str]) -> None:
        """A statement between the tests raised. Whose fault is it?"""
        missing = isinstance(error, NameError) and error.name not in defined
        missing = missing or (isinstance(error, ImportError) and error.name == "solution")
        if not missing and not self._session.exchanges and self._session.fault is None:
            raise UnusableTests(f"their own code fails: {type(error).__name__}: {error}") from None
        why = self._why(error)
        for number in range(code.count):
            if number not in self._told or number == code.count - 1:  # it may have come after the last test
                self._note(number, why)

    def _passed(self, number: int) -> None:
        self._note(number, self._session.fault)
        self._forgive()

    def _failed(self, number: int) -> None:
        error = sys.exc_info()[1]
        self._clean = self._clean and isinstance(
            error, (AssertionError, Mismatch)
        )  # not out of memory, not out of stack
        self._note(number, self._why(error))
        self._forgive()

    def _case(self, number: int) -> None:
        """One round of a loop has passed, or has raised."""
        error = sys.exc_info()[1]
        self._clean = self._clean and isinstance(error, (AssertionError, type(None)))
        failed = error is not None or self._session.fault is not None
        self._cases.setdefault(number, []).append(self._why(error) if failed else None)
        self._forgive()

    def _cases_over(self, number: int) -> None:
        """The loop has come to its end: how many of its rounds passed is known, and whether all did."""
        cases = self._cases.pop(number, [])
        failed = [why for why in cases if why is not None]
        if failed:
            self._results.append((number, failed[0]))
            self._told.add(number)
            self._report({"share": [number, len(cases) - len(failed), len(cases)]})
            raise AssertionError

    def _forgive(self) -> None:
        """The next test starts without this one's fault. A program that ended stays ended: every call says so."""
        self._session.fault = self._session.last = None

    def _why(self, error: BaseException | None) -> str:
        last = self._session.last
        missing = isinstance(error, ModuleNotFoundError) and not any(error is one for one in self._session.missing)
        if missing or isinstance(error, UnusableTests):
            self._session.limit = self._session.limit or f"{type(error).__name__}: {error}"
        if self._session.fault is not None:
            return one_line(f"{last.asked()}: {self._session.fault}" if last else self._session.fault)
        told = last.told() if last is not None else ""
        if told.partition(" raised ")[1]:
            return told
        if isinstance(error, (AssertionError, Mismatch)):
            # Without the test's own message, which often tells what was expected ("2 != 5").
            return told or _UNLIKE
        name = f"{type(error).__name__}: {error}"
        return one_line(f"{told}; then {name}" if told else name)

    def _note(self, number: int, why: str | None) -> None:
        if why is None and number in self._told:
            return
        self._told.add(number)
        self._results.append((number, why))
        if len(self._results) >= 500:
            self._flush()

    def _is_slow(self, exchange: Exchange) -> None:
        self._flush(exchange.asked())

    def _flush(self, now: str = "") -> None:
        if self._results or now:
            self._report({"results": self._results, "now": now, "answers": self._session.exchanges})
            self._results = []

    def _report(self, message: dict[str, Any]) -> None:
        self._parent.send(message)

    def _end(self, last: dict[str, Any]) -> None:
        """The last message, together with the results not yet told."""
        results = [{"results": self._results, "now": "", "answers": self._session.exchanges}] if self._results else []
        self._results = []
        self._parent.send_packed(b"".join(map(framing.packed, [*results, last])))


@functools.lru_cache(maxsize=64)
def _test_code(code: str | tuple[str, ...], entry_point: str | None, by_case: bool) -> TestCode:
    """Made ready once, for all the programs this process sees with the same tests."""
    return TestCode(code if isinstance(code, str) else list(code), entry_point, by_case=by_case)


def make_ready(job: dict[str, Any]) -> None:
    """Read and compile tests before the fork: here Python is warm, in a child a page is copied for all it touches.

    Only where this loads no module, and quietly: what is wrong with the tests is told where they run.
    """
    suite = job["suite"]
    if suite["kind"] == "calls":
        return
    sources = suite["code"] if isinstance(suite["code"], str) else tuple(suite["code"])
    text = sources if isinstance(sources, str) else "".join(sources)
    used = {name for name in _ROOT.findall(text) if name in sys.stdlib_module_names}
    if used <= sys.modules.keys() and ">>>" not in text:
        with contextlib.suppress(UnusableTests):
            _test_code(sources, suite.get("entry_point"), job["by_case"])


def _runners(code: TestCode, space: dict[str, Any]) -> dict[str, Any]:
    """What the added statements call; loaded only for tests that have any."""
    if not {RUN_CASE, RUN_FUNCTION, RUN_EXAMPLE} & code.names:
        return {}
    styles = importlib.import_module("selfcorrect.rewards.sandbox.inside.frameworks")
    return {
        RUN_CASE: styles.run_case,
        RUN_FUNCTION: styles.run_function,
        RUN_EXAMPLE: lambda number: styles.run_example(code.examples[number], space),
    }


def _rehearse(tests: str, number: int) -> None:
    """A job, whose program answers `number` and those that follow."""
    parent, ours, program, theirs = (*socket.socketpair(), *socket.socketpair())
    with parent, ours, program, theirs:
        suite = {"kind": "asserts", "code": tests}
        parent.send(framing.packed({"program": "", "given": "", "suite": suite, "by_case": False}))
        answers = [["loaded", [["f", "function"]]], *(["ok", x, []] for x in range(number, number + 4))]
        program.send(b"".join(map(framing.packed, answers)))
        Tester(framing.Channel(ours.fileno()), theirs.fileno()).run()


def warm_up() -> None:
    """Let Python set up before the fork what it sets up at first use: the types of syntax trees alone take a
    millisecond."""
    if without_ssl := "ssl" not in sys.modules:  # asyncio, of unittest.mock, does without: 27 mappings fewer to copy
        sys.modules["ssl"] = None  # type: ignore[assignment]
    for number in range(REHEARSALS):
        _rehearse("def test_it():\n    assert [f(x=1)] == ['2']\nassert f((1, 2.5)) == {3: -4}", number)
        _rehearse("".join(f"assert f({x}) == {x}\n" for x in range(number, number + 4)), number)
    _test_code.cache_clear()
    del sys.modules["solution"]
    if without_ssl:
        del sys.modules["ssl"]


PREPARE = {"tests": make_ready}
ROLES = {"tests": run, "script": script.run, "attack": attacks.run}
