"""Right programs of many styles are judged right."""

from collections.abc import Iterator
from typing import Any

import pytest

from selfcorrect.rewards.code import UnitTestChecker

TREE = """
class Node:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None

class Tree:
    def __init__(self):
        self.root = None

    def insert(self, value):
        if self.root is None:
            self.root = Node(value)
            return
        node = self.root
        while True:
            side = 'left' if value < node.value else 'right'
            if getattr(node, side) is None:
                setattr(node, side, Node(value))
                return
            node = getattr(node, side)

    def __iter__(self):
        def walk(node):
            if node:
                yield from walk(node.left)
                yield node.value
                yield from walk(node.right)
        return walk(self.root)

    def __len__(self):
        return sum(1 for _ in self)
"""

LINKED = """
from dataclasses import dataclass
from typing import Optional

@dataclass
class Link:
    value: int
    next: Optional['Link'] = None

def reverse(link):
    before = None
    while link:
        link.next, before, link = before, link, link.next
    return before
"""

PROGRAMS: dict[str, tuple[str, Any]] = {
    "a plain function": ("def add(a, b):\n    return a + b", "assert add(2, 3) == 5\nassert add(b=1, a=-1) == 0"),
    "a lambda": ("square = lambda x: x * x", ["assert square(3) == 9", "assert square(-2) == 4"]),
    "recursion": (
        "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
        "assert [fib(n) for n in range(10)] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]",
    ),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(50_000)\ndef depth(n):\n    return 0 if n == 0 else 1 + depth(n - 1)",
        "assert depth(20_000) == 20_000",
    ),
    "a cache": (
        (
            "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef ways(n):\n    return 1 if n < 2 else ways(n"
            " - 1) + ways(n - 2)"
        ),
        "assert ways(80) == 37889062373143906\nassert ways(1) == 1",
    ),
    "a closure": (
        (
            "def counter():\n    count = 0\n    def step():\n        nonlocal count\n        count += 1\n        return"
            " count\n    return step"
        ),
        "c = counter()\nassert c() == 1\nassert c() == 2\nassert counter()() == 1",
    ),
    "a decorator": (
        "def twice(f):\n    def run(*args):\n        return f(f(*args))\n    return run",
        "@twice\ndef inc(x):\n    return x + 1\nassert inc(3) == 5\nassert twice(lambda s: s + '!')('a') == 'a!!'",
    ),
    "a generator": (
        "def evens(limit):\n    n = 0\n    while n < limit:\n        yield n\n        n += 2",
        (
            "assert list(evens(7)) == [0, 2, 4, 6]\nassert sum(evens(5)) == 6\ng = evens(3)\nassert next(g) =="
            " 0\nassert next(g) == 2"
        ),
    ),
    "an endless generator": (
        "import itertools\ndef naturals():\n    yield from itertools.count(1)",
        "from itertools import islice\nassert list(islice(naturals(), 4)) == [1, 2, 3, 4]",
    ),
    "asyncio": (
        (
            "import asyncio\nasync def fetch(n):\n    await asyncio.sleep(0.001)\n    return n * 2\nasync def"
            " gather(ns):\n    return await asyncio.gather(*(fetch(n) for n in ns))\ndef run(ns):\n    return"
            " asyncio.run(gather(ns))"
        ),
        (
            "import asyncio\nassert run([1, 2, 3]) == [2, 4, 6]\nassert asyncio.run(fetch(4)) == 8\nassert"
            " asyncio.run(gather([5])) == [10]"
        ),
    ),
    "a class": (
        (
            "class Stack:\n    def __init__(self, items=()):\n        self.items = list(items)\n    def push(self,"
            " x):\n        self.items.append(x)\n        return self\n    def pop(self):\n        return"
            " self.items.pop()\n    def __len__(self):\n        return len(self.items)\n    def __repr__(self):\n      "
            "  return f'Stack({self.items})'"
        ),
        (
            "s = Stack([1])\ns.push(2).push(3)\nassert len(s) == 3\nassert s.pop() == 3\nassert s.items == [1,"
            " 2]\nassert repr(s) == 'Stack([1, 2])'\ntry:\n    Stack().pop()\n    emptied = True\nexcept IndexError:\n "
            "   emptied = False\nassert not emptied"
        ),
    ),
    "inheritance and properties": (
        (
            "from abc import ABC, abstractmethod\nclass Shape(ABC):\n    @property\n    @abstractmethod\n    def"
            " area(self): ...\nclass Square(Shape):\n    def __init__(self, side): self.side = side\n    @property\n   "
            " def area(self): return self.side ** 2\nclass Big(Square):\n    def __init__(self): super().__init__(10)"
        ),
        (
            "assert Square(3).area == 9\nassert Big().area == 100\ntry:\n    Shape()\n    made = True\nexcept"
            " TypeError:\n    made = False\nassert not made"
        ),
    ),
    "a tree with iteration": (
        TREE,
        (
            "t = Tree()\nfor v in [5, 2, 8, 1]:\n    t.insert(v)\nassert list(t) == [1, 2, 5, 8]\nassert len(t) =="
            " 4\nassert t.root.left.value == 2\nassert t.root.right.right is None"
        ),
    ),
    "linked dataclasses": (
        LINKED,
        (
            "def values(link):\n    out = []\n    while link:\n        out.append(link.value)\n        link ="
            " link.next\n    return out\nchain = Link(1, Link(2, Link(3)))\nassert values(reverse(chain)) == [3, 2,"
            " 1]\nassert reverse(None) is None"
        ),
    ),
    "enumerations and named tuples": (
        (
            "from enum import IntEnum, Enum\nfrom collections import namedtuple\nclass Level(IntEnum):\n    LOW = 1\n  "
            "  HIGH = 2\nPoint = namedtuple('Point', 'x y')\ndef level(n): return Level.HIGH if n > 5 else"
            " Level.LOW\ndef mirror(x, y): return Point(y, x)"
        ),
        (
            "assert level(9) == 2\nassert mirror(1, 2) == (2, 1)\nassert mirror(1, 2).x == 2\na, b = mirror(3,"
            " 4)\nassert (a, b) == (4, 3)"
        ),
    ),
    "collections": (
        (
            "from collections import Counter, defaultdict, deque, OrderedDict\ndef count(s): return Counter(s)\ndef"
            " group(ws):\n    d = defaultdict(list)\n    for w in ws: d[w[0]].append(w)\n    return d\ndef turn(xs,"
            " k):\n    d = deque(xs)\n    d.rotate(k)\n    return list(d)\ndef order(xs): return OrderedDict((x, i) for"
            " i, x in enumerate(xs))"
        ),
        (
            "assert count('aab') == {'a': 2, 'b': 1}\nassert count('aab').most_common(1) == [('a', 2)]\nassert"
            " group(['ab', 'ac', 'b']) == {'a': ['ab', 'ac'], 'b': ['b']}\nassert turn([1, 2, 3], 1) == [3, 1,"
            " 2]\nassert list(order('xy')) == ['x', 'y']"
        ),
    ),
    "numbers of the standard library": (
        (
            "from fractions import Fraction\nfrom decimal import Decimal\nfrom datetime import date, timedelta\nimport"
            " math, cmath, statistics\ndef half(n): return Fraction(n, 2)\ndef money(s): return Decimal(s) * 2\ndef"
            " after(y, m, d, n): return date(y, m, d) + timedelta(days=n)\ndef root(x): return cmath.sqrt(x)\ndef"
            " big(n): return math.factorial(n)\ndef middle(xs): return statistics.median(xs)"
        ),
        (
            "from fractions import Fraction\nfrom decimal import Decimal\nimport datetime, math\nassert half(3) =="
            " Fraction(3, 2)\nassert money('1.10') == Decimal('2.20')\nassert after(2024, 2, 28, 2) =="
            " datetime.date(2024, 3, 1)\nassert abs(root(-4) - 2j) < 1e-9\nassert big(2000) =="
            " math.factorial(2000)\nassert middle([1, 2, 10]) == 2"
        ),
    ),
    "bytes, sets and ranges": (
        (
            "import hashlib, struct\ndef digest(b): return hashlib.sha256(b).digest()[:2]\ndef pack(n): return"
            " struct.pack('>H', n)\ndef common(a, b): return set(a) & set(b)\ndef pairs(n): return frozenset((i, i) for"
            " i in range(n))\ndef span(n): return range(n)\ndef buffer(): return bytearray(b'ab')"
        ),
        (
            "assert digest(b'') == bytes.fromhex('e3b0')\nassert pack(258) == b'\\x01\\x02'\nassert common('abc',"
            " 'bcd') == {'b', 'c'}\nassert pairs(2) == {(0, 0), (1, 1)}\nassert span(3) == range(3)\nassert buffer() =="
            " b'ab'"
        ),
    ),
    "text": (
        (
            "import re, string, textwrap, unicodedata\ndef slug(s):\n    s = unicodedata.normalize('NFKD',"
            " s).encode('ascii', 'ignore').decode()\n    return re.sub(r'[^a-z0-9]+', '-', s.lower()).strip('-')\ndef"
            " caesar(s, k):\n    a = string.ascii_lowercase\n    return s.translate(str.maketrans(a, a[k:] + a[:k]))"
        ),
        "assert slug('Crème Brûlée!') == 'creme-brulee'\nassert caesar('xyz', 3) == 'abc'",
    ),
    "algorithms of the standard library": (
        (
            "import heapq, bisect, itertools, operator, functools, random\ndef smallest(xs, k): return"
            " heapq.nsmallest(k, xs)\ndef place(xs, x): return bisect.bisect_left(xs, x)\ndef product(xs): return"
            " functools.reduce(operator.mul, xs, 1)\ndef perms(s): return sorted(map(''.join,"
            " itertools.permutations(s)))\ndef shuffled(xs):\n    xs = list(xs)\n    random.shuffle(xs)\n    return xs"
        ),
        (
            "assert smallest([5, 1, 4], 2) == [1, 4]\nassert place([1, 3, 5], 4) == 2\nassert product([2, 3, 4]) =="
            " 24\nassert perms('abc')[1] == 'acb'\nassert sorted(shuffled(range(9))) == list(range(9))"
        ),
    ),
    "prints": (
        "def shout(s):\n    print('working on', s)\n    return s.upper()\nprint('loaded')",
        "assert shout('a') == 'A'",
    ),
    "a main guard": (
        (
            "def area(r):\n    return 3 * r * r\n\ndef main():\n    print(area(float(input())))\n\nif __name__ =="
            " '__main__':\n    main()"
        ),
        "assert area(2) == 12",
    ),
    "type hints": (
        (
            "from __future__ import annotations\nfrom typing import TypeVar, Protocol, Iterable\nT = TypeVar('T')\n"
            "def first(xs: Iterable[T], default: T | None = None) -> T | None:\n    return next(iter(xs), default)"
        ),
        "assert first([7, 8]) == 7\nassert first([], 'none') == 'none'\nassert first(iter('ab')) == 'a'",
    ),
    "pattern matching": (
        (
            "def kind(x):\n    match x:\n        case []: return 'empty'\n        case [a]: return f'one {a}'\n       "
            " case {'k': v}: return v\n        case str(): return 'text'\n        case _: return None"
        ),
        (
            "assert kind([]) == 'empty'\nassert kind([4]) == 'one 4'\nassert kind({'k': 2}) == 2\nassert kind('s') =="
            " 'text'\nassert kind(3) is None"
        ),
    ),
    "changes its argument": (
        (
            "def bubble(xs):\n    for i in range(len(xs)):\n        for j in range(len(xs) - 1 - i):\n            if"
            " xs[j] > xs[j + 1]:\n                xs[j], xs[j + 1] = xs[j + 1], xs[j]\ndef spread(d):\n   "
            " d.setdefault('new', []).append(1)\ndef prune(grid):\n    grid[0].clear()"
        ),
        (
            "xs = [3, 1, 2]\nassert bubble(xs) is None\nassert xs == [1, 2, 3]\nd = {}\nspread(d)\nspread(d)\nassert d"
            " == {'new': [1, 1]}\nrow = [1]\ngrid = [row, row]\nprune(grid)\nassert row == [] and grid == [[], []]"
        ),
    ),
    "leaves its argument alone": (
        "def ordered(xs):\n    return sorted(xs)",
        "xs = [3, 1]\nassert ordered(xs) == [1, 3]\nassert xs == [3, 1]\nassert ordered(xs) is not xs",
    ),
    "returns its argument": (
        "def same(xs):\n    xs.append(1)\n    return xs",
        "xs = []\nassert same(xs) is xs\nassert xs == [1]",
    ),
    "calls functions it is given": (
        (
            "def compose(f, g):\n    return lambda x: f(g(x))\ndef apply_all(fs, x):\n    return [f(x) for f in"
            " fs]\ndef sort_by(xs, key):\n    return sorted(xs, key=key)"
        ),
        (
            "assert compose(lambda x: x + 1, lambda x: x * 2)(5) == 11\nassert apply_all([str, len], 'ab') == ['ab',"
            " 2]\nassert sort_by(['bb', 'a'], len) == ['a', 'bb']\nassert sort_by([3, -4], abs) == [3, -4]"
        ),
    ),
    "errors of its own": (
        (
            "class TooPoor(ValueError):\n    def __init__(self, missing):\n        super().__init__(f'{missing}"
            " missing')\n        self.missing = missing\ndef pay(have, cost):\n    if cost > have: raise TooPoor(cost -"
            " have)\n    return have - cost"
        ),
        (
            "assert pay(5, 3) == 2\ntry:\n    pay(1, 3)\n    raised = None\nexcept TooPoor as error:\n    raised ="
            " str(error)\nassert raised == '2 missing'\ntry:\n    pay(1, 3)\n    raised = False\nexcept ValueError:\n  "
            "  raised = True\nassert raised"
        ),
    ),
    "errors of Python": (
        "def safe(d, k):\n    return d[k]\ndef ratio(a, b):\n    return a / b",
        (
            "for f, args, kind in [(safe, ({}, 'x'), KeyError), (ratio, (1, 0), ZeroDivisionError)]:\n    try:\n       "
            " f(*args)\n    except kind:\n        pass\n    else:\n        assert False"
        ),
    ),
    "a context manager": (
        (
            "from contextlib import contextmanager\nlog = []\n@contextmanager\ndef span(name):\n    log.append('in ' +"
            " name)\n    yield name\n    log.append('out')\ndef seen(): return log"
        ),
        "with span('a') as name:\n    assert name == 'a'\nassert seen() == ['in a', 'out']",
    ),
    "keeps state in a module variable": (
        "total = 0\ndef add(n):\n    global total\n    total += n\n    return total",
        "assert add(2) == 2\nassert add(3) == 5\nassert total is not None",
    ),
    "a large result": (
        (
            "def primes(n):\n    s = bytearray([1]) * (n + 1)\n    s[:2] = b'\\0\\0'\n    for i in range(2, int(n **"
            " .5) + 1):\n        if s[i]: s[i*i::i] = bytes(len(range(i*i, n + 1, i)))\n    return [i for i, p in"
            " enumerate(s) if p]"
        ),
        "assert len(primes(500_000)) == 41538\nassert primes(10) == [2, 3, 5, 7]",
    ),
    "unusual names": (
        "def größe(xs):\n    return len(xs)\n_private = lambda: 1",
        "assert größe([1, 2]) == 2\nassert _private() == 1",
    ),
    "threads' locks and queues": (
        (
            "import threading, queue\ndef drain(xs):\n    q, lock = queue.Queue(), threading.Lock()\n    for x in xs:"
            " q.put(x)\n    out = []\n    while not q.empty():\n        with lock: out.append(q.get())\n    return out"
        ),
        "assert drain([1, 2]) == [1, 2]",
    ),
    "functions of tests": (
        "def double(x): return 2 * x",
        "def test_numbers():\n    assert double(2) == 4\ndef test_text():\n    assert double('a') == 'aa'",
    ),
    "HumanEval style": (
        "def inc(xs): return [x + 1 for x in xs]",
        {
            "entry_point": "inc",
            "given": "def helper(): return [2]\ndef inc(xs): pass",
            "code": (
                "def check(candidate):\n    assert candidate([1]) == helper()\n    for n in range(3):\n        assert"
                " candidate([n]) == [n + 1]\n"
            ),
        },
    ),
    "calls with expected values": (
        "def pair(a, b=0): return a, {'sum': a + b}",
        {
            "function": "pair",
            "cases": [
                [[1, 2], [1, {"sum": 3}]],
                {"args": [5], "expected": [5, {"sum": 5}]},
                {"args": [1], "kwargs": {"b": 4}, "expected": [1, {"sum": 5}]},
            ],
        },
    ),
    "calls with a tolerance": (
        "def third(x): return x / 3",
        {"function": "third", "cases": [[[1], 0.333333]], "tolerance": 1e-5},
    ),
    "standard input and output": (
        (
            "import sys\ndef main():\n    n = int(input())\n    rows = [list(map(int, sys.stdin.readline().split()))"
            " for _ in range(n)]\n    for row in rows:\n        print(sum(row), max(row))\n\nif __name__ =="
            " '__main__':\n    main()"
        ),
        {"cases": [["2\n1 2 3\n4 5\n", "6 3\n9 5\n"], {"stdin": "1\n7\n", "stdout": "7 7"}]},
    ),
    "reads all input at once": (
        "data = open(0).read().split()\nprint(*reversed(data), end='')\nraise SystemExit",
        {"cases": [["a b c", "c b a"]]},
    ),
}


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=30.0) as checker:
        yield checker


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_right_program_is_judged_right(checker: UnitTestChecker, name: str) -> None:
    program, tests = PROGRAMS[name]
    verdict = checker.check_sync(f"Here it is:\n```python\n{program}\n```\nIt works.", tests)
    assert verdict.correct, verdict.reason
    assert verdict.answer is not None and verdict.answer.strip() == program.strip()
    assert checker.validate_reference(tests) is None


def test_there_are_enough_of_them() -> None:
    assert len(PROGRAMS) >= 25
