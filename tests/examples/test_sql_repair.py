"""The shipped example: SQL that is written, run, checked and written again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from gallery import tokenizer, untrained, warm_up
from hypothesis import given
from hypothesis import strategies as st
from sql_repair.checker import SqlChecker
from sql_repair.data import SCHEMAS, SqlTask, table, vocabulary
from sql_repair.graph import Paid, build, in_words, outcome, question
from sql_repair.sandbox import Outcome, run_query
from sql_repair.traces import example, traces

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.recording import recording
from selfcorrect.rewards.checker import Checker, Status
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.validate import validate_problems
from selfcorrect.training.own_graph import train
from selfcorrect.training.ppo.config import TurnPPOConfig

ROWS = (("ada", "oslo", "sales", 40, 50), ("ben", "rome", "sales", 30, 60))


def run(sql: str, **limits: Any) -> Outcome:
    return run_query(sql, SCHEMAS["staff"].create, ROWS, **limits)


def test_a_query_returns_its_rows() -> None:
    assert run("SELECT name FROM staff WHERE age > 35").rows == (("ada",),)
    assert run("SELECT COUNT ( * ) , MAX ( pay ) FROM staff").rows == ((2, 60),)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO staff VALUES ('x', 'y', 'z', 1, 1)",
        "UPDATE staff SET pay = 0",
        "DELETE FROM staff",
        "DROP TABLE staff",
        "CREATE TABLE other (a)",
        "CREATE TEMP TABLE other AS SELECT * FROM staff",
        "ATTACH DATABASE '/tmp/sql-repair-test' AS disk",
        "VACUUM INTO '/tmp/sql-repair-test'",
        "PRAGMA table_info(staff)",
        "PRAGMA query_only = 0",
        "SELECT load_extension('libm.so')",
        "SELECT sql FROM sqlite_master",
        "SELECT * FROM pragma_database_list",
        "SELECT randomblob(100)",
        "SELECT zeroblob(1000000000)",
        "SELECT printf('%.100000000f', 1)",
        "BEGIN",
        "SELECT 1; DROP TABLE staff",
        "EXPLAIN DELETE FROM staff",
        "SELECT name FROM",
        "SELECT nothing FROM staff",
        "SELECT * FROM nowhere",
        "SELECT \x00",
        "SELECT '" + "x" * 20_000 + "'",
        "",
    ],
)
def test_everything_but_reading_the_table_is_refused(sql: str) -> None:
    outcome = run(sql)
    assert outcome.rows == ()
    assert outcome.error or not sql
    assert not Path("/tmp/sql-repair-test").exists()


def test_an_endless_query_is_stopped() -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT MAX(x) FROM n"
    assert run(endless, seconds=0.05).error
    heavy = "SELECT COUNT(*) FROM " + ", ".join(f"staff AS s{number}" for number in range(40))
    assert run(heavy, seconds=0.05).error == "interrupted"


def test_more_rows_than_allowed_are_an_error() -> None:
    assert run("SELECT name FROM staff", most_rows=1) == Outcome(error="more than 1 rows")


@given(st.text(max_size=60))
def test_no_text_breaks_the_sandbox(sql: str) -> None:
    outcome = run(sql)
    assert isinstance(outcome.error, str)


@pytest.mark.slow
def test_every_reference_query_passes_its_checker_and_the_splits_are_apart() -> None:
    task = SqlTask()
    train_split = task.problems("train", task.available("train"))
    test_split = task.problems("test", task.available("test"))
    assert not {problem.prompt for problem in train_split} & {problem.prompt for problem in test_split}
    assert len(test_split) > 300
    assert isinstance(task.checker, Checker)
    assert validate_problems([*train_split[:500], *test_split[:200]], task.checker).passed


def test_verdicts_compare_rows_not_words() -> None:
    checker = SqlChecker()
    reference = {"sql": "SELECT name FROM staff WHERE city = 'oslo'", "schema": "staff", "database": 3}
    assert checker.check_sync("select name from staff where city = 'oslo' order by pay", reference).correct
    wrong = checker.check_sync("SELECT name FROM staff WHERE city = 'rome'", reference)
    assert (wrong.status, wrong.reason) == (Status.WRONG, "the query returns other rows")
    assert "syntax error" in checker.check_sync("SELECT SELECT", reference).reason
    assert asyncio.run(checker.check("DROP TABLE staff", reference)).reason == "not authorized"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("SELECT 1", "a reference is"),
        ({"sql": "SELECT 1", "schema": "cats"}, "no schema 'cats'; there are staff, books"),
    ],
)
def test_a_reference_that_cannot_be_used_is_told(reference: Any, said: str) -> None:
    assert said in str(SqlChecker().validate_reference(reference))


def test_the_same_words_mean_other_columns_in_other_tables() -> None:
    task = SqlTask()
    problems = [*task.problems("train", task.available("train")), *task.problems("test", task.available("test"))]
    over = {problem.reference["schema"]: problem for problem in problems if problem.prompt.endswith("which over 50")}
    assert {name: str(problem.gold).split()[-3] for name, problem in over.items()} == {
        "staff": "pay", "books": "price", "flights": "fare"
    }  # fmt: skip
    assert not SqlChecker().check_sync(str(over["books"].gold), over["staff"].reference).correct


def test_a_query_that_is_right_on_one_table_by_chance_is_wrong() -> None:
    checker = SqlChecker()
    counted = {"sql": "SELECT COUNT ( * ) FROM staff WHERE city = 'oslo'", "schema": "staff", "database": 5}
    lucky = f"SELECT {checker.outcome(counted['sql'], 'staff', 5).rows[0][0]}"
    assert checker.outcome(lucky, "staff", 5) == checker.outcome(counted["sql"], "staff", 5)
    assert not checker.check_sync(lucky, counted).correct


def test_what_is_shown_of_an_outcome_has_words_of_the_vocabulary() -> None:
    known = set(vocabulary())
    for problem in SqlTask().problems("train", 300):
        where = problem.reference
        shown = in_words(SqlChecker().outcome(str(problem.gold), where["schema"], where["database"]))
        assert set(f"{problem.prompt} {problem.gold} {shown}".split()) <= known
    assert in_words(Outcome(error="no such column: x")) == "error"
    assert in_words(Outcome()) == "nothing"


def test_the_graph_writes_runs_checks_and_writes_again() -> None:
    problem = Problem(
        id="q", prompt="staff ( name city team age pay ) which in oslo", checker="sql",
        reference={"sql": "SELECT name FROM staff WHERE city = 'oslo'", "schema": "staff", "database": 1},
    )  # fmt: skip

    def script(conversation: Any) -> str:
        shown = conversation[-1]["content"]
        if shown.endswith("check"):
            return "wrong" if "error" in shown else "right"
        return str(problem.reference["sql"]) if "again" in shown else "SELECT SELECT"

    graph = build(ScriptedPolicy(script))
    with recording() as recorder:
        state = asyncio.run(graph.ainvoke(question(problem)))
    assert [turn.node for turn in recorder.calls] == ["write", "check", "rewrite", "check"]
    assert state["sql"] == problem.reference["sql"]
    oslo = [str(name) for name, city, *_ in table("staff", 1) if city == "oslo"]
    assert state["outcome"].split()[: len(oslo)] == oslo[:4]
    assert Paid(SqlChecker())(state, recorder.calls, problem) == [0.0, 1.0, 1.0, 1.0]
    assert outcome(state, problem) == 1.0
    assert example(held_out=1).broadcast(state, recorder.calls, problem) == [1.0] * 4


@pytest.mark.slow
def test_the_graph_trains_as_it_is(tmp_path: Path) -> None:
    """A model that can hardly write yet: nearly all of its queries are wrong, and its remarks learn to say so."""
    torch.manual_seed(0)
    policy = untrained(tokenizer(vocabulary()), hidden=32, layers=1)
    warm_up(policy, traces(0), steps=80, rows=24, learning_rate=1e-2)
    config = TurnPPOConfig(
        output_dir=tmp_path, steps=10, problems_per_step=4, episodes_per_problem=8, learning_rate=5e-3
    )
    trained = train(
        build(policy, rewrites=0),
        SqlTask().problems("train", 8),
        policy=policy,
        reward_fn=Paid(SqlChecker()),
        inputs=question,
        config=config,
        trainable={"check"},
        kl=0.0,
    )
    rewards = [step["reward/check_1"] for step in trained.steps]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3
