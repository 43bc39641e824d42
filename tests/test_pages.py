"""What pages tell holds: their programs print what they show, their commands parse, and no paper lacks a line."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from selfcorrect.settings import settled
from selfcorrect.training import QuietSettings
from selfcorrect.training.settings import PRESETS

ROOT = Path(__file__).parents[1]
ROOMS = ["rewards", "tasks", "agents", "training"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAPERS = ROOT / "docs" / "papers.md"
pytestmark = pytest.mark.skipif(not PAPERS.is_file(), reason="there is nothing to read beside an installed wheel")


# Programs.

SHOWN = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A block of Python and what it prints."""


IN_FORKS = """
import ast, gc, os, pathlib, runpy, sys
blocks = [pathlib.Path(name) for name in sys.argv[1:]]
for block in blocks:
    for node in ast.parse(block.read_text("utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), block, "exec"), {})
gc.freeze()
for block in blocks:
    if not os.fork():
        os.dup2(os.open(block.with_suffix(".out"), os.O_CREAT | os.O_WRONLY), 1)
        os.chdir(block.parent)
        runpy.run_path(str(block), run_name="__main__")
        sys.exit()
    if os.wait()[1]:
        sys.exit(f"{block} failed")
"""
"""Runs programs each in a process of its own, forked from one that has done the imports of all: they take longest."""


def each_ran(programs: list[str], folder: Path, python: str) -> list[str]:
    """What each program printed, in a folder of its own."""
    blocks = [folder / str(number) / "block.py" for number in range(len(programs))]
    for block, program in zip(blocks, programs, strict=True):
        block.parent.mkdir()
        block.write_text(program, encoding="utf-8")
    if not hasattr(os, "fork"):
        return [ran(program, block.parent).stdout for block, program in zip(blocks, programs, strict=True)]
    ran(IN_FORKS, folder, *map(str, blocks), python=python)
    return [block.with_suffix(".out").read_text("utf-8") for block in blocks]


