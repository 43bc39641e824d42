"""The shape of the project: where things are, what may import what, what is public, what is loaded when."""

import ast
import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import selfcorrect

PACKAGE = Path(selfcorrect.__file__).parent
ROOT = Path(__file__).parents[1]
LAYERS = ["rewards", "tasks", "agents", "training", "cli"]
"""Each may import itself, those before it, and those of `BASE`."""
BASE = [
    "errors",
    "bars",
    "settings",
    "setting_groups",
    "files",
    "registry",
    "public_names",
    "distribution",
    "undivided",
    "devices",
]

IN_CHECKOUT = PACKAGE.resolve().is_relative_to(ROOT.resolve())
needs_checkout = pytest.mark.skipif(not IN_CHECKOUT, reason="tests run against an installed wheel")


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def imported_modules(source: Path) -> Iterator[str]:
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative imports hide the direction"
            yield node.module or ""


@needs_checkout
def test_the_required_entries_lie_at_the_top() -> None:
    for entry in ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt"]:
        assert (ROOT / entry).is_file(), entry
    for entry in ["agents", "rewards", "tasks", "training", "tests"]:
        assert (ROOT / entry).is_dir() and not (ROOT / entry).is_symlink(), entry
    assert not (ROOT / "conftest.py").exists(), "a conftest.py in the root puts the root on sys.path"


@needs_checkout
@pytest.mark.parametrize("name", ["agents", "rewards", "tasks", "training"])
def test_the_import_name_links_to_the_root_folder(name: str) -> None:
    link = PACKAGE / name
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert link.resolve() == (ROOT / name).resolve()


@needs_checkout
@pytest.mark.parametrize("name", ["agents", "rewards", "tasks", "training"])
def test_a_root_folder_refuses_its_bare_name(name: str) -> None:
    unsafe = {
        key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"
    }  # it would keep the root off sys.path
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, env=unsafe, capture_output=True, text=True, check=False
    )
    assert f"this folder is selfcorrect.{name}" in done.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    allowed = {f"selfcorrect.{name}" for name in [*LAYERS[: LAYERS.index(layer) + 1], *BASE]}
    for source in sources(PACKAGE / layer):
        for module in imported_modules(source):
            if module.split(".")[0] == "selfcorrect":
                assert ".".join(module.split(".")[:2]) in allowed, f"{source} imports {module}"


@pytest.mark.parametrize("name", [*LAYERS, "."])
def test_no_source_imports_a_bare_folder_name(name: str) -> None:
    for source in sources(PACKAGE / name):
        bare = [module for module in imported_modules(source) if module.split(".")[0] in LAYERS[:-1]]
        assert not bare, f"{source} imports {bare}; write selfcorrect.{bare[0]}"


@pytest.mark.parametrize("source", [path for layer in LAYERS for path in sources(PACKAGE / layer)], ids=str)
def test_no_function_is_longer_than_seventy_lines(source: Path) -> None:
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, f"{source}: {node.name}"


FILES_IN_A_FOLDER = 18
LINES_OF_A_FILE = 400
LONGER = {
    "rewards/sandbox/inside/candidate.py": "what shares a process with the judged program is read as a whole",
    "rewards/sandbox/inside/session.py": "the one connection of tests and program, in both directions",
    "rewards/sandbox/inside/proxies.py": "one rule, for every special method that Python has",
}
"""Files of more lines, each with its reason. A file is a chapter: mostly 100 to 300 lines."""


def test_a_file_is_no_longer_than_a_chapter_or_says_why() -> None:
    longer = {
        str(source.relative_to(PACKAGE))
        for layer in LAYERS
        for source in sources(PACKAGE / layer)
        if len(source.read_text(encoding="utf-8").splitlines()) > LINES_OF_A_FILE
    }
    assert longer <= set(LONGER), "split these, or say in LONGER why not"


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    flat = Counter(
        source.parent for layer in LAYERS for source in sources(PACKAGE / layer) if source.stem != "__init__"
    )
    for folder, count in flat.items():
        name = folder.relative_to(PACKAGE)
        assert count <= FILES_IN_A_FOLDER, f"{name} holds {count} files: what changes together is one"


@pytest.fixture(scope="module")
def rooms() -> Any:
    """benchmarks/rooms.py, which measures the layout."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "rooms.py")))


@needs_checkout
def test_modules_do_not_import_each_other_in_circles(rooms: Any) -> None:
    """Neither as they are loaded nor inside functions; only what type checkers alone see may close a circle."""
    graph = rooms.imports_of(ROOT, lazy=True)
    assert "selfcorrect.rewards.shaping" in graph["selfcorrect.training.ppo.objectives"]
    assert "selfcorrect.training.own_graph_run" in graph["selfcorrect.training.own_graph"], "inside a function"
    assert not list(rooms.circles_in(graph))


@needs_checkout
def test_circles_are_found(rooms: Any) -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert list(rooms.circles_in(graph)) == [{"b", "c"}]
    source = "import x\nif TYPE_CHECKING: import y\ndef f(): import z\ntry: import w\nexcept E: import v\n"
    found = [alias.name for node in rooms.statements(ast.parse(source).body, lazy=False) for alias in node.names]
    assert found == ["x", "w", "v"]


HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "langgraph", "sympy", "matplotlib", "scipy", "jinja2"}


@pytest.mark.parametrize(
    "code",
    [
        "import selfcorrect",
        "import selfcorrect.rewards, selfcorrect.tasks, selfcorrect.agents, selfcorrect.training",
        "from selfcorrect.cli.app import app; app(['--help'], standalone_mode=False)",
        "from selfcorrect.cli.app import app; app(['solve', '--help'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    program = (
        "import contextlib, io, json, sys\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    {code}\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_verdicts_and_shaping_need_nothing_heavy() -> None:
    program = (
        "import json, sys, selfcorrect.rewards.checker, selfcorrect.rewards.shaping; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (PACKAGE / "py.typed").is_file()
