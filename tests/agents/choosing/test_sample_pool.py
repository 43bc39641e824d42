"""Pools of judged samples."""

import asyncio
from pathlib import Path

from small_models import problem

from selfcorrect.agents.choosing.sample_pool import Sample, by_problem, read_pool, sample_pool, write_pool
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.state import Generation, Message
from selfcorrect.rewards.countdown import CountdownChecker

PROBLEMS = [
    problem("3 5 get 8 :", id="a", reference={"numbers": [3, 5], "target": 8}),
    problem("2 4 get 8 :", id="b", reference={"numbers": [2, 4], "target": 8}),
]
SCRIPT = {"3 5 get 8 :": ["3 + 5 = 8"], "2 4 get 8 :": ["none"]}


class SeedTeller(ScriptedPolicy):
    """Says the seed that it was given."""

    async def generate(
        self, messages: list[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        told = await super().generate(messages, sampling, after=after)
        return {**told, "text": str(sampling.seed)}


def drawn(policy: ScriptedPolicy, per_problem: int, seed: int = 0) -> list[Sample]:
    pool = sample_pool(policy, PROBLEMS, CountdownChecker(), per_problem=per_problem, prompts=PLAIN, seed=seed)
    return asyncio.run(pool)


def test_samples_are_judged_and_come_problem_after_problem() -> None:
    groups = by_problem(drawn(ScriptedPolicy(SCRIPT), 2))
    assert [[one.correct for one in group] for group in groups] == [[True, True], [False, False]]
    assert groups[0][0] == Sample("a", "3 5 get 8 :", "3 + 5 = 8", "3 + 5 = 8", True, 5, "stop")
    assert groups[1][0].answer is None


def test_a_larger_pool_begins_with_the_smaller_one_and_seeds_differ() -> None:
    small, large = (by_problem(drawn(SeedTeller(SCRIPT), size)) for size in (2, 5))
    assert [group[:2] for group in large] == small
    texts = [one.text for group in large for one in group]
    assert len(set(texts)) == 10
    assert texts != [one.text for one in drawn(SeedTeller(SCRIPT), 5, seed=1)]


def test_a_pool_survives_its_file(tmp_path: Path) -> None:
    samples = drawn(ScriptedPolicy(SCRIPT), 3)
    write_pool(tmp_path / "new" / "pool.jsonl", samples)
    assert read_pool(tmp_path / "new" / "pool.jsonl") == samples
