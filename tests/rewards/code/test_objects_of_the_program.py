"""Objects of the program in tests: what they can do is what their class can do, and no object decides about a test's
data."""

from collections.abc import Iterator

import pytest

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker

POINT = (
    "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int\ndef make(a, b): return P(a, b)"
)
WRONG_POINT = POINT.replace("return P(a, b)", "return P(b, a)")
VECTOR = (
    "class V:\n    def __init__(s, x, y): s.x, s.y = x, y\n    def __add__(s, o): return V(s.x + o.x, s.y + o.y)\n"
    "    def __mul__(s, k): return V(s.x * k, s.y * k)\n    def __eq__(s, o): return (s.x, s.y) == (o.x, o.y)"
)
WRONG_VECTOR = VECTOR.replace("s.y + o.y", "s.y - o.y").replace("s.y * k", "s.y + k")
BAG = "class Bag:\n    def __init__(s, xs): s.xs = xs\n    def __contains__(s, x): return x in s.xs"
ENUM = "import enum\nclass Color(enum.Enum):\n    RED = 1\n    BLUE = 2\ndef best(): return Color.{}"
SHAPE = "class Shape: pass\nclass Disc(Shape): pass\ndef f(): return {}()"
BASE = "class Base:\n    def run(self): return self.step(){}"
ERROR = "class E(ValueError):\n    def __init__(s, c): super().__init__('bad'); s.code = c\ndef f(): raise E({})"

