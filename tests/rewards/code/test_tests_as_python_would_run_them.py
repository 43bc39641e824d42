"""What a suite leaves open is not the program's to fill, and no part of it is passed over in silence."""

from collections.abc import Iterator
from typing import Any

import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.sandbox.inside import suite as test_suite

SAME = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        yield checker


def test_an_iteration_is_not_ended_from_within_a_call(checker: UnitTestChecker) -> None:
    """In plain Python `all(map(...))` would end at once, and be true."""
    tests = "assert all(map(lambda pair: f(pair[0]) == pair[1], [(1, 1), (2, 2)]))"
    assert checker.check_sync(SAME, tests).correct
    for stop in ("StopIteration", "StopIteration(1)", "StopAsyncIteration", "type('S', (StopIteration,), {})"):
        assert checker.check_sync(f"def f(x):\n    raise {stop}", tests).status is Status.WRONG


def test_iterators_of_the_program_end_as_ever(checker: UnitTestChecker) -> None:
    tests = (
        "it = f(2)\nassert next(it) == 0\nassert next(it) == 1\ntry:\n    next(it)\n"
        "    ended = False\nexcept StopIteration:\n    ended = True\nassert ended"
    )
    assert checker.check_sync("def f(n):\n    yield from range(n)", tests).correct
    assert not checker.check_sync("def f(n):\n    yield from range(n + 1)", tests).correct


def test_an_exception_class_of_the_program_does_not_catch_the_tests_own_failure(checker: UnitTestChecker) -> None:
    tests = "try:\n    f(-1)\n    assert False, 'no error'\nexcept Negative:\n    pass"
    honest = "class Negative(ValueError): pass\ndef f(x):\n    if x < 0: raise Negative\n    return x"
    assert checker.check_sync(honest, tests).correct
    for alias in ("AssertionError", "Exception"):
        assert not checker.check_sync(f"Negative = {alias}\n{SAME}", tests).correct


def test_a_module_is_never_taken_from_the_program(checker: UnitTestChecker) -> None:
    tests = "assert math.isclose(f(0.5), 0.5)\nassert f(math.pi) == math.pi"
    assert checker.check_sync(SAME, tests).correct
    fake = "class math:\n    pi = 1\n    @staticmethod\n    def isclose(a, b): return True\ndef f(x):\n    return 1"
    assert not checker.check_sync(fake, tests).correct
    assert not checker.check_sync(
        "import sys\nsys.modules['math'].isclose = lambda a, b: True\ndef f(x): return 1", tests
    ).correct


def test_an_object_may_be_called_like_a_module(checker: UnitTestChecker) -> None:
    program = (
        "class Line:\n    def __init__(self): self.all = []\n    def push(self, x): self.all.append(x"
        ")\n    def first(self): return self.all[0]\nqueue = Line()"
    )
    assert checker.check_sync(program, "queue.push(4)\nassert queue.first() == 4").correct


@pytest.mark.parametrize("last", ["f(-1)", "x = f(-1) + 1"])
def test_a_statement_after_the_last_assert_can_fail_too(checker: UnitTestChecker, last: str) -> None:
    program = "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x"
    verdict = checker.check_sync(program, f"assert f(1) == 1\n{last}")
    assert verdict.status is Status.WRONG
    assert "passed 0 of 1 tests" in verdict.reason


def test_a_forbidden_comparison_after_the_last_assert_fails_even_if_swallowed(checker: UnitTestChecker) -> None:
    program = "class All:\n    def __lt__(self, other): return True\ndef f(x):\n    return All() if x > 1 else x"
    tests = "assert f(1) == 1\ntry:\n    f(2) < 2\nexcept Exception:\n    pass"
    assert checker.check_sync(program, tests).status is Status.WRONG


def test_asynchronous_test_functions_are_run(checker: UnitTestChecker) -> None:
    tests = "async def test_one():\n    assert await f(1) == 2\nasync def test_two():\n    assert await f(2) == 4"
    assert checker.check_sync("async def f(x):\n    return 2 * x", tests).correct
    assert checker.check_sync("async def f(x):\n    return x + 1", tests).reason.startswith("passed 1 of 2 tests")


