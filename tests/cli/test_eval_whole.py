"""`eval` on a whole file, with its episodes kept, problems left out, and progress where nobody looks at a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_models import llama, word_tokenizer

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN
from selfcorrect.cli.naming import chosen_problems
from selfcorrect.errors import ConfigurationError, TaskError, UnreadablePromptError
from selfcorrect.rewards.maths import MathChecker
from selfcorrect.tasks import open_task
from selfcorrect.tasks.jsonl import JsonlTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.runs.held_out import left_out_text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} + {n}", "answer": 2 * n}) + "\n" for n in range(50)))
    return path


def test_a_whole_file_is_evaluated_by_split_all(file: Path) -> None:
    task = JsonlTask(file)
    whole = chosen_problems(task, "all", None, 0)
    assert sorted(problem.id for problem in whole) == sorted(f"line-{n}" for n in range(1, 51))
    assert len(chosen_problems(task, "test", None, 0)) < 25 < len(chosen_problems(task, "train", None, 0))
    few = chosen_problems(task, "all", 7, 0)
    assert len({problem.id for problem in few}) == 7 and few == chosen_problems(task, "all", 7, 0)
    assert few != chosen_problems(task, "all", 7, 1)
    with pytest.raises(ConfigurationError, match="--problems 51: sums holds 50"):
        chosen_problems(task, "all", 51, 0)


def test_a_file_of_test_problems_is_held_out_as_a_whole(file: Path) -> None:
    task = JsonlTask(file, test_share=1.0)
    assert (task.available("test"), task.available("train")) == (50, 0)
    assert len(chosen_problems(open_task(f"jsonl:{file}", test_share=1.0), "test", None, 0)) == 50
    with pytest.raises(TaskError, match="that split holds 0 of 50"):
        task.problems("train", 1)


def test_a_task_that_makes_its_problems_up_has_no_whole(run: Any) -> None:
    done = run("eval", "--split", "all")
    assert done.status == 2 and "makes its problems up" in done.stderr


def test_eval_keeps_its_episodes_as_runs_do_and_says_where(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    done = run("eval", "--problems", "3", "--max-answer-tokens", "4", "--prompts", "short", "--out", out)
    assert done.status == 0, done.stderr
    rows = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and {"id", "policy", "prompt", "reference", "turns", "stop_reason"} == set(rows[0])
    assert [turn["role"] for turn in rows[0]["turns"]] == ["attempt", "revise"]
    assert all(len(turn["text"].split()) <= 4 for row in rows for turn in row["turns"])
    figures = json.loads((out / "eval.json").read_text())
    assert figures["n"] == 3 and figures["tokens_per_turn"] == [4.0, 4.0] and figures["left_out"] == []
    assert f"episodes {out / 'episodes.jsonl'}" in done.stdout and "next     selfcorrect train score" in done.stdout
    again = run("eval", "--problems", "3", "--out", out)
    assert again.status == 1 and "already holds episodes.jsonl and eval.json" in again.stderr


def test_progress_is_told_in_lines_where_nobody_looks_at_a_terminal(run: Any) -> None:
    told = run("eval", "-n", "5").stderr
    assert "evaluating on 5 problems, turns: 10 of 10, after 0:00:" in told
    assert 1 <= told.count("evaluating on 5 problems") <= 10
    assert "evaluating" not in run("eval", "-n", "2", "--json").stderr


def long_and_short(count: int = 3) -> list[Problem]:
    short = [Problem(id=f"p{n}", prompt=f"{n} get {n} :", reference=str(n), checker="math") for n in range(count)]
    long = Problem(id="long", prompt="1 " * 60, reference="1", checker="math")
    return [*short[:1], long, *short[1:]]


@pytest.fixture
def small() -> TransformersPolicy:
    tokenizer = word_tokenizer([*map(str, range(10)), "get", ":", "again", "check", "hint", "right", "wrong", "="])
    return TransformersPolicy(llama(len(tokenizer), positions=48), tokenizer, max_new_tokens=4, template="plain")


def test_a_problem_too_long_for_the_model_is_left_out_counted_and_named(small: TransformersPolicy) -> None:
    report, states = evaluate(build_graph(small, prompts=COUNTDOWN), long_and_short(), MathChecker())
    assert [state["problem"]["id"] for state in states] == ["p0", "p1", "p2"]
    assert report.n == 3 and report.left_out == ["long"] == report.as_dict()["left_out"]
    assert left_out_text(["long"]) == "1 problem is too long for the model's context, and left out: long"
    assert left_out_text(list("abcdefg")).endswith("left out: a, b, c, d, e, ...")
    with pytest.raises(UnreadablePromptError, match="problem 'long': the prompt has 60 token ids"):
        evaluate(build_graph(small, prompts=COUNTDOWN), [long_and_short()[1]], MathChecker())


def test_tokens_of_a_remote_model_are_those_it_reports() -> None:
    class Metered(ScriptedPolicy):
        async def generate(self, *given: Any, **more: Any) -> Any:
            generation = await super().generate(*given, **more)
            return {**generation, "completion_ids": [], "usage": {"input_tokens": 9, "output_tokens": 7}}

    graph = build_graph(Metered(["1", "1"] * 2), prompts=PLAIN)
    problems = [Problem(id=str(n), prompt="1?", reference="1", checker="math") for n in range(2)]
    assert evaluate(graph, problems, MathChecker())[0].tokens_per_turn == [7.0, 7.0]


def test_a_checkers_sentences_are_not_shown_to_a_policy_that_cannot_read_them(run: Any) -> None:
    for command in (["eval", "-n", "2"], ["solve", "3 5 7 9 get 56"]):
        done = run(*command, "--critique", "feedback")
        assert done.status == 2 and "Use critique 'instruction' or 'self', or name a language model" in done.stderr
