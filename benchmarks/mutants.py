"""Which changes of the judges, rewards, losses and statistics would no test notice?

mutmut changes every function of `TESTS_OF` in every way it knows, one change at a time; `EDITS` are changes of what it
leaves alone (patterns, defaults, properties). A change is killed if a test of that file fails. What survives changes
nothing that can be seen, and is listed with the reason in mutants_equivalent.toml; or a test is missing, and this
script ends with status 1.

    pip install -c constraints.txt -e '.[test,mutation]'
    python benchmarks/mutants.py                              # half an hour on two cores
    python benchmarks/mutants.py --only rewards/countdown.py
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")

TESTS_OF = {
    "rewards/countdown.py": ["tests/rewards/test_countdown.py", "tests/agents/search/test_answer_keys.py"],
    "rewards/equations.py": ["tests/rewards/test_equations.py", "tests/agents/search/test_answer_keys.py"],
    "rewards/shaping.py": ["tests/rewards/test_shaping.py"],
    "training/ppo/advantages.py": [
        "tests/training/ppo/test_shapes.py",
        "tests/training/ppo/test_advantages.py",
        "tests/training/arms/test_who_is_paid_what.py",
    ],
    "training/ppo/loss.py": [
        "tests/training/ppo/test_loss.py",
        "tests/training/ppo/test_surrogates.py",
        "tests/training/ppo/test_shapes.py",
        "tests/training/ppo/test_exact_gradient.py",
        "tests/training/ppo/test_mismatch.py::test_ratios_are_cut_token_by_token_turn_by_turn_and_row_by_row",
        "tests/training/ppo/test_mismatch.py::test_the_bounds_themselves_are_kept_and_weights_are_numbers_of_the_log_probabilities",
        "tests/training/ppo/test_mismatch.py::test_a_product_that_no_number_can_hold_is_truncated_or_masked",
        "tests/training/ppo/test_mismatch.py::test_truncated_at_infinity_the_expectation_is_the_trainers",
    ],
    "training/ppo/objectives.py": [
        "tests/training/ppo/test_objectives.py",
        "tests/training/arms/test_who_is_paid_what.py",
        "tests/training/ppo/test_exact_gradient.py",
    ],
    "training/compare/statistics.py": ["tests/training/compare/test_statistics.py"],
}

EDITS = {
    "rewards/countdown.py": [
        # the three rules that could once be removed unseen
        ("if left_over[operand] < 1:", "if operand not in left_over:"),
        ("if len(steps) < len(numbers) - 1:", "if False:"),
        ("return left / right if right != 0 else None", "return left / right if right != 0 else left"),
        ("(?<![\\w.])(", "("),
        ("(?<![\\w.])(", "(?<![\\w])("),
        ("(?![\\w.])", ""),
        ("(?![\\w.])", "(?![.])"),
        ("(?![\\w.])", "(?![\\w])"),
        ("(\\d{1,9}(?:/\\d{1,9})?)\\s*([", "(\\d{1,9})\\s*(["),
        ("(\\d{1,9}(?:/\\d{1,9})?)\\s*([", "(\\d{1,8}(?:/\\d{1,9})?)\\s*(["),
        ("(\\d{1,9}(?:/\\d{1,9})?)\\s*([", "(\\d{1,10}(?:/\\d{1,9})?)\\s*(["),
        ("\\s*=\\s*(\\d{1,9}(?:/\\d{1,9})?)", "\\s*=\\s*(\\d{1,9})"),
        ("\\s*=\\s*(\\d{1,9}(?:/\\d{1,9})?)", "\\s*=\\s*(\\d{1,9}(?:/\\d{1,8})?)"),
        ("[-+*/x×÷]", "[-+*/]"),
        ('"x": "*"', '"x": "+"'),
        ('"÷": "/"', '"÷": "-"'),
        ("20_000", "19_999"),
        ("20_000", "20_001"),
    ],
    "rewards/equations.py": [
        ("(?<![\\w.])", ""),
        ("(?!\\w|\\.[0-9]|\\s{0,9}[-−+*/×÷=^])", "(?!\\w|\\s{0,9}[-−+*/×÷=^])"),
        ("(?!\\w|\\.[0-9]|\\s{0,9}[-−+*/×÷=^])", "(?!\\w|\\.[0-9])"),
        ("(?!\\w|\\.[0-9]|\\s{0,9}[-−+*/×÷=^])", "(?!\\.[0-9]|\\s{0,9}[-−+*/×÷=^])"),
        ("[-/−÷]", "[-/]"),
        ('"−": "-"', '"−": "/"'),
        ("([0-9]{1,9})\\s{0,9}([", "(\\d{1,9})\\s{0,9}(["),
        ("20_000", "19_999"),
        ("20_000", "20_001"),
        ('"xyzw"', '"xyz"'),
        ('"xyzw"', '"xyzv"'),
    ],
    "training/ppo/advantages.py": [("_NO_SPREAD = 1e-6", "_NO_SPREAD = 1e-2"), ("_NO_SPREAD = 1e-6", "_NO_SPREAD = 0")],
    "training/ppo/objectives.py": [
        ("return sum(batches for _, batches in self.stages)", "return len(self.stages)"),
        ("return [None] * len(says_wrong)", "return [0.0] * len(says_wrong)"),
        ("beta1: float = 0.01\n    beta2: float = 0.1", "beta1: float = 0.1\n    beta2: float = 0.1"),
        ("beta1: float = 0.01\n    beta2: float = 0.1", "beta1: float = 0.01\n    beta2: float = 0.01"),
        ("learning_answer: int | None = None", "learning_answer: int | None = 0"),
        ("learns: bool = True", "learns: bool = False"),
        ("beta_first: float | None = None", "beta_first: float | None = 0.0"),
    ],
}
"""File -> (text, what takes its place): each is applied alone, to the first place where the text stands."""


@dataclass(frozen=True)
class Mutant:
    """One change, and whether it lives on."""

    source: str
    function: str
    was: str
    becomes: str
    survived: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(TESTS_OF), default=list(TESTS_OF), metavar="FILE")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    arguments = parser.parse_args()
    mutants: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "project"
        copy_project(copy)
        for source in arguments.only:
            made = [*by_mutmut(copy, source, arguments.children), *by_edits(copy, source)]
            for one in unexplained(made):
                print(f"{one.source}: {one.function}\n  - {one.was}\n  + {one.becomes}", flush=True)
            mutants += made
    return report(mutants)


def copy_project(copy: Path) -> None:
    """What git knows or would know, links as links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if not os.path.lexists(ROOT / name):
            continue  # removed, and git has not been told yet
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)


def environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}


# Changes of functions.


def by_mutmut(copy: Path, source: str, children: int) -> list[Mutant]:
    """All that mutmut makes of one file, tried against the tests of that file."""
    shutil.rmtree(copy / "mutants", ignore_errors=True)
    linked = f"src/selfcorrect/{source}"
    lines = [
        "[mutmut]",
        f"source_paths={linked}",
        "process_isolation=forkserver",  # a fork of a process in which torch has made threads hangs
        "pytest_add_cli_args_test_selection=",
        *(f"    {test}" for test in TESTS_OF[source]),
        "also_copy=",
        *(f"    {folder}" for folder in ("agents", "rewards", "tasks", "training", "src", "examples", "tests")),
    ]
    (copy / "setup.cfg").write_text("\n".join(lines) + "\n")
    print(f"{source}: mutmut ...", file=sys.stderr, flush=True)
    command = ["mutmut", "run", "--max-children", str(children)]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False)
    results = copy / "mutants" / f"{linked}.meta"
    exits = json.loads(results.read_text())["exit_code_by_key"] if results.exists() else {}
    if not exits or None in exits.values():
        raise SystemExit(f"mutmut did not come to its end: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return [mutant_of(copy, source, name, survived=status in SURVIVED) for name, status in exits.items()]


SURVIVED = {0, 33, 34}
"""Exit statuses of mutmut: all tests passed, no test ran it, skipped."""


def mutant_of(copy: Path, source: str, name: str, *, survived: bool) -> Mutant:
    function = name.rpartition(".")[2].rpartition("__mutmut_")[0].removeprefix("x_").replace("xǁ", "").replace("ǁ", ".")
    if not survived:
        return Mutant(source, function, "", "", survived)
    command = ["mutmut", "show", name]
    shown = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=True)
    changed = [line for line in shown.stdout.splitlines() if not line.startswith(("---", "+++"))]
    was, becomes = (" ".join(line[1:].strip() for line in changed if line.startswith(sign)) for sign in "-+")
    return Mutant(source, function, was, becomes, survived)


# Changes of what is no function.


def by_edits(copy: Path, source: str) -> Iterator[Mutant]:
    """The edits of one file, each alone, tried against the tests of that file."""
    path = copy / source
    original = path.read_text()
    for was, becomes in EDITS.get(source, ()):
        if was not in original:
            raise SystemExit(f"{source} no longer holds {was!r}: mend EDITS")
        path.write_text(original.replace(was, becomes, 1))
        print(f"{source}: {was!r} -> {becomes!r}", file=sys.stderr, flush=True)
        yield Mutant(source, "", was, becomes, survived=tests_pass(copy, TESTS_OF[source]))
    path.write_text(original)


def tests_pass(copy: Path, tests: Sequence[str]) -> bool:
    command = ["pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2):  # passed, failed, not even collected
        raise SystemExit(f"pytest ended with status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


# What came of it.


def unexplained(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Those that survived and are not known to change nothing."""
    known = set(equivalents())
    return [
        one
        for one in mutants
        if one.survived and (one.source, one.becomes) not in known and not only_strict_is_left_away(one)
    ]


def only_strict_is_left_away(one: Mutant) -> bool:
    """`zip(..., strict=True)` guards against a bug of ours; without it nothing else becomes of lists of one length."""
    loose = re.compile(r",\s*(strict=(True|False|None)\s*)?(?=\))")
    return "strict=True" not in one.becomes and loose.sub("", one.was) == loose.sub("", one.becomes)


def report(mutants: Sequence[Mutant]) -> int:
    alive = unexplained(mutants)
    print("| file | changes | killed | survived | of these equivalent |\n|---|---|---|---|---|")
    made, survived, open_ones = (
        Counter(one.source for one in some) for some in (mutants, [one for one in mutants if one.survived], alive)
    )
    for source in [*made, "all"]:
        total, lived, unknown = (
            counted.total() if source == "all" else counted[source] for counted in (made, survived, open_ones)
        )
        print(f"| {source} | {total} | {total - lived} | {lived} | {lived - unknown} |")
    return 1 if alive else 0


def equivalents() -> Iterable[tuple[str, str]]:
    """(file, new text) of the changes that change nothing that can be seen."""
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"]
    return [(entry["file"], becomes) for entry in listed for becomes in entry["becomes"]]


if __name__ == "__main__":
    sys.exit(main())