def test_a_test_function_without_an_assert_is_run_as_well(checker: UnitTestChecker) -> None:
    tests = "def test_value():\n    assert f(1) == 1\ndef test_no_error():\n    f(-1)"
    assert checker.check_sync(SAME, tests).correct
    assert checker.check_sync("def f(x):\n    return 1 / (x + 1) * 2", tests).reason.startswith("passed 1 of 2 tests")


@pytest.mark.parametrize(
    ("tests", "named"),
    [
        ("class Checks:\n    def test_a(self): assert f(1) == 2\nassert f(1) == 1", "Checks"),
        ("def test_a(tmp_path):\n    assert f(1) == 2\nassert f(1) == 1", "test_a"),
        ("import functools\n@functools.cache\ndef test_a():\n    assert f(1) == 2\nassert f(1) == 1", "test_a"),
    ],
)
def test_tests_that_nothing_would_run_are_refused(checker: UnitTestChecker, tests: str, named: str) -> None:
    assert named in (checker.validate_reference(tests) or "")
    assert checker.check_sync(SAME, tests).status is Status.UNJUDGED


def test_tests_that_a_program_which_does_nothing_passes_are_refused(checker: UnitTestChecker) -> None:
    loose = {"entry_point": "f", "check": "def check(candidate):\n    assert candidate(1) != 2"}
    assert checker.validate_reference(loose) == "a function that returns None passes these tests"
    assert checker.validate_reference({"function": "f", "cases": [[[1], None]]}) is not None
    assert checker.validate_reference({"stdin_stdout": [["3", ""]]}) == "an empty program passes these tests"
    assert checker.validate_reference("try:\n    assert f(1) == 2\nexcept Exception:\n    pass") is not None


def test_an_assert_of_a_tuple_is_refused(checker: UnitTestChecker) -> None:
    """It is always true: the parentheses were meant for a message."""
    assert "line 2" in (checker.validate_reference("assert f(1) == 1\nassert (f(2) == 3, 'message')") or "")


@pytest.mark.parametrize(
    ("short", "right", "wrong"),
    [
        (
            {"pairs": [[[1, 2], 3], [[4, 5], 9]], "entry_point": "f"},
            "def f(a, b): return a + b",
            "def f(a, b): return 3",
        ),
        (
            {"check": "def check(candidate):\n    assert candidate(3) == 6", "entry_point": "f"},
            "def f(a): return 2 * a",
            "def f(a): return a",
        ),
        ({"stdin_stdout": [["3\n", "6\n"]]}, "print(2 * int(input()))", "print(input())"),
        (["assert f(1) == 1", "assert f(2) == 2"], SAME, "def f(x): return 1"),
    ],
)
def test_every_short_form_is_read(checker: UnitTestChecker, short: Any, right: str, wrong: str) -> None:
    assert checker.validate_reference(short) is None
    assert checker.check_sync(right, short).correct
    assert checker.check_sync(wrong, short).status is Status.WRONG


@pytest.mark.parametrize(
    "short", [{"pairs": [], "entry_point": "f"}, {"stdin_stdout": []}, {"check": "", "entry_point": "f"}, {}]
)
def test_empty_short_forms_are_refused(checker: UnitTestChecker, short: Any) -> None:
    assert checker.validate_reference(short)
    assert checker.check_sync(SAME, short).status is Status.UNJUDGED


@pytest.mark.parametrize(
    ("tests", "foreseen"),
    [
        ("import math\nassert f(1) == 2\nassert abs(f(2) - 3.5) < 1e-6\nassert math.isclose(f([3]), 3)", [1, 2, [3]]),
        ("assert not f(3)", [3]),
        ("assert sorted(f((1, 2))) == [1]", [(1, 2)]),
        ("assert f(1) == g(2)", []),
        ("assert f(1) and f(2)", []),
        ("assert 1 < f(1) < 3", []),
        ("assert all(f(i) for i in (1, 2))", []),
        ("x = 3\nassert f(x) == 3", []),
        ("assert f(3)\nx = f(4)", []),
    ],
)
def test_only_calls_that_are_certain_to_come_are_asked_for_ahead(tests: str, foreseen: list[object]) -> None:
    assert [args[0] for _, args, _ in test_suite.TestCode(tests).calls()] == foreseen


