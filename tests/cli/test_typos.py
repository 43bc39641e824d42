"""What people type wrong, and what each answers: the list of docs/troubleshooting.md, run row by row."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
ROW = re.compile(r"^\| `(?P<typed>selfcorrect [^`]*)` \| (?P<status>[012]) \| (?P<answer>.*?) \|$", re.MULTILINE)
ROWS = (
    [match.group("typed", "status", "answer") for match in ROW.finditer(PAGE.read_text("utf-8"))]
    if PAGE.is_file()
    else []
)


@pytest.fixture(autouse=True)
def a_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{n} + {n}?", "gold": 2 * n} for n in range(60)]
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("mine.yaml").write_text("atempt: '{problem}'\n")
    Path("run.yaml").write_text("score:\n  alhpa: 2\n")
    Path("empty.jsonl").write_text("")
    Path("my-model").mkdir()
    Path("tasks_of_mine.py").write_text("class NoTask:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.skipif(not PAGE.is_file(), reason="docs lie in the checkout")
def test_the_page_lists_twenty_mistakes() -> None:
    assert len(ROWS) >= 20 and len({typed for typed, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("typed", "status", "answer"), ROWS, ids=[typed for typed, _, _ in ROWS])
def test_a_mistake_is_answered_as_the_page_says(run: Any, typed: str, status: str, answer: str) -> None:
    done = run(*shlex.split(typed)[1:])
    assert done.status == int(status), done
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    for part in re.findall(r"`([^`]+)`", answer):
        assert part in told
    assert "Traceback" not in told and not Path("runs").exists()
