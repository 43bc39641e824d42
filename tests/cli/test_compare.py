"""`selfcorrect compare`: what it makes of its options, and a small comparison from beginning to end."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfcorrect.cli.progress import ComparisonLines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--arms", "base,scoer"], "unknown arm 'scoer'; did you mean score?"),
        (["--arms", ","], "no arms to compare"),
        (["--arms", "base,score", "--reference", "pag"], "it is none of the arms that are compared"),
        (["--arms", "base,score", "--set-arm", "pag:seed=1"], "expected ARM:NAME=VALUE"),
        (["--set", "score.alhpa=1"], "did you mean score.alpha?"),
        (["--task", "sudoku"], "unknown task 'sudoku'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_done(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("compare", *arguments)
    assert done.status == 2 and expected in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_small_comparison_goes_from_the_base_to_the_page(run: Any, run_json: Any, tmp_path: Path) -> None:
    options = ["compare", "--quick", "--arms", "base,multi-turn", "--seeds", "1", "--out", tmp_path / "out"]
    small = [
        "score.stage_one_steps=1",
        "score.stage_two_steps=0",
        "evaluation.problems=4",
        "optimiser.problems_per_step=2",
    ]
    options += [part for change in small for part in ("--set", change)]
    result = run_json(*options)
    assert list(result["greedy"]) == list(result["sampled"]) == ["base", "multi-turn"]
    assert result["reference"] == "multi-turn" and result["budgets"]["base"]["measured"] is None
    assert result["budgets"]["multi-turn"]["measured"]["optimiser_steps"] == 4
    assert (tmp_path / "out" / "compare.html").is_file() and (tmp_path / "out" / "compare.json").is_file()
    again = run(*options)
    assert again.status == 0 and "accuracy@2 of multi-turn and base: no difference" in again.stdout
    assert "[1/" not in again.stderr  # nothing was left to do


def test_time_left_is_that_of_the_other_parts_at_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("selfcorrect.cli.progress.time.monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=200)
    lines = ComparisonLines(console)
    for part in (1, 2, 3):  # each takes 100 seconds
        lines.begin("star", 0, part, 5)
        now += 100.0
        lines.end()
    begun = [line for line in console.file.getvalue().splitlines() if "star" in line]  # type: ignore[attr-defined]
    assert begun == ["[1/5] star, seed 0", "[2/5] star, seed 0, 0:06:40 left", "[3/5] star, seed 0, 0:05:00 left"]
    assert "[3/5] done in 0:01:40" in console.file.getvalue()  # type: ignore[attr-defined]