@pytest.mark.slow
def test_each_block_of_the_pages_runs_on_its_own_and_prints_what_follows_it(tmp_path: Path, warm_python: str) -> None:
    shown = {}
    for page in ("docs/solving.md", "docs/how-to.md", "docs/running.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        blocks = SHOWN.findall(text)
        begun = re.findall("^```python$", text, re.MULTILINE)
        assert len(blocks) == len(begun) > 0, f"a block of {page} is not followed by what it prints"
        shown |= dict(blocks)
    *printed, answered = each_ran([*shown, READMES_PROGRAMS[1]], tmp_path, warm_python)
    for told, (code, expected) in zip(printed, shown.items(), strict=True):
        assert told == expected, code
    assert "=" in answered, "the README's application answers its question"


README = (ROOT / "README.md").read_text("utf-8") if (ROOT / "README.md").is_file() else ""
READMES_PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_readme_is_short_and_has_these_programs() -> None:
    assert len(README.splitlines()) <= 105 and len(READMES_PROGRAMS) == 2


@pytest.mark.slow
def test_the_readmes_own_graph_trains_to_an_effect_in_a_process_of_its_own(tmp_path: Path, warm_python: str) -> None:
    done = ran(READMES_PROGRAMS[0], tmp_path, python=warm_python)
    figures = re.findall(r"^(\w+) (0\.\d+) -> (0\.\d+)$", done.stdout, re.MULTILINE)
    assert [node for node, _, _ in figures] == ["attempt", "improve"], done.stderr
    told = re.findall(r"`(\w+) (0\.\d+) -> (0\.\d+)`", README)
    assert len(told) == len(figures)
    for (_, before, after), (_, told_before, told_after) in zip(figures, told, strict=True):
        assert float(before) == pytest.approx(float(told_before), abs=0.01)
        assert float(after) == pytest.approx(float(told_after), abs=0.04)  # other machines round otherwise
    assert float(figures[1][2]) - float(figures[1][1]) > 0.02
    assert "=" in done.stdout.splitlines()[-1], "the trained graph answers a question"
    assert "Warning" not in done.stderr and "%|" not in done.stderr  # a library's bar


def ran(code: str, folder: Path, *arguments: str, python: str = sys.executable) -> "subprocess.CompletedProcess[str]":
    command = [python, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


SMALL = {
    "eval": "--max-answer-tokens 8",
    "train": "--max-answer-tokens 8 "
    + " ".join(
        f"--set {setting}"
        for setting in ("score.stage_one_steps=1", "score.stage_two_steps=1", "optimiser.problems_per_step=2")
        + ("optimiser.episodes_per_problem=2", "optimiser.gradient_accumulation=1", "evaluation.problems=2")
    ),
}
"""What makes a command of the README short enough for a random model in the tests; the rest of it is run as it is."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the block is of a POSIX shell")
def test_the_readmes_block_on_own_model_and_data_runs(tmp_path: Path, warm_python: str) -> None:
    from small_models import byte_chat_model

    block = next(block for block in SHELL.findall(README) if "problems.jsonl" in block)
    byte_chat_model(tmp_path / "my-model")
    cases = "".join(f'{name}) shift; set -- {name} "$@" {options};;\n' for name, options in SMALL.items())
    command = tmp_path / "bin" / "selfcorrect"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\nexec "{warm_python}" -m selfcorrect "$@"\n')
    command.chmod(0o755)
    path = os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", block], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for file in ("report.html", "episodes.html", "model/config.json"):
        assert (tmp_path / "runs" / "mine" / file).is_file()


SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands_of(path: Path) -> list[str]:
    """The commands of ours in a page's shell blocks, one a line; those with a variable or a pipe are a shell's."""
    text = "\n".join(SHELL.findall(path.read_text(encoding="utf-8"))).replace("\\\n", " ")
    ours = [line for line in text.splitlines() if line.startswith("selfcorrect ")]
    return [re.sub(r"&\s*(#.*)?$", "", line) for line in ours if not re.search(r"[$|]|DIR|\.\.\.", line)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(path: Path) -> None:
    for typed in commands_of(path):
        understand(typed)


def test_the_first_page_tells_every_extra_and_no_other() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "index.md").read_text("utf-8").partition("| extra | for |")[2].partition("\n\n")[0]
    told = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.partition(" | ")[0])]
    assert sorted(told) == sorted(extras)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and the site give a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_link_of_the_readme_leads_somewhere() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", README)
    assert len(linked) > 25
    for path, anchor in linked:
        assert (ROOT / path).exists() and (not anchor or anchor in headings(ROOT / path)), f"{path}#{anchor}"


def test_every_page_is_two_links_from_the_first() -> None:
    pages, first = set((ROOT / "docs").rglob("*.md")), ROOT / "docs" / "index.md"
    near = {first, *(linked := pages_linked_from(first))}.union(*map(pages_linked_from, linked))
    assert not pages - near, "GitHub shows no table of contents"


def pages_linked_from(page: Path) -> set[Path]:
    found = re.findall(r"\]\((?!https?:)([^)#]+\.md)", page.read_text("utf-8"))
    return {path for link in found if (path := (page.parent / link).resolve()).is_relative_to(ROOT / "docs")}


# Papers.

PAPER = re.compile(r"(?<![\d.$])((?:0[7-9]|1\d|2[0-6])(?:0[1-9]|1[0-2])\.\d{4,5})(?![\d.])")
"""Numbers of the form that arXiv gives: year, month, and what has come in it."""
INDEX = re.compile(
    r"^\| .*?abs/(?P<paper>[\d.]+)\).*\]\((?P<page>[^)#]+)[^)]*\) \| `(?P<command>[^`]+)` \|$", re.MULTILINE
)
ROWS = list(INDEX.finditer(PAPERS.read_text("utf-8"))) if PAPERS.is_file() else []


def papers_named(folder: Path, suffix: str) -> dict[str, Path]:
    """arXiv's number -> a file that names it. A number counts near the word arXiv only: others look like it."""
    found = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "arxiv" in line.casefold():
                near = "\n".join(lines[max(0, number - 1) : number + 2])
                found.update(dict.fromkeys(PAPER.findall(near), path))
    return found


def test_every_paper_that_is_named_has_a_line_in_the_index() -> None:
    named = papers_named(ROOT / "docs", ".md") | papers_named(ROOT / "notebooks", ".ipynb")
    named |= {paper: ROOT / "README.md" for paper in PAPER.findall((ROOT / "README.md").read_text("utf-8"))}
    for room in [*ROOMS, "src/selfcorrect/cli", "examples", "benchmarks"]:
        named |= papers_named(ROOT / room, ".py")
    named |= papers_named(ROOT / "benchmarks", ".md") | papers_named(ROOT / "recipes", ".md")
    listed = [row["paper"] for row in ROWS]
    assert len(listed) == len(set(listed)) > 40
    missing = {paper: str(path.relative_to(ROOT)) for paper, path in named.items() if paper not in listed}
    assert not missing
    assert PAPERS.read_text("utf-8").count("https://arxiv.org/abs/") == len(ROWS), "a line is not of the usual form"


CITED = re.compile(r"\b([A-Z][\w-]+)(?: et al\.?| and [A-Z]\w+),? \(?(?:19|20)\d\d")
"""Authors with a year, as "Snell et al. 2024"."""


def test_every_author_who_is_cited_with_a_year_stands_in_the_index() -> None:
    files = [*(ROOT / "docs").rglob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    cited = {name: path.name for path in files for name in CITED.findall(" ".join(path.read_text("utf-8").split()))}
    assert len(cited) > 30 and "Snell" in cited
    index = PAPERS.read_text("utf-8")
    assert not {name: file for name, file in cited.items() if not re.search(rf"\b{name}\b", index)}


def test_the_finder_of_papers_knows_a_number_of_arxiv_from_others(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "SCoRe (arXiv\n2409.12917), PPO arXiv 1707.06347, x = 1495.78125; 2020.1234567\n\n\n2401.00001\n"
    )
    assert set(papers_named(tmp_path, ".md")) == {"2409.12917", "1707.06347"}


@pytest.mark.parametrize("row", ROWS, ids=[row["paper"] for row in ROWS])
def test_the_page_of_a_paper_exists_and_its_command_is_understood(row: re.Match[str]) -> None:
    assert (PAPERS.parent / row["page"]).is_file()
    if row["command"].startswith("python -m "):
        assert (ROOT / "examples" / row["command"].split()[-1] / "__main__.py").is_file()
    else:
        understand(row["command"])


def understand(typed: str) -> None:
    """Raise unless `selfcorrect` knows the command, its options and, of runs, the settings that `--set` names."""
    from selfcorrect.cli.app import app

    words, command = shlex.split(typed, comments=True)[1:], get_command(app)
    context = command.make_context("selfcorrect", list(words), resilient_parsing=True)
    while hasattr(command, "resolve_command"):
        name, inner, words = command.resolve_command(context, words)
        assert inner is not None, f"there is no {typed}"
        command = inner
        if hasattr(command, "resolve_command"):
            context = command.make_context(name, list(words), parent=context, resilient_parsing=True)
    if words == ["--help"]:
        return
    given = command.make_context(name, list(words), parent=context).params
    named = [text for text in given.get("overrides") or () if not text.startswith("task.")]  # each task has its own
    base = QuietSettings() if name == "quiet-star" else PRESETS[given.get("preset") or "demo"]
    settled(base, config=None, chosen={}, overrides=named, source="--set")


@pytest.mark.parametrize(
    "typed",
    ["selfcorrect trian score", "selfcorrect train scoer", "selfcorrect train score --alpha 2"]
    + ["selfcorrect train score --set score.alhpa=2", "selfcorrect train score --preset dmeo"],
)
def test_what_the_command_line_does_not_know_is_not_understood(typed: str) -> None:
    with pytest.raises(Exception, match="trian|scoer|alpha|alhpa|dmeo"):
        understand(typed)


# Figures.


def test_no_interval_of_a_share_leaves_0_to_1() -> None:
    files = sorted((ROOT / "benchmarks" / "results").glob("compare*.json"))
    rows = [json.loads(path.read_text("utf-8"))[way] for path in files for way in ("greedy", "sampled")]
    shares = [
        [bound for bound in row[name]["interval"] if bound is not None]
        for table in rows
        for row in table.values()
        for name in ("accuracy_t1", "accuracy_t2", "i_to_c", "c_to_i", "unchanged")
    ]
    assert sum(map(len, shares)) > 400 and all(0 <= bound <= 1 for share in shares for bound in share)
    told = re.findall(r"(?<![+-])0\.\d+ \[(-?\d\.\d+), (\d\.\d+)\]", "".join(page.read_text("utf-8") for page in PAGES))
    assert len(told) > 100 and all(0 <= float(low) and float(high) <= 1 for low, high in told)


# Peers.

PEERS = ROOT / "docs" / "compare-peers.md"


def test_every_cell_about_a_peer_has_a_source_and_every_source_is_used() -> None:
    text = PEERS.read_text(encoding="utf-8")
    sources = re.findall(r"^\[([\w-]+)\]: https://\S+$", text, re.MULTILINE)
    heads, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]
    assert len(rows) > 12 and all(len(row) == len(heads) == 8 for row in rows)
    cells = [cell for row in rows for cell in row[2:]]
    used = [re.fullmatch(r"\[(?:yes|no|in part|experimental)[^\]]*\]\[([\w-]+)\]", cell) for cell in cells]
    assert all(used), [cell for cell, found in zip(cells, used, strict=True) if not found]
    assert {found[1] for found in used if found} | set(re.findall(r"\]\[(\w+)\]", " ".join(heads))) == set(sources)


def test_the_comparison_admits_where_others_are_ahead() -> None:
    behind = [line for line in PEERS.read_text("utf-8").splitlines() if line.startswith("| **")]
    assert len(behind) >= 5 and all(re.search(r"\| (no|\[(not|in part))", line) for line in behind)