@pytest.mark.parametrize(
    ("tests", "nothing"),
    [
        ("import numpy as np\nassert np.allclose(f(1), [2.0])", True),
        ("import numpy as np\nnp.seterr(all='raise')\nassert f(2) == 1", False),
        ("import numpy as np\nx = np\nx.seterr()\nassert f(1)", False),
        ("def h():\n    import numpy\n    numpy.seterr()\nassert f(1)", False),
        ("assert eval('1') == 1", False),
        ("try:\n    assert f(1) == 2\nexcept ValueError:\n    setattr(f, 'a', 1)", False),
        ("assert setattr(f, 'a', 1) == 2", False),
        ("import os\nassert f(1) == os.path.join('a', 'b')\nassert f(2) == os.sep", True),
        ("import os\nos.chdir('/')\nassert f(1) == 2", False),
        ("import os as o\no.path.os.chdir('/')\nassert f(1) == 2", False),
        ("import os\nx = os\nx.chdir('/')\nassert f(1) == 2", False),
        ("import os\ndef h():\n    import os as o\n    o.chdir('/')\nassert f(1) == 2", False),
        ("import sys\nassert f(1) == sys.maxsize", True),
        ("import sys\nsys.setrecursionlimit(9)\nassert f(1) == 2", False),
        ("import json\nassert json.loads(f(1)) == [1]", True),
        ("import random\nassert f(random.random()) < 1", True),
        ("from random import seed, randint\nseed(4)\nassert f(randint(1, 2)) == 1", True),
        ("import hashlib\nassert f(1) == hashlib.md5(b'1').hexdigest()", False),
        ("from decimal import Decimal\nassert f(1) == Decimal('1')", True),
        ("from decimal import getcontext\nassert f(1) == getcontext().prec", False),
        ("from collections.abc import Sequence\nassert isinstance(f(1), Sequence)", True),
        ("import statistics\nstatistics.random.seed(1)\nassert f(1) == 2", False),
        ("import collections, copy\nassert isinstance(copy.copy(f(1)), collections.abc.Sequence)", True),
        ("assert f(1) == 2 and not os.chdir('/')", False),
        ("assert math.isclose(f(1), 2)", True),
    ],
)
def test_a_process_is_kept_only_after_tests_that_leave_it_as_it_was(tests: str, nothing: bool) -> None:
    assert test_suite.TestCode(tests).leaves_nothing is nothing