HONEST = {
    "dataclass ==": (POINT, WRONG_POINT, "assert make(1, 2) == P(1, 2)\nassert make(1, 2) != P(2, 1)"),
    "operators": (VECTOR, WRONG_VECTOR, "assert V(1, 2) + V(3, 4) == V(4, 6)\nassert (V(1, 2) * 3).y == 6"),
    "in": (BAG, BAG.replace("x in s.xs", "False"), "assert 1 in Bag([1, 2])\nassert 3 not in Bag([1, 2])"),
    "sorting": (
        "class A:\n    def __init__(s, v): s.v = v\n    def __lt__(s, o): return s.v < o.v",
        "class A:\n    def __init__(s, v): s.v = v\n    def __lt__(s, o): return s.v > o.v",
        "assert [a.v for a in sorted([A(3), A(1), A(2)])] == [1, 2, 3]",
    ),
    "Enum ==": (ENUM.format("RED"), ENUM.format("BLUE"), ("assert best() == Color.RED\nassert best() is Color.RED\n"
"assert len(Color) == 2")),
    "isinstance": (SHAPE.format("Disc"), SHAPE.format("Shape"), ("assert isinstance(f(), Disc)\n"
"assert isinstance(f(), Shape)")),
    "subclassing": (
        BASE.format(" + 1"),
        BASE.format(""),
        "class T(Base):\n    def step(self): return 4\nassert T().run() == 5\nassert isinstance(T(), Base)",
    ),
    "subclassing with super": (
        "class Base:\n    def __init__(self, n): self.n = n",
        "class Base:\n    def __init__(self, n): self.n = 0",
        "class T(Base):\n    def __init__(self):\n        super().__init__(7)\nassert T().n == 7",
    ),
    "slices": (
        "class L:\n    def __init__(s, *a): s.a = list(a)\n    def __getitem__(s, i): return s.a[i]",
        "class L:\n    def __init__(s, *a): s.a = list(a)\n    def __getitem__(s, i): return s.a[0]",
        "assert L(1, 2, 3)[1:] == [2, 3]",
    ),
    "hash": (
        ("class K:\n    def __init__(s, v): s.v = v\n    def __hash__(s): return hash(s.v)\n"
"    def __eq__(s, o): return s.v == o.v"),
        "class K:\n    def __init__(s, v): s.v = v",
        "assert {K(1): 2}[K(1)] == 2\nassert len({K(1), K(1), K(2)}) == 2",
    ),
    "deepcopy": (
        "class A:\n    def __init__(s): s.v = [1]",
        "class A:\n    v = [1]",
        "import copy\na = A()\nb = copy.deepcopy(a)\nb.v.append(2)\nassert a.v == [1]\nassert vars(a) == {'v': [1]}",
    ),
    "an exception's attributes": (
        ERROR.format(5),
        ERROR.format(6),
        "try:\n    f()\n    code = None\nexcept E as e:\n    code = e.code\nassert code == 5",
    ),
    "an exception of the standard library": (
        "import json\ndef f(s): return json.loads(s)",
        "def f(s): raise ValueError('bad')",
        ("import json\ntry:\n    f('{')\n    at = None\nexcept json.JSONDecodeError as e:\n"
"    at = e.pos\nassert at == 1"),
    ),
    "captured output": (
        "def hello(n): print('hi', n)",
        "def hello(n): print('ho', n)",
        ("import io, contextlib\nb = io.StringIO()\nwith contextlib.redirect_stdout(b):\n"
"    hello(1)\nassert b.getvalue() == 'hi 1\\n'"),
    ),
    "patched input": (
        "def ask(): return int(input('n? ')) + 1",
        "def ask(): return int(input('n? '))",
        ("from unittest.mock import patch\nwith patch('builtins.input', return_value='4'):\n"
"    got = ask()\nassert got == 5"),
    ),
    "standard input of the tests": (
        "def ask(): return int(input()) + int(input())",
        "def ask(): return int(input())",
        "import io, sys\nsys.stdin = io.StringIO('4\\n5\\n')\nassert ask() == 9",
    ),
    "seeds": (
        "import random\ndef pick(xs): return random.choice(xs)",
        "import os\ndef pick(xs): return xs[int.from_bytes(os.urandom(4)) % len(xs)]",
        ("import random\nrandom.seed(42)\na = pick(list(range(10**6)))\n"
"random.seed(42)\nassert a == pick(list(range(10**6)))"),
    ),
    "a global that tests change": (
        "cache = {}\ndef f(x):\n    cache[x] = 1\n    return len(cache)",
        "cache = {}\nkept = {}\ndef f(x):\n    kept[x] = 1\n    return len(kept)",
        "f(1)\ncache.clear()\nassert f(2) == 1\nassert cache == {2: 1}",
    ),
    "objects of the tests": (
        "def total(items): return sum(i.price for i in items)",
        "def total(items): return len(items)",
        "class Item:\n    def __init__(s, p): s.price = p\nassert total([Item(1), Item(2)]) == 3",
    ),
    "a signature": (
        "def f(a, b=2): return a",
        "def f(a, c=2): return a",
        "import inspect\nassert list(inspect.signature(f).parameters) == ['a', 'b']\nassert f(3) == 3",
    ),
    "a subclass of a builtin": (
        "class S(str): pass\ndef f(): return S('a')",
        "class S(str): pass\ndef f(): return S('b')",
        "assert f() == 'a'\nassert isinstance(f(), str)\nassert isinstance(f(), S)",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        yield checker


@pytest.mark.parametrize("what", HONEST)
def test_a_right_program_passes_and_a_wrong_one_does_not(checker: UnitTestChecker, what: str) -> None:
    right, wrong, tests = HONEST[what]
    verdict = checker.check_sync(f"```python\n{right}\n```", tests)
    assert verdict.correct, verdict.reason
    assert checker.check_sync(f"```python\n{wrong}\n```", tests).status is Status.WRONG


ALL = (
    "class All:\n    def __eq__(s, o): return True\n    def __contains__(s, x): return "
    "True\n    def __lt__(s, o): return True\n"
    "    __gt__ = __le__ = __ge__ = __lt__\n    def __hash__(s): return 1\n    def __sub__(s, o): return 0\n"
    "    __add__ = __radd__ = __rsub__ = __sub__\n    def __abs__(s): return 0\n"
)
FOOLED_BY_OBJECTS = {
    "==": "assert f(1) == 2",
    "== the other way": "assert 2 == f(1)",
    "== in a list": "assert [f(1)] == [2]",
    "in a list": "assert f(1) in [2, 3]",
    "in it": "assert 5 in f(1)",
    "<": "assert f(1) < 3",
    "subtraction": "assert abs(f(1) - 2) < 1e-6",
    "assertEqual": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(1), 2)",
    "approx": "import pytest\ndef test_a():\n    assert f(1) == pytest.approx(2)",
    "a key": "assert {2: True}.get(f(1))",
    "callable": "assert callable(f(1))",
    "hasattr": "assert hasattr(f(1), 'append')",
    "isinstance of Iterable": "from collections.abc import Iterable\nassert isinstance(f(1), Iterable)",
    "isinstance of Sized": "from collections.abc import Sized\nassert isinstance(f(1), Sized)",
    "isinstance of Awaitable": "from collections.abc import Awaitable\nassert isinstance(f(1), Awaitable)",
    "iteration": "assert list(f(1)) == []",
    "len": "assert len(f(1)) == 0",
    "calling it": "assert f(1)(3) == 3",
    "a context": "with f(1):\n    pass\nassert f(2) is not None",
}


@pytest.mark.parametrize("tests", FOOLED_BY_OBJECTS)
def test_an_object_says_yes_to_nothing_of_a_tests_data(checker: UnitTestChecker, tests: str) -> None:
    program = f"{ALL}def f(x): return All()"
    assert checker.check_sync(f"```python\n{program}\n```", FOOLED_BY_OBJECTS[tests]).status is Status.WRONG


LEARNER = """
class Learner:
    def __eq__(self, other): return True
    def __hash__(self): return 4
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __pow__ = __truediv__ = __xor__ = __rxor__ = __sub__
    def __neg__(self): return self
    def __abs__(self): return 0.0
    def __float__(self): return 0.0
    def __int__(self): return 0
    def __round__(self, digits=None): return 0
    def __bool__(self): return False
    def __len__(self): return 0
    def __getitem__(self, key): return Learner()
    def __getattr__(self, name):
        if name[:2] == "__": raise AttributeError(name)
        return lambda *a: 0.0
def f(x): return Learner()
"""
EXPECTING = [
    *("f(2) == 4", "4 == f(2)", "f(2) == 4.5", "f(2) == 'a'", "f(2) == True", "f(2) == [4]", "f(2) == {'a': 4}"),
    *("not f(2) != 4", "f(2) in {4}", "f(2) in range(5)", "[4].count(f(2)) == 1", "any(x == f(2) for x in (3, 4))"),
    *("abs(f(2) - 4) < 1e-6", "abs(4 - f(2)) < 1e-6", "round(f(2) - 4, 6) == 0", "not f(2) - 4", "not f(2) ^ 4"),
    *("(f(2) - 4) ** 2 < 1e-9", "abs(-(f(2) - 4)) < 1", "int((f(2) - 4) * 10) == 0", "len(f(2) ^ {4}) == 0"),
    *("abs(f(2)[0] - 4) < 1e-6", "f(2)[0] == 4", "float(f(2) - 4) == 0", "(f(2) - 4).real == 0"),
    *("(f(2) - date(2020, 1, 1)).days == 0", "abs(1 - f(2) / 4) < 1e-6", "isclose(f(2) - 4, 0, abs_tol=1e-6)"),
]


@pytest.mark.parametrize("expected", EXPECTING)
def test_an_object_learns_nothing_from_what_it_is_compared_with(checker: UnitTestChecker, expected: str) -> None:
    """One that answers whatever makes the test true has passed any, before."""
    tests = f"from datetime import date\nfrom math import isclose\nassert {expected}"
    assert checker.check_sync(f"```python\n{LEARNER}\n```", tests).status is Status.WRONG


def test_a_difference_of_objects_is_what_their_class_makes_of_it(checker: UnitTestChecker) -> None:
    program = (
        VECTOR + "\n    def __sub__(s, o): return V(s.x - o.x, s.y - o.y) if isinstance(o, V) else V(s.x - o, s.y - o)"
    )
    program += "\n    def __abs__(s): return (s.x ** 2 + s.y ** 2) ** 0.5"
    tests = "assert abs(V(5, 6) - V(2, 2)) == 5\nassert (V(5, 6) - 1).y == 5\nassert abs(V(1.5, 2) * 2) == 5"
    verdict = checker.check_sync(f"```python\n{program}\n```", tests)
    assert verdict.correct, verdict.reason


def test_objects_of_the_tests_lead_to_nothing_but_their_public_attributes(checker: UnitTestChecker) -> None:
    tests = (
        "SECRET = 21\nclass Item:\n    price = 1\n    def cost(self): return self.price\nassert total(Item()) == SECRET"
    )
    for path in (
        "cost.__globals__",
        "cost.__func__",
        "__class__.cost.__globals__",
        "__init__.__globals__",
        "_x",
        "__dict__",
    ):
        program = (
            f"def total(i):\n    found = i.{path}\n    return found.get('SECRET', "
            f"-1) if isinstance(found, dict) else -1"
        )
        assert checker.check_sync(f"```python\n{program}\n```", tests).status is Status.WRONG, path


def test_what_cannot_cross_is_refused_and_never_the_programs_fault(checker: UnitTestChecker) -> None:
    tests = "import threading\nlock = threading.local()\nassert f(lock) == 1"
    assert "cannot cross" in (checker.validate_reference(tests) or "")
    assert checker.check_sync("def f(x): return 1", tests).status is Status.UNJUDGED


def test_a_program_cannot_buy_an_abstention_with_what_it_returns(checker: UnitTestChecker) -> None:
    returned = (
        "(x for x in [1])", "object()", "type('T', (int,), {})(3)", ("__import__('re"
"').compile('a'"
")"), "memoryview(b'a')", "f", "ValueError('a')",
        ("__import__('urllib.parse').parse.urlpars"
"e('http://a/b')"), "__import__('types').SimpleNamespace(a=1)", "type", "__import__('sys')",
    )  # fmt: skip
    for value in returned:
        verdict = checker.check_sync(f"def f(x): return {value}", "y = f(1)\nassert f(y) == 7\nassert f([y]) == y + 1")
        assert verdict.status is Status.WRONG, (value, verdict.reason)


@pytest.mark.parametrize(
    "tests",
    [
        "s = Shape()\nassert isinstance(f(1), Shape)\nassert isinstance(f(2), Disc)",
        "x = f(4)\nassert f(1) != x\nassert f(2) == f(2) or True",
        "x = g(4)\nassert f(1) != 3\nassert f(2) != x[0]",
    ],
)
def test_calls_made_ahead_in_vain_still_tell_of_the_classes_they_met(checker: UnitTestChecker, tests: str) -> None:
    """A class is told in full once: with an answer that nobody wanted it would be lost."""
    program = "class Shape: pass\nclass Disc(Shape): pass\ndef f(x): return Disc()\ndef g(x): return [f(x)]"
    verdict = checker.check_sync(program, tests)
    assert verdict.correct, verdict.reason
