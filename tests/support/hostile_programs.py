"""Programs that try to be judged right without being right, by what they try.

All are asked for `total(numbers)`, the sum of a list; none computes it.
"""

from typing import Any

from selfcorrect.rewards.checker import Verdict
from selfcorrect.rewards.code import UnitTestChecker

ASSERTS = "assert total([17, 4]) == 21\nassert total([]) == 0\nassert total([8, 8, 8]) == 24"
CHECK = {
    "entry_point": "total",
    "code": "def check(candidate):\n    assert candidate([17, 4]) == 21\n    assert candidate([]) == 0\n",
}
CALLS = {"function": "total", "cases": [[[[17, 4]], 21], [[[]], 0]]}
FLOATS = "assert abs(total([1.5, 2.25]) - 3.75) < 1e-6\nassert abs(total([0.5]) - 0.5) < 1e-6"
LISTS = "assert sorted(total([3, 1])) == [1, 3]\nassert 3 in total([3, 1])"
RAISES = """
try:
    total(None)
    failed = True
except TypeError:
    failed = False
assert not failed
assert total([17, 4]) == 21
"""
SWALLOWS = """
try:
    outcome = total([17, 4]) == 21
except Exception:
    outcome = True
assert outcome
"""

LEAVE_EARLY = {
    "exit while loading": "import sys\nsys.exit(0)\ndef total(n): return 0",
    "os._exit while loading": "import os\nos._exit(0)",
    "exit in the call": "import sys\ndef total(n): sys.exit(0)",
    "os._exit in the call": "import os\ndef total(n): os._exit(0)",
    "raise SystemExit": "def total(n): raise SystemExit(0)",
    "raise SystemExit without code": "def total(n): raise SystemExit",
    "quit": "def total(n): raise SystemExit()\nexit = quit = total",
    "exit at interpreter's end": ("import atexit, os\natexit.register(lambda: os._exit(0))\ndef total(n): return None"),
    "exit group by system call": "import ctypes\ndef total(n): ctypes.CDLL(None).syscall(231, 0)",
    "abort": "import os\ndef total(n): os.abort()",
    "segfault": "import ctypes\ndef total(n): ctypes.string_at(0)",
    "close every descriptor": "import os\ndef total(n):\n    os.closerange(0, 256)\n    return 21",
}
RAISE = {
    "AssertionError": "def total(n): raise AssertionError('passed')",
    "KeyboardInterrupt": "def total(n): raise KeyboardInterrupt",
    "GeneratorExit": "def total(n): raise GeneratorExit",
    "StopIteration": "def total(n): raise StopIteration(21)",
    "skip the test": "import unittest\ndef total(n): raise unittest.SkipTest('not today')",
    "a base exception of its own": "class Passed(BaseException): pass\ndef total(n): raise Passed",
    "an exception with hostile text": (
        "class Loud(Exception):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\n"
        "def total(n): raise Loud"
    ),
    "an exception with endless text": "def total(n): raise ValueError('x' * 10**8)",
    "an exception group": "def total(n): raise ExceptionGroup('all passed', [ValueError()])",
    "an exception as its result": "def total(n): return AssertionError('passed')",
}
EQUAL_TO_ALL = {
    "equal to everything": (
        "class All:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef total(n): return All()"
    ),
    "equal and unequal at will": (
        "class All:\n    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\ndef total(n): return All()"
    ),
    "an int that is equal to everything": (
        "class All(int):\n    def __eq__(self, other): return True\n    def __hash__(self): return 0\n"
        "def total(n): return All(5)"
    ),
    "a list that is equal to everything": (
        "class All(list):\n    def __eq__(self, other): return True\ndef total(n): return All([1])"
    ),
    "a float that absorbs subtraction": (
        "class All(float):\n    def __sub__(self, other): return 0.0\n"
        "    def __rsub__(self, other): return 0.0\n    def __abs__(self): return 0.0\n"
        "def total(n): return All(99)"
    ),
    "an object that absorbs arithmetic": (
        "class All:\n    def __sub__(self, o): return 0.0\n"
        "    __rsub__ = __add__ = __radd__ = __mul__ = __sub__\n    def __abs__(self): return 0.0\n"
        "    def __lt__(self, o): return True\n    __gt__ = __le__ = __ge__ = __lt__\n"
        "def total(n): return All()"
    ),
    "equal to what it is asked about, wherever that stands among decoys": (
        "import random\nchance = random.Random(0)\n"
        "places = iter([place for _ in range(99) for place in chance.sample(range(6), 6)])\n"
        "class All:\n    def __eq__(self, other): return next(places) == 0\ndef total(n): return All()"
    ),
    "equal to what stands out in the question": (
        "import sys\n"
        "def asked():\n    frame, found = sys._getframe(), []\n    while frame:\n"
        "        found += [v for v in frame.f_locals.values() if isinstance(v, list)]\n        frame = frame.f_back\n"
        "    return found\n"
        "class All:\n    def __eq__(self, other):\n"
        "        return any(type(x) is type(other) and {other + 1, -other - 1} <= {y for y in xs if type(y) is int}\n"
        "                   for xs in asked() for x in xs if type(other) is int)\n"
        "    __hash__ = None\ndef total(n): return All()"
    ),
    "a difference that is always nothing": (
        "class All:\n    def __sub__(self, other): return self\n    __rsub__ = __isub__ = __xor__ = __sub__\n"
        "    def __abs__(self): return 0.0\n    def __float__(self): return 0.0\n"
        "    def __round__(self, n=None): return 0\n    def __bool__(self): return False\n"
        "    def __neg__(self): return 0.0\n    def __mul__(self, other): return All()\n"
        "    def max(self): return 0.0\n    sqrt = max\n    def __iter__(self): return iter([])\n"
        "def total(n): return All()"
    ),
    "false class": (
        "class All:\n    __class__ = int\n    def __eq__(self, other): return True\ndef total(n): return All()"
    ),
    "an equal metaclass": (
        "class Meta(type):\n    def __eq__(cls, other): return True\n    def __hash__(cls): return 1\n"
        "class All(metaclass=Meta): pass\ndef total(n): return All"
    ),
    "contains everything": (
        "class All:\n    def __contains__(self, item): return True\n"
        "    def __iter__(self): return iter([])\n    def __eq__(self, other): return True\n"
        "def total(n): return All()"
    ),
    "the function is a class": (
        "class total:\n    def __init__(self, n): pass\n    def __eq__(self, other): return True"
    ),
    "the function is a class that gives numbers": "class total:\n    def __new__(cls, n): return 5",
    "the function is a callable object": (
        "class T:\n    def __call__(self, n): return self\n    def __eq__(self, other): return True\n"
        "    def __getattr__(self, name): return self\ntotal = T()"
    ),
    "the function is an exception class": ("class total(Exception):\n    def __eq__(self, other): return True"),
    "a mock": "from unittest.mock import MagicMock\ntotal = MagicMock()",
    "ANY": "from unittest.mock import ANY\ndef total(n): return ANY",
    "not a number": "def total(n): return float('nan')",
}
PATCH = {
    "builtin sum, len and isinstance": (
        "import builtins\nbuiltins.len = builtins.isinstance = lambda *a: True\ndef total(n): return 1"
    ),
    "json": "import json\njson.dumps = lambda *a, **k: '[\"ok\",21,[]]'\ndef total(n): return 1",
    "the encoder of results": (
        "import sys\nvalues = sys.modules['selfcorrect.rewards.sandbox.inside.values']\n"
        "values.Writer.write = lambda self, value, depth=0: 21\ndef total(n): return 1"
    ),
    "assert itself": (
        "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})\ndef total(n): return 1"
    ),
    "the class of assertion errors": ("AssertionError = Exception\nException = SystemExit\ndef total(n): return 1"),
    "the test function": "def check(candidate): return True\ndef total(n): return 1",
    "the names the tests report with": (
        "def __selfcorrect_failed(n): pass\n"
        "__selfcorrect_passed = __selfcorrect_begin = __selfcorrect_failed\ndef total(n): return 1"
    ),
    "imports": (
        "import sys\nclass Finder:\n    def find_spec(self, *a): raise SystemExit(0)\n"
        "sys.meta_path.insert(0, Finder())\ndef total(n): return 1"
    ),
    "the clock": ("import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0\ndef total(n): return 1"),
    "tracing": ("import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef total(n): return 1"),
    "the helper functions of the tests": "abs = sorted = len = lambda *a: 0\ndef total(n): return 1",
}
FIND_THE_ANSWER = {
    "on the stack": (
        "import sys\ndef total(n):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
        "            if isinstance(value, str) and 'assert' in value and 'total(' in value: "
        "return 21\n        frame = frame.f_back\n    return -1"
    ),
    "in the heap": (
        "import gc\ndef total(n):\n    for thing in gc.get_objects():\n"
        "        if isinstance(thing, dict) and 'expected' in thing: return thing['expected']\n"
        "        if isinstance(thing, (list, dict)) and 'assert total' in "
        "repr(thing)[:10000]: return 21\n    return -1"
    ),
    "on the command line": (
        "import sys\ndef total(n): return 21 if any('total' in a for a in sys.argv + sys.orig_argv) else -1"
    ),
    "in procfs": (
        "def total(n):\n"
        "    for path in ('/proc/self/cmdline', '/proc/self/mem', '/proc/1/environ', "
        "'/proc/self/maps'):\n        try: data = open(path, 'rb').read()\n"
        "        except OSError: continue\n        return 21\n    return -1"
    ),
    "on the disk": (
        "import os\ndef total(n):\n    for folder in ('/tmp', '/', '.', '/home', '/root'):\n"
        "        try: os.listdir(folder)\n        except OSError: continue\n        return 21\n"
        "    return -1"
    ),
    "in the environment": (
        "import os\ndef total(n): return 21 if any('PATH' in k or 'HOME' in k for k in os.environ) else -1"
    ),
    "on its own channel": (
        "import os, fcntl\ndef total(n):\n    found = b''\n    for fd in range(32):\n        try:\n"
        "            os.set_blocking(fd, False)\n            found += os.read(fd, 100000)\n"
        "        except OSError: pass\n    return 21 if b'assert' in found else -1"
    ),
    "in another process's memory": (
        "import ctypes, os\ndef total(n):\n    buffer = ctypes.create_string_buffer(64)\n"
        "    return 21 if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 else -1"
    ),
}
FORGE = {
    "a verdict on every descriptor": (
        "import os, json, struct\ndef total(n):\n"
        "    for message in ({'done': True}, {'tests': 3}, {'results': [[0, None], [1, None], "
        "[2, None]], 'now': ''}):\n        body = json.dumps(message).encode()\n"
        "        for fd in range(32):\n"
        "            try: os.write(fd, struct.pack('>I', len(body)) + body)\n"
        "            except OSError: pass\n    os._exit(0)"
    ),
    "nonsense on its channel": (
        "import os\ndef total(n):\n    os.write(3, b'\\x00\\x00\\x00\\x02[]' * 50)\n    return 1"
    ),
    "a length that never comes": ("import os\ndef total(n):\n    os.write(3, b'\\xff\\xff\\xff\\xff')\n    return 1"),
    "answers ahead of time": (
        "import os, json, struct\nbody = json.dumps(['ok', 21, []]).encode()\n"
        "os.write(3, (struct.pack('>I', len(body)) + body) * 10)\ndef total(n): return 1"
    ),
    "a pickle": "import os, pickle\ndef total(n):\n    os.write(3, pickle.dumps(21))\n    return 1",
    "callbacks that were never handed over": (
        "import os, json, struct\ndef total(n):\n"
        "    body = json.dumps(['callback', 0, ['t', [['t', []], ['d', [], 0]]]]).encode()\n"
        "    os.write(3, struct.pack('>I', len(body)) + body)\n    return 1"
    ),
    "text on stdout and stderr": (
        "import sys\ndef total(n):\n    for s in (sys.stdout, sys.stderr):\n"
        "        print('OK\\n3 passed\\nCORRECT', file=s, flush=True)"
    ),
    "a deeply nested message": (
        "import os, struct\ndef total(n):\n    body = b'[' * 3000000\n"
        "    os.write(3, struct.pack('>I', len(body)) + body)\n    return 1"
    ),
}
EXHAUST = {
    "endless loop": "def total(n):\n    while True: pass",
    "endless loop while loading": "while True: pass",
    "endless sleep": "import time\ndef total(n): time.sleep(10**6)",
    "endless recursion": "import sys\nsys.setrecursionlimit(10**8)\ndef total(n): return total(n) + 1",
    "endless output": "def total(n):\n    while True: print('x' * 10**6)",
    "endless generator": "def total(n):\n    while True: yield 1",
    "a generator of itself": "def total(n):\n    return (x for x in iter(int, 1))",
    "all memory": "def total(n):\n    kept = []\n    while True: kept.append(bytearray(10**7))",
    "all memory at once": "def total(n): return bytearray(10**12)",
    "a huge list": "def total(n): return [0] * 10**7",
    "a huge text": "def total(n): return 'x' * 10**8",
    "a huge number": "def total(n): return 1 << (10**8)",
    "a large number that is slow to print": "def total(n): return 10**200000",
    "deep nesting": "def total(n):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "a list that holds itself": "def total(n):\n    x = []\n    x.append(x)\n    return x",
    "a slow regular expression": "import re\ndef total(n): return re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "colliding hashes": "def total(n): return {i * (2**61 - 1) for i in range(1, 60000)}",
    "ignores signals": (
        "import signal\nfor s in range(1, 60):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef total(n):\n    while True: pass"
    ),
    "more processor time than wall-clock time": "def total(n):\n    x = 3\n    while True: x = x * x",
    "compiles for ever": "def total(n): return eval('(' * 90 + '1' + ')' * 90 + '+1' * 100000)",
    "a bomb of names": "globals().update({f'n{i}': i for i in range(10**6)})\ndef total(n): return 1",
}
ESCAPE = {
    "fork": ("import os\ndef total(n):\n    while True:\n        if os.fork() == 0:\n            while True: pass"),
    "a thread": (
        "import threading, time\ndef total(n):\n"
        "    threading.Thread(target=time.sleep, args=(1000,)).start()\n    return 1"
    ),
    "a subprocess": (
        "import subprocess\ndef total(n): return int(subprocess.run(['/bin/echo', '21'], capture_output=True).stdout)"
    ),
    "a shell": "import os\ndef total(n): return 21 if os.system('true') == 0 else -1",
    "multiprocessing": (
        "import multiprocessing\ndef total(n):\n    with multiprocessing.Pool(2) as p: return p.apply(sum, (n,))"
    ),
    "exec": "import os\ndef total(n): os.execv('/bin/true', ['true'])",
    "write a file": "import os\ndef total(n):\n    open('hostile-was-here', 'w').write('x')\n    return 1",
    "write to the temporary folder": (
        "import tempfile\ndef total(n):\n    tempfile.mkstemp(prefix='hostile')\n    return 1"
    ),
    "change files without opening them": (
        "import os\ndef total(n):\n    os.chmod('/tmp', 0o777)\n    os.utime('/tmp')\n    return 1"
    ),
    "kill its parent": ("import os, signal\ndef total(n):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 1"),
    "kill everybody": "import os, signal\ndef total(n):\n    os.kill(-1, signal.SIGKILL)\n    return 1",
    "have its parent signalled": (
        "import fcntl, os, signal\ndef total(n):\n    a, b = os.pipe()\n"
        "    fcntl.fcntl(a, fcntl.F_SETOWN, os.getppid())\n    fcntl.fcntl(a, 10, signal.SIGKILL)\n"
        "    fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC)\n    os.write(b, b'x')\n    return 1"
    ),
    "connect": ("import socket\ndef total(n):\n    socket.create_connection(('127.0.0.1', 80), 1)\n    return 1"),
    "send a datagram": (
        "import socket\ndef total(n):\n"
        "    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n"
        "    return 1"
    ),
    "listen": "import socket\ndef total(n):\n    socket.create_server(('', 0))\n    return 1",
    "shared memory": (
        "from multiprocessing import shared_memory\ndef total(n):\n"
        "    shared_memory.SharedMemory('hostile', create=True, size=10**6)\n    return 1"
    ),
    "raise its limits": (
        "import resource\ndef total(n):\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n    return 1"
    ),
    "a system call of another architecture": (
        "import ctypes, mmap\ndef total(n):\n    code = mmap.mmap(-1, 4096, prot=7)\n"
        "    code.write(bytes.fromhex('b814000000cd80c3'))\n"
        "    call = "
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))\n"
        "    return 21 if call() > 0 else -1"
    ),
    "leave state for the next check": (
        "import builtins, sys\nbuiltins.left_behind = True\nsys.modules['math'] = None\ndef total(n): return 1"
    ),
}
NONE_OF_IT = {
    "a stub": "def total(n): return None",
    "no such function": "def sum_of(n): return sum(n)",
    "the argument itself": "def total(n): return n",
    "true for all": "def total(n): return True",
    "an empty program": "",
    "no Python": "def total(n) return sum(n)",
    "null bytes": "def total(n): return 1\x00",
    "a coroutine": "async def total(n): return 1",
    "changes the argument": "def total(n):\n    n.clear()\n    return n",
}

GROUPS = {
    "leave early": LEAVE_EARLY,
    "raise": RAISE,
    "equal to all": EQUAL_TO_ALL,
    "patch": PATCH,
    "find the answer": FIND_THE_ANSWER,
    "forge": FORGE,
    "exhaust": EXHAUST,
    "escape": ESCAPE,
    "none of it": NONE_OF_IT,
}
PROGRAMS = {f"{group}: {name}": program for group, programs in GROUPS.items() for name, program in programs.items()}
OTHER_SUITES = {"check": CHECK, "calls": CALLS, "floats": FLOATS, "raises": RAISES}
FORGIVING_SUITES = {"lists": LISTS, "swallows": SWALLOWS}
"""Tests that accept any exception, or whatever says that it holds an item: they are fooled by some wrong programs, but
not by leaving and not by hostile objects."""


def judged(checker: UnitTestChecker, program: str, tests: Any) -> Verdict:
    """The verdict; again where other programs kept the machine too busy."""
    for _ in range(5):
        verdict = checker.check_sync(f"```python\n{program}\n```", tests)
        if "too busy" not in verdict.reason:
            break
    return verdict