LEAVING = {
    "a constant": "import math\nmath.pi = 3",
    "a constant, by its name": "import math\nsetattr(math, 'pi', 3)",
    "a function of a module": "import json\njson.dumps = len",
    "a builtin function": "import builtins\nbuiltins.len = id",
    "a builtin function, by the name of its module": "__builtins__['len'] = id",
    "a builtin function, by the namespace": "locals()['__builtins__']['len'] = id",
    "a builtin function, by a frame": "waiting = (x for x in ())\nwaiting.gi_frame.f_builtins['len'] = id",
    "a builtin function, by a pattern": "match f:\n    case object(__builtins__=b):\n        b['len'] = id",
    "a builtin function, by a text": "import operator\noperator.attrgetter('__builtins__')(f)['len'] = id",
    "a module's dict": "import json\ngetattr(json, '__dict__')['dumps'] = len",
    "a module under another name": "import json\nj = json\nj.decoder.BACKSLASH['n'] = 'x'",
    "a table of a module": "import json\njson.decoder.BACKSLASH['n'] = 'x'",
    "a table of a module, imported": "from json import decoder\ndecoder.BACKSLASH['n'] = 'x'",
    "a module in a module": "from statistics import random\nrandom.choice = max",
    "an attribute of a class": "from string import Template\nTemplate.delimiter = '%'",
    "an attribute of a class, in a loop": "from string import Template\nfor Template.delimiter in '%': pass",
    "an attribute of a class, taken away": "from string import Template\ndel Template.delimiter",
    "an attribute of a function": "import json, functools\nfunctools.update_wrapper(json.dumps, f)",
    "a class that counts as another": "import collections.abc\ncollections.abc.Sequence.register(int)",
    "a class among the subclasses": "from json import JSONEncoder\nclass Mine(JSONEncoder): pass",
    "a module": "import sys, types\nsys.modules['extra'] = types.ModuleType('extra')",
    "a path": "import sys\nsys.path.append('/tmp')",
    "a hook of the garbage collector": "import gc\ngc.callbacks.append(print)",
    "what runs at the end": "import atexit\natexit.register(print)",
    "a reference with a callback": "import weakref, math\nkept = weakref.finalize(math, print)",
    "a thread": "import threading\nthreading.Timer(9, print).start()",
    "a trace function": "import sys\nsys.settrace(print)",
    "the state of numbers drawn": "import random\nrandom.seed(4)\nrandom.seed = max",
    "the precision of decimals": "import decimal\ndecimal.getcontext().prec = 2",
    "the folder": "import os\nos.chdir('/')",
    "a variable of all": "def h():\n    global len\n    len = id\nh()",
}


@pytest.mark.parametrize("what", LEAVING)
def test_tests_that_change_what_others_see_are_not_followed_by_others(what: str) -> None:
    assert not test_suite.TestCode(f"{LEAVING[what]}\nassert f(1) == 2").leaves_nothing
    assert not test_suite.TestCode(
        f"def test_a():\n    {LEAVING[what].replace(chr(10), chr(10) + '    ')}\n    assert f(1) == 2"
    ).leaves_nothing


@pytest.mark.slow
def test_what_tests_leave_never_reaches_the_next_tests() -> None:
    """One pair of processes serves them all. The last tests look at everything that the others have changed."""
    looks = (
        "import math, json, random, decimal, gc, os, sys, threading, collections.abc, string\n"
        "assert f(1) == 1 and math.pi > 3.1 and json.dumps([1]) == '[1]' and len([1, 2]) == 2\n"
        "assert f(1) == 1 and json.loads('\"\\\\n\"') == '\\n' and random.choice([5]) == 5\n"
        "assert f(1) == 1 and string.Template.delimiter == '$' and not isinstance(1, collections.abc.Sequence)\n"
        "assert f(1) == 1 and 'extra' not in sys.modules and '/tmp' not in sys.path and not gc.callbacks\n"
        "assert f(1) == 1 and threading.active_count() == 1 and decimal.getcontext().prec == 28\n"
    )
    draws = "import random\nassert f(1) == 1 and [random.randrange(1000) for _ in range(2)] == [864, 394]"
    with UnitTestChecker(workers=1) as checker:
        assert checker.check_sync(SAME, draws).correct
        for leaving in LEAVING.values():
            checker.check_sync(SAME, f"{leaving}\nassert f(1) == 1")
        for tests in (looks, draws, draws, "import random\nrandom.seed(4)\nassert f(1) == 1", draws):
            verdict = checker.check_sync(SAME, tests)
            assert verdict.correct, verdict.reason


PLAIN = "assert f([3, 1]) == [1, 3]\nassert f([]) == []\nassert f([2, 2]) == [2, 2]"
JUDGED_ALIKE = {
    "right": "def f(xs): return sorted(xs)",
    "changes its argument": "def f(xs):\n    xs.append(9)\n    return sorted(xs[:-1])",
    "another kind": "def f(xs): return tuple(sorted(xs))",
    "an object equal to all": "class A:\n    def __eq__(self, o): return True\ndef f(xs): return A()",
    "a list of them": "class A:\n    def __eq__(self, o): return True\ndef f(xs): return [A() for _ in xs]",
    "a subclass": "class L(list):\n    def __eq__(self, o): return True\ndef f(xs): return L([7])",
    "raises": "def f(xs): return sorted(xs) if len(xs) > 1 else 1 / 0",
    "raises AssertionError": "def f(xs): raise AssertionError('[]')",
    "leaves": "import os\ndef f(xs): os._exit(0)",
    "no function": "class f:\n    def __new__(cls, xs): return sorted(xs)",
    "not defined": "def g(xs): return sorted(xs)",
    "takes nothing": "def f(): return []",
    "cannot cross": "def f(xs): return lambda: 1",
    "writes to the line": "import os\nos.write(3, b'\\0\\0\\0\\x0b[\"ok\",[],[]]')\ndef f(xs): return 1",
}


