"""Searches in a store: killed and taken up, gone on with under a larger budget, told apart."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from step_policy import ListPolicy, TreePolicy

from selfcorrect.agents import ComputeOptimal, SearchPlan, SearchResult, Strategy, search_sync, strategy_named
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.search.compute_optimal import BudgetPlan
from selfcorrect.agents.search.search import search
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import GraphError
from selfcorrect.rewards.checker import ScriptedVerifier
from selfcorrect.tasks.problem import Problem

QUESTION = Problem(
    id="q", prompt="2 8 10 21 get 99 :", reference={"numbers": [2, 8, 10, 21], "target": 99}, checker="countdown"
)
VERIFIER = ScriptedVerifier(lambda prompt, text: (sum(map(ord, text)) % 89) / 100)
PLAN = SearchPlan(
    task="t", policy="p", measure="agreement", samples=2, edges=[0.4], answer_tokens=18.0,
    budgets=[BudgetPlan(answers=8, tokens=100, strategies=["majority:6", "mixed:4x1"])],
)  # fmt: skip


class Killed(Exception):
    """What a process that dies leaves behind, as far as a store can see."""


class MortalPolicy:
    """A policy that dies at call number `lives`."""

    def __init__(self, policy: Any, lives: int | None = None) -> None:
        self._policy, self.lives, self.calls = policy, lives, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.lives:
            raise Killed

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        self._count()
        return await self._policy.generate(messages, sampling, after=after)

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        self._count()
        return await self._policy.extend(partial, sampling)


@pytest.fixture(scope="module")
def embedded() -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(embedded_folder())


def played(strategy: Strategy | str, policy: Any, store: Path | None = None, **options: Any) -> SearchResult:
    made = strategy_named(strategy) if isinstance(strategy, str) else strategy
    usual: dict[str, Any] = {"prompts": COUNTDOWN, "sampling": Sampling(max_new_tokens=24), "seed": 3}
    return search_sync(QUESTION, made, policy, VERIFIER, **{**usual, "checkpointer": store, **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        "majority:7",
        "best_of_n:6:sure=0.9:wave=2",
        "weighted:5",
        "beam:2x2",
        "mixed:2x2",
        "self_judged:3x1:agree=3",
        PLAN,
    ],
    ids=lambda strategy: strategy if isinstance(strategy, str) else "compute_optimal",
)
def test_whoever_dies_at_any_call_goes_on_and_ends_as_if_nothing_had_happened(
    strategy: Any, embedded: TransformersPolicy, tmp_path: Path
) -> None:
    strategy = ComputeOptimal(strategy) if isinstance(strategy, SearchPlan) else strategy
    alone = MortalPolicy(embedded)
    whole = played(strategy, alone)
    for lives in range(1, alone.calls + 1, max(1, alone.calls // 2)):
        store = tmp_path / f"{lives}.sqlite"
        with pytest.raises(GraphError, match="Killed"):
            played(strategy, MortalPolicy(embedded, lives), store)
        rest = MortalPolicy(embedded)
        assert played(strategy, rest, store) == whole
        assert rest.calls <= alone.calls - lives + 8, "what was stored is not written again, but for one round"
        again = MortalPolicy(embedded)
        assert played(strategy, again, store) == whole and again.calls == 0


@pytest.mark.slow
def test_a_killed_command_goes_on_from_its_store(tmp_path: Path, warm_python: str) -> None:
    def command(name: str) -> list[str]:
        asked = ["solve", "2 8 10 21 get 99", "--strategy", "self_judged:40x1:agree=0", "--budget", "700"]
        return [warm_python, "-m", "selfcorrect", *asked, "--checkpoint", str(tmp_path / name), "--json"]

    whole = json.loads(subprocess.run(command("whole.sqlite"), capture_output=True, check=True).stdout)
    killed = subprocess.Popen(command("store.sqlite"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while answers_in(tmp_path / "store.sqlite") < 3:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    done = subprocess.run(command("store.sqlite"), capture_output=True, check=True)
    assert json.loads(done.stdout) == whole


def answers_in(store: Path) -> int:
    """Rounds that the store holds."""
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as opened:
            (count,) = opened.execute("SELECT COUNT(*) FROM checkpoints").fetchone()
    except sqlite3.OperationalError:  # not there yet, or without tables
        return 0
    return int(count)


CHAINS = "self_judged:12x0:agree=0"


@pytest.mark.parametrize(
    "strategy",
    ["majority:12", "best_of_n:12", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mixed:3x3", CHAINS))],
)
def test_a_larger_budget_goes_on_where_the_smaller_one_ended(
    strategy: str, embedded: TransformersPolicy, tmp_path: Path
) -> None:
    store, first = tmp_path / "store.sqlite", MortalPolicy(embedded)
    small = played(strategy, first, store, budget=60)
    assert small.stop_reason == "budget" and small.tokens <= 60
    rest = MortalPolicy(embedded)
    large = played(strategy, rest, store, budget=10_000)
    assert large.candidates[: len(small.candidates)] == small.candidates and large.stop_reason != "budget"
    assert len(large.notes) == len(set(large.notes)), "what was noted at the first end is not said twice"
    assert len(large.candidates) > len(small.candidates) and large.tokens > small.tokens
    # what did not fit is drawn anew with the same seed: but for an answer that was cut off, all is as if never stopped
    unbroken = played(strategy, embedded, budget=10_000)
    whole = [one for one in small.candidates if one["key"] is not None]
    assert [one["text"] for one in whole] == [one["text"] for one in unbroken.candidates][: len(whole)]
    assert played(strategy, (last := MortalPolicy(embedded)), store).stop_reason == large.stop_reason
    assert last.calls == 0, "without a limit there is nothing more to draw"


ANOTHER: dict[str, dict[str, Any]] = {
    "another seed": {"seed": 4},
    "another temperature": {"sampling": Sampling(max_new_tokens=24, temperature=0.5)},
    "begun with a budget of 100 tokens; give the same or more": {"budget": 50},
    "another strategy": {"strategy": "majority:6"},
}


def test_a_thread_is_one_search(embedded: TransformersPolicy, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    begun = played("majority:5", embedded, store, budget=100)
    for words, changes in ANOTHER.items():
        with pytest.raises(GraphError, match=words):
            played(**{"strategy": "majority:5", "policy": embedded, "store": store, "budget": 100, **changes})
    assert played("majority:5", embedded, store, budget=100) == begun, "none of them has changed it"
    other = played("majority:6", embedded, store, budget=100, thread_id="another")
    assert other.strategy == "majority:6"


def test_a_search_that_was_begun_without_a_budget_takes_none(embedded: TransformersPolicy, tmp_path: Path) -> None:
    played("majority:3", embedded, tmp_path / "store.sqlite")
    with pytest.raises(GraphError, match="begun without a budget"):
        played("majority:3", embedded, tmp_path / "store.sqlite", budget=1000)


def test_a_beam_that_its_budget_ended_does_not_go_on_with_more(tmp_path: Path) -> None:
    tree = {"": ["a", "b"], "a": ["c"], "b": ["d"], "a ; c": ["e"], "b ; d": ["f"]}
    options: dict[str, Any] = {"store": tmp_path / "store.sqlite", "prompts": COUNTDOWN}
    assert played("beam:1x2", TreePolicy(tree), budget=3, **options).stop_reason == "budget"
    with pytest.raises(GraphError, match=r"beam:1x2 cannot go on with more than the 3 tokens"):
        played("beam:1x2", TreePolicy(tree), budget=30, **options)


def test_only_the_latest_round_is_kept_in_a_named_store(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    played("self_judged:30x0:agree=0", ListPolicy([f"{n} answer" for n in range(30)]), store)
    assert answers_in(store) <= 20, "60 rounds were played"


class WaitingPolicy(ListPolicy):
    """Says that it was asked, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__(["a"])
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        self.asked.set()
        await self.let.wait()
        return await super().generate(messages, sampling, after=after)


def test_two_searches_at_once_on_one_thread_are_refused(tmp_path: Path) -> None:
    async def both() -> SearchResult:
        policy, store = WaitingPolicy(), tmp_path / "store.sqlite"
        first = asyncio.ensure_future(search(QUESTION, strategy_named("majority:1"), policy, checkpointer=store))
        await policy.asked.wait()
        with pytest.raises(GraphError, match="being played already"):
            await search(QUESTION, strategy_named("majority:1"), policy, checkpointer=store)
        policy.let.set()
        return await first

    assert [one["text"] for one in asyncio.run(both()).candidates] == ["a"]
