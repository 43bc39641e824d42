"""`scale`, `tune-budget`, `adapt`, and `solve` by a strategy, with the embedded policy itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.cli.search_options import numbers_of
from selfcorrect.errors import ConfigurationError


def test_solve_by_votes_shows_the_candidates_and_keeps_to_its_budget(run: Any, run_json: Any) -> None:
    done = run("solve", "3 5 7 9 get 56", "--strategy", "majority:4")
    assert done.status == 0 and "majority:4: " in done.stdout and done.stdout.count(" tokens  ") >= 2
    result = run_json("solve", "3 5 7 9 get 56", "--budget", "100")
    assert result["tokens"] <= 100 and result["strategy"] == "majority:4" and result["verdict"] in ("correct", "wrong")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--budget", "5"], "ended before one answer was complete"),
        (["--strategy", "best_of_n:4"], "--verifier"),
        (["--strategy", "magic"], "unknown strategy"),
        (["--strategy", "majority:4", "--temperature", "0"], "same answer again"),
        (["--strategy", "compute_optimal"], "--plan"),
        (["--strategy", "beam:0x4"], "empty beam"),
        (["--strategy", "best_of_n:4", "--verifier", "examples"], "no programs are asked for here"),
    ],
)
def test_searches_that_cannot_be_are_told(run: Any, arguments: list[str], expected: str) -> None:
    done = run("solve", "3 5 7 9 get 56", *arguments)
    assert done.status == 2 and expected in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_plan_is_tuned_and_then_used(run: Any, run_json: Any, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    options = ["-n", "10", "--budgets", "1,2,4", "--strategies", "majority,revise:pick=majority", "--bins", "2"]
    made = run_json("tune-budget", *options, "--out", plan, "--folder", tmp_path / "played")
    assert [one["tokens"] for one in made["budgets"]] == [18, 36, 72] and made["measure"] == "agreement"
    assert len(list((tmp_path / "played" / "chunks").glob("*.json"))) == 1
    result = run_json("solve", "3 5 7 9 get 56", "--plan", plan, "--budget", "80")
    assert result["tokens"] <= 80 and result["strategy"] in made["budgets"][2]["strategies"]


@pytest.mark.slow
def test_scale_writes_a_table_a_plot_and_figures_and_is_not_played_twice(run: Any, tmp_path: Path) -> None:
    arguments = ["scale", "-n", "4", "--budgets", "1,...,4", "--strategies", "majority", "--out", tmp_path]
    done = run(*arguments)
    assert done.status == 0 and "perfect verifier" in done.stdout and "4 answers" in done.stdout
    figures = json.loads((tmp_path / "scale.json").read_text())
    assert {point["answers"] for point in figures["points"] if point["family"] == "majority"} == {1, 2, 4}
    assert (tmp_path / "scale.svg").read_text().startswith("<?xml")
    assert run(*arguments).stdout == done.stdout
    other = run(*arguments, "--strategies", "majority,revise:pick=majority")
    assert other.status == 2 and "with other settings" in " ".join(other.stderr.split())


@pytest.mark.slow
def test_adapt_reads_a_file_without_answers_and_writes_an_adapter(run: Any, run_json: Any, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text('{"prompt": "3 5 7 9 get 56"}\n{"prompt": "2 4 6 8 get 20", "answer": "not read"}\n')
    made = run_json(
        "adapt", file, "--steps", "1", "--samples", "4", "--max-answer-tokens", "20", "--out", tmp_path / "out"
    )
    assert made["problems"] == 2 and made["before"] is None and len(made["batches"]) == 1
    assert run("solve", "3 5 7 9 get 56", "--model", tmp_path / "out" / "adapter").status == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "holds no problems"), ("{", "no valid JSON"), ('{"question": "?"}', "--map question=prompt")],
)
def test_files_that_hold_no_problems_are_told(run: Any, tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text(content)
    done = run("adapt", file, "--out", tmp_path / "out")
    assert done.status == 1 and expected in " ".join(done.stderr.split())
    assert run("adapt").status == 2


def test_budgets_are_numbers_or_doublings() -> None:
    assert numbers_of("1,2,4,...,64") == [1, 2, 4, 8, 16, 32, 64] and numbers_of("3, 1") == [1, 3]
    for bad in ("", "0", "x", "...,4", "1,..."):
        with pytest.raises(ConfigurationError, match="--budgets"):
            numbers_of(bad)
