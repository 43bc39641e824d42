"""How the code is laid out, in figures: files, folders, import circles, and how many files a run goes through.

    python benchmarks/rooms.py                 # sizes, folders, imports: seconds
    python benchmarks/rooms.py --trace         # and the files that three runs enter: a minute or two
    python benchmarks/rooms.py --root ../old   # of another checkout

A run enters a file when a function defined in it is called; that a module is imported does not count.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median

LAYERS = ["rewards", "tasks", "agents", "training", "cli"]
"""Each may import itself and those before it."""
SHORT = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--trace", action="store_true", help="play and train, and count the files entered")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    figures = {**sizes(root), **imports(root)}
    if arguments.trace:
        figures |= {f"files entered: {name}": len(entered(root, program)) for name, program in RUNS.items()}
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:{width}}  {figure}")


def product(root: Path) -> dict[str, Path]:
    """Module name -> file. The four folders lie in the root, and the rest in src; links are not followed."""
    package = root / "src" / "selfcorrect"
    files = [(root, file) for layer in LAYERS[:-1] for file in (root / layer).rglob("*.py")]
    files += [
        (package, Path(folder) / name)
        for folder, _, names in os.walk(package)
        for name in names
        if name.endswith(".py")
    ]
    modules = {}
    for base, file in files:
        parts = ["selfcorrect", *file.relative_to(base).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


# Sizes.


def sizes(root: Path) -> dict[str, object]:
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in product(root).values()}
    chapters = {file: count for file, count in lines.items() if file.name != "__init__.py"}
    flat = Counter(file.parent for file in chapters)
    folder, most = flat.most_common(1)[0]
    longest = max(lines, key=lines.__getitem__)
    short = sum(count < SHORT for count in lines.values())
    return {
        "product files": len(lines),
        "median lines": median(lines.values()),
        "  without __init__": f"{len(chapters)} files, median {median(chapters.values())}",
        f"share under {SHORT} lines": f"{short / len(lines):.0%}",
        "  of those without __init__": f"{sum(count < SHORT for count in chapters.values()) / len(chapters):.0%}",
        "longest file": f"{lines[longest]} lines, {longest.relative_to(root)}",
        "largest flat folder": f"{most} files, {folder.relative_to(root)}",
    }


# Imports.


def imports(root: Path) -> dict[str, object]:
    eager, all_of_them = imports_of(root, lazy=False), imports_of(root, lazy=True)
    circles = {
        "import circles at module level": list(circles_in(eager)),
        "  with imports inside functions": list(circles_in(all_of_them)),
    }
    against = [(name, other) for name, others in all_of_them.items() for other in others if is_against(name, other)]
    return {
        **{
            told: "; ".join([str(len(some)), *(" ".join(sorted(circle)) for circle in some)])
            for told, some in circles.items()
        },
        "imports against the one way": len(against),
        **{f"  {name}": other for name, other in against},
    }


def imports_of(root: Path, *, lazy: bool) -> dict[str, set[str]]:
    """Module name -> the modules of the product that it imports, as it is loaded, or (`lazy`) at any time."""
    modules = product(root)
    return {name: set(imported(name, file, modules, lazy=lazy)) for name, file in modules.items()}


def imported(name: str, file: Path, modules: Mapping[str, Path], *, lazy: bool) -> Iterator[str]:
    """The modules of the product that `name` imports, as it is loaded, or (`lazy`) at any time. What only a type
    checker sees is no import."""
    for node in statements(ast.parse(file.read_text(encoding="utf-8")).body, lazy=lazy):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        else:
            # `from package import module` imports the module, `from module import name` the module it is in
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [one if one in modules else str(node.module) for one in found]
        yield from (one for one in named if one in modules and one != name)


def statements(body: Iterable[ast.stmt], *, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse, lazy=lazy)
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
            for child in inner:
                yield from statements(child.body if isinstance(child, ast.ExceptHandler) else [child], lazy=lazy)


def is_against(name: str, other: str) -> bool:
    layer, theirs = (module.split(".")[1] if "." in module else "" for module in (name, other))
    return layer in LAYERS and theirs in LAYERS and LAYERS.index(theirs) > LAYERS.index(layer)


def circles_in(graph: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """The strongly connected components of more than one module."""
    left = set(graph)
    reach = {name: reachable(graph, name) for name in graph}
    while left:
        name = left.pop()
        circle = {other for other in reach[name] if name in reach[other]} | {name}
        left -= circle
        if len(circle) > 1:
            yield circle


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        ahead += (new := graph[ahead.pop()] - seen)
        seen |= new
    return seen


# Traces.

_TRAINING = ["score.stage_one_steps=1", "score.stage_two_steps=1", "optimiser.problems_per_step=2"]
_TRAINING += ["optimiser.episodes_per_problem=2", "evaluation.problems=4", "save_every=2"]
_SET = [part for setting in _TRAINING for part in ("--set", setting)]
_COMMAND = """
from selfcorrect.cli.app import app
start()
try:
    app({arguments!r}, standalone_mode=False)
except SystemExit as ended:
    assert not ended.code, ended.code
"""
_OWN_GRAPH = """
import torch
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from selfcorrect import CountdownTask, Sampling, TransformersPolicy, TurnPPOConfig, train
from selfcorrect.agents import embedded_folder

class State(TypedDict, total=False):
    question: str
    answer: str

task = CountdownTask(4)
start()
policy = TransformersPolicy.from_pretrained(embedded_folder())

async def attempt(state):
    made = await policy.generate([{"role": "user", "content": state["question"]}], Sampling(temperature=1.0))
    return {"answer": made["text"]}

builder = StateGraph(State)
builder.add_node("attempt", attempt)
builder.add_edge(START, "attempt")
builder.add_edge("attempt", END)
train(
    builder.compile(), task.problems("train", 4), policy=policy, inputs=lambda problem: {"question": problem.prompt},
    reward_fn=lambda state, turns: [float(len(turn.text) % 2) for turn in turns],
    config=TurnPPOConfig(output_dir="own", steps=1, problems_per_step=2, episodes_per_problem=2),
)
"""
RUNS = {
    "train score": _COMMAND.format(arguments=["train", "score", "--out", "run", *_SET]),
    "solve": _COMMAND.format(arguments=["solve", "3 5 7 9 get 56"]),
    "own graph": _OWN_GRAPH,
}
_TRACED = """
import inspect, json, os, sys, threading
seen = set()
def note(frame, event, argument):
    # bodies of modules and classes are no functions: they run because of an import
    if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        seen.add(frame.f_code.co_filename)
def start():
    threading.setprofile(note)
    sys.setprofile(note)
"""
_WRITTEN = """
sys.setprofile(None)
threading.setprofile(None)
with open("entered.json", "w") as file:
    json.dump(sorted(seen), file)
os._exit(0)  # what libraries do at their end is no part of the run
"""


def entered(root: Path, program: str) -> set[Path]:
    """The files of the product in which the run called a function, in its own process."""
    settings = {"PYTHONPATH": str(root / "src"), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _TRACED + program + _WRITTEN]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"the run ended with status {done.returncode}: {done.stderr[-3000:]}")
        files = {Path(name).resolve() for name in json.loads((Path(folder) / "entered.json").read_text())}
    return files & {file.resolve() for file in product(root).values()}


if __name__ == "__main__":
    main()