@pytest.mark.parametrize("what", JUDGED_ALIKE)
def test_plain_asserts_are_judged_as_python_would_run_them(checker: UnitTestChecker, what: str) -> None:
    """Suites of nothing else, but for imports before them, are not compiled. An empty statement before them makes them
    like all others."""
    program, after_import = JUDGED_ALIKE[what], f"import gc\n{PLAIN}"
    assert test_suite.TestCode(PLAIN).plain and test_suite.TestCode(after_import).plain
    assert not test_suite.TestCode(f"x = 1\n{PLAIN}").plain
    plain, later, compiled = (checker.check_sync(program, one) for one in (PLAIN, after_import, f"x = 1\n{PLAIN}"))
    assert (plain.status, plain.reason) == (later.status, later.reason) == (compiled.status, compiled.reason)
    assert checker.check_sync(JUDGED_ALIKE["right"], PLAIN).correct  # and the next program finds the tests as they were


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(1) != 2",
        "assert f(1) == 2, 'why'",
        "assert f(1) == g(2)",
        "assert 1 < f(1) == 2",
        "assert f(1) == [x for x in (1, 2)]",
        "assert sum([1]) == 1",
        "assert exit(1) == 1",
        "assert __import__('os') == 1",
        "from math import *\nassert f(1) == 2",
        "from math import floor as f\nassert f(1) == 2",
        "import f.g\nassert f(1) == 2",
        "assert f(1) == 2\nimport math",
        "def test_it():\n    assert f(1) == 2",
        ">>> f(1)\n2",
    ],
)
def test_what_is_more_than_a_call_and_a_literal_is_not_plain(tests: str) -> None:
    assert not test_suite.TestCode(tests).plain


def test_a_name_that_the_tests_import_is_not_the_programs(checker: UnitTestChecker) -> None:
    program = "def floor(x): return 7\ndef f(x): return x"
    assert checker.check_sync(program, "from math import floor\nassert floor(1.5) == 1\nassert f(2) == 2").correct
    verdict = checker.check_sync(program, "from math import floor\nassert floor(1.5) == 7\nassert f(2) == 2")
    assert verdict.status is not Status.CORRECT


def test_an_import_that_fails_before_plain_asserts_is_the_tests_fault(checker: UnitTestChecker) -> None:
    verdict = checker.check_sync("def f(x): return x", "import no_such_module\nassert f(1) == 1")
    assert verdict.status is Status.UNJUDGED and "no_such_module" in verdict.reason


def test_a_module_that_is_missing_to_the_program_is_its_own_fault_whenever_the_tests_say_so(
    checker: UnitTestChecker,
) -> None:
    program = (
        "import itertools\nfirst = itertools.count()\ndef f(x):\n    if next(first) == 0:\n"
        "        raise ModuleNotFoundError('No module named q', name='q')\n    raise ValueError('no')"
    )
    saved = (
        "errors = []\nfor n in range(2):\n    try:\n        f(n)\n    except Exception as error:\n"
        "        errors.append(error)\n"
    )
    tests = saved + "def test_it():\n    if errors: raise errors[0]\n    assert f(1) == 1"
    assert checker.check_sync(program, tests).status is Status.WRONG
    missing = saved + "def test_it():\n    import no_such_module\n    assert f(1) == 1"
    assert checker.check_sync(program, missing).status is Status.UNJUDGED
