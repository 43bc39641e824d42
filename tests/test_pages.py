"""What pages tell holds: their programs print what they show, their commands parse, and no paper lacks a line."""

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


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/solving.md", "docs/how-to.md", "docs/running.md"])
def test_each_block_of_a_page_runs_on_its_own_and_prints_what_follows_it(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = SHOWN.findall(text)
    assert len(blocks) == text.count("```python") > 0, "a block is not followed by what it prints"
    for code, printed in blocks:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == (printed, 0), done.stderr


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
    for room in ROOMS:
        named |= papers_named(ROOT / room, ".py")
    listed = [row["paper"] for row in ROWS]
    assert len(listed) == len(set(listed)) > 40
    missing = {paper: str(path.relative_to(ROOT)) for paper, path in named.items() if paper not in listed}
    assert not missing
    assert PAPERS.read_text("utf-8").count("https://arxiv.org/abs/") == len(ROWS), "a line is not of the usual form"


def test_the_finder_of_papers_knows_a_number_of_arxiv_from_others(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "SCoRe (arXiv\n2409.12917), PPO arXiv 1707.06347, x = 1495.78125; 2020.1234567\n\n\n2401.00001\n"
    )
    assert set(papers_named(tmp_path, ".md")) == {"2409.12917", "1707.06347"}


@pytest.mark.parametrize("row", ROWS, ids=[row["paper"] for row in ROWS])
def test_the_page_of_a_paper_exists_and_its_command_is_understood(row: re.Match[str]) -> None:
    assert (PAPERS.parent / row["page"]).is_file()
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
