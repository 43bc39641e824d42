"""`solve`: budgets, stores, streams, cancelling, a person as judge, and what it refuses."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from long_thinker import PROBLEM, LongThinker, think

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.solving import checkpoints
from selfcorrect.agents.solving.solve import policy_loop, solve, solve_sync, stream_turns
from selfcorrect.agents.solving.stored_episode import AskHuman
from selfcorrect.agents.state import EpisodeState, Generation, Message, Turn
from selfcorrect.agents.stopping import Budget
from selfcorrect.errors import CheckerError, ConfigurationError, GraphError
from selfcorrect.tasks.problem import Problem


def texts(turns: Sequence[Any]) -> list[str]:
    return [turn["generation"]["text"] for turn in turns]


def numbered(conversation: Sequence[Message]) -> str:
    """Answers 1, 2, 3, ...: one more than the last answer in sight."""
    said = [message["content"] for message in conversation if message["role"] == "assistant"]
    return str(int(said[-1]) + 1) if said else "1"


def endless(script: Any = numbered) -> Any:
    return policy_loop(ScriptedPolicy(script), critique="instruction")


def test_the_policys_own_verdict_ends_the_work() -> None:
    script = lambda talk: "The answer is correct" if "Check" in talk[-1]["content"] else "four"
    solution = solve_sync("2 + 2?", ScriptedPolicy(script), budget=Budget(turns=50))
    assert (solution.answer, solution.stop_reason) == ("four", "accepted")


def test_a_budget_of_turns_ends_the_work() -> None:
    solution = solve_sync("count", endless(), budget=Budget(turns=7))
    assert (solution.answer, solution.stop_reason) == ("7", "budget")


def test_a_budget_of_tokens_ends_the_work() -> None:
    assert solve_sync("count", endless(), budget=Budget(tokens=5)).answer == "5"


def test_a_budget_of_seconds_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert solve_sync("count", endless(), budget=Budget(seconds=3)).stop_reason == "budget"


def test_a_clock_that_is_set_meanwhile_neither_ends_nor_lengthens_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(time, "time", lambda: float(next(moved)))
    solution = solve_sync("count", endless(), budget=Budget(seconds=1000, turns=4))
    assert len(solution.turns) == 4


@pytest.mark.parametrize("kind", ["corrupt", "read-only"])
def test_a_store_that_cannot_be_used_is_told_with_its_path(kind: str, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    asyncio.run(think(LongThinker(tmp_path / "notes"), store, turns=2))
    if kind == "corrupt":
        store.write_bytes(b"not a database at all" * 500)
    else:
        store = Path("/proc/version")
    with pytest.raises(ConfigurationError, match=f"{store.name}.*(give another path)"):
        asyncio.run(think(LongThinker(tmp_path / "notes"), store, turns=4))


def test_a_thread_is_held_against_other_processes(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from selfcorrect.agents.solving.checkpoints import held, opened\n"
        "async def hold():\n"
        "    async with opened(sys.argv[1]) as saver, held(sys.argv[1], saver, 't'):\n"
        "        print('held', flush=True); sys.stdin.read()\n"
        "asyncio.run(hold())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(GraphError, match="played by another process"):
            asyncio.run(think(LongThinker(tmp_path / "notes"), store, turns=2))
        other.stdin.close()
    assert len(asyncio.run(think(LongThinker(tmp_path / "notes"), store, turns=2)).turns) == 2


def test_what_a_turn_sees_does_not_grow() -> None:
    solution = solve_sync("count", endless(), budget=Budget(turns=20))
    assert {len(turn["generation"]["messages"]) for turn in solution.turns[1:]} == {3}


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(tmp_path: Path) -> None:
    thinker = LongThinker(tmp_path / "notes")
    store = tmp_path / "store.sqlite"
    short = asyncio.run(think(thinker, store, turns=3))
    long = asyncio.run(think(thinker, store, turns=6))
    assert texts(long.turns)[:3] == texts(short.turns)
    assert (tmp_path / "notes").read_text().split() == [word for n in range(1, 7) for word in ("call", str(n))]


def test_a_finished_episode_is_given_back_without_a_generation(tmp_path: Path) -> None:
    thinker = LongThinker(tmp_path / "notes")
    first = asyncio.run(think(thinker, tmp_path / "store.sqlite"))
    again = asyncio.run(think(thinker, tmp_path / "store.sqlite"))
    assert again == first
    assert len((tmp_path / "notes").read_text().splitlines()) == len(first.turns)


def test_a_savers_of_langgraph_serves_as_well_as_a_path() -> None:
    saver = InMemorySaver()
    for turns in (2, 4):
        solution = solve_sync("count", endless(), budget=Budget(turns=turns), checkpointer=saver)
        assert solution.answer == str(turns)


def test_turns_are_told_as_they_come() -> None:
    heard: list[Any] = []
    solve_sync("count", endless(), budget=Budget(turns=3), on_turn=heard.append)
    assert texts(heard) == ["1", "2", "3"]


def test_who_stops_reading_the_stream_cancels_and_loses_nothing_that_was_told() -> None:
    saver = InMemorySaver()

    async def read(turns: int) -> list[str]:
        heard: list[Any] = []
        stream = stream_turns("count", endless(), budget=Budget(turns=9), checkpointer=saver)
        async for turn in stream:
            heard.append(turn)
            if len(heard) == turns:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return texts(heard)

    assert asyncio.run(read(2)) == ["1", "2"]
    assert asyncio.run(read(2)) == ["3", "4"]


def test_a_cancelled_call_can_be_taken_up() -> None:
    saver, calls = InMemorySaver(), []

    async def third_call_hangs(conversation: Sequence[Message]) -> None:
        calls.append(numbered(conversation))
        if len(calls) == 3:
            await asyncio.Event().wait()

    class Hanging(ScriptedPolicy):
        async def generate(self, messages: Any, sampling: Sampling, *, after: Any = None) -> Any:
            await third_call_hangs(messages)
            return await super().generate(messages, sampling, after=after)

    async def cancelled_then_resumed() -> str:
        graph = policy_loop(Hanging(numbered), critique="instruction")
        task = asyncio.create_task(solve("count", graph, budget=Budget(turns=4), checkpointer=saver))
        while len(calls) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await solve("count", graph, budget=Budget(turns=4), checkpointer=saver)).answer

    assert asyncio.run(cancelled_then_resumed()) == "4"
    assert calls == ["1", "2", "3", "3", "4"]  # the turn that was being written is written again, no other


# --- a person as judge
# ---------------------------------------------------------------------------------------------------


def asking(script: Any = numbered) -> Any:
    return policy_loop(ScriptedPolicy(script), critique="feedback", checker=AskHuman())


def test_a_person_judges_across_calls(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"

    def call(reply: Any = None) -> Any:
        return solve_sync("count to 2", asking(), budget=Budget(turns=9), checkpointer=store, reply=reply)

    first = call()
    assert (first.stop_reason, first.answer) == ("waiting", "1")
    assert first.question is not None and first.question["answer"] == "1"
    assert call() == first  # asking again costs nothing and changes nothing
    second = call("that is too low")
    assert (second.stop_reason, second.answer) == ("waiting", "2")
    assert "that is too low" in second.turns[1]["generation"]["messages"][-1]["content"]
    done = call("correct")
    assert (done.stop_reason, done.answer, done.question) == ("verified", "2", None)


@pytest.mark.parametrize(
    ("reply", "status"),
    [("correct", "correct"), ("Yes.", "correct"), ("no", "wrong"), ({"status": "unjudged"}, "unjudged")],
)
def test_a_reply_becomes_a_verdict(reply: Any, status: str) -> None:
    graph = build_graph(ScriptedPolicy(["a"]), checker=AskHuman(), revisions=0)
    saver = InMemorySaver()
    solve_sync("2 + 2?", graph, budget=Budget(turns=9), checkpointer=saver)
    done = solve_sync("2 + 2?", graph, budget=Budget(turns=9), checkpointer=saver, reply=reply)
    assert done.turns[0]["verdict"] is not None and done.turns[0]["verdict"]["status"] == status


@pytest.mark.parametrize("reply", [3, "", {"status": "maybe"}])
def test_an_unreadable_reply_is_told_and_can_be_repeated(reply: Any) -> None:
    saver = InMemorySaver()
    solve_sync("count", asking(), budget=Budget(turns=9), checkpointer=saver)
    with pytest.raises(CheckerError, match="a person's verdict is a text or a dict"):
        solve_sync("count", asking(), budget=Budget(turns=9), checkpointer=saver, reply=reply)
    done = solve_sync("count", asking(), budget=Budget(turns=9), checkpointer=saver, reply="correct")
    assert done.stop_reason == "verified"


# --- bad input
# -----------------------------------------------------------------------------------------------------------


def test_a_reply_to_no_question_is_refused() -> None:
    with pytest.raises(GraphError, match="waits for no reply"):
        solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=InMemorySaver(), reply="correct")


def test_a_person_cannot_be_asked_without_a_store() -> None:
    with pytest.raises(GraphError, match="give solve a checkpointer"):
        solve_sync("count", asking(), budget=Budget(turns=2))


def test_two_episodes_with_one_thread_id_are_refused() -> None:
    saver = InMemorySaver()
    solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=saver, thread_id="t")
    with pytest.raises(GraphError, match="thread 't' holds an episode with another problem \\('count'\\)"):
        solve_sync("count on", endless(), budget=Budget(turns=2), checkpointer=saver, thread_id="t")
    with pytest.raises(GraphError, match="another seed"):
        solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=saver, thread_id="t", seed=1)


def test_two_calls_at_once_on_one_thread_are_refused(tmp_path: Path) -> None:
    async def both() -> list[Any]:
        calls = [think(LongThinker(tmp_path / "notes", seconds=0.01), tmp_path / "store.sqlite") for _ in range(2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    one, other = asyncio.run(both())
    played, refused = (other, one) if isinstance(one, GraphError) else (one, other)  # whichever opened its store first
    assert played.stop_reason == "budget"
    assert isinstance(refused, GraphError) and "is being played already" in str(refused)


@pytest.mark.parametrize("times", [3, 10_000])
def test_a_new_store_that_another_is_opening_is_waited_for(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, left = AsyncSqliteSaver.setup, [times]

    async def locked_at_first(saver: AsyncSqliteSaver) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise sqlite3.OperationalError("database is locked")
        await setup(saver)

    monkeypatch.setattr(AsyncSqliteSaver, "setup", locked_at_first)
    monkeypatch.setattr(checkpoints, "_OPENING_SECONDS", 5.0 if times == 3 else 0.0)
    with nullcontext() if times == 3 else pytest.raises(ConfigurationError, match="another program holds the file"):
        solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=tmp_path / "store.sqlite")


def test_a_problem_that_cannot_be_stored_is_told_before_anything_is_generated() -> None:
    problem = Problem(id="p", prompt=PROBLEM, reference=None, checker="none", metadata={"inner": [object()]})
    with pytest.raises(GraphError, match=r"state\['problem'\]\['metadata'\]\['inner'\]\[0\] holds a object"):
        solve_sync(problem, endless([]), budget=Budget(turns=2), checkpointer=InMemorySaver())


def test_a_node_that_writes_what_cannot_be_stored_is_told() -> None:
    class Bigger(EpisodeState, total=False):
        loss: Any

    def attempt(state: Bigger) -> dict[str, Any]:
        generation = Generation(
            text="4", messages=[], prompt_ids=[], completion_ids=[], logprobs=[], finish_reason="stop"
        )
        return {"turns": [Turn(role="attempt", generation=generation, verdict=None)], "loss": torch.zeros(1)}

    graph = StateGraph(Bigger, context_schema=EpisodeContext)
    graph.add_node("attempt", attempt)
    graph.add_edge(START, "attempt")
    with pytest.raises(GraphError, match="Tensor.*keep plain data in the state"):
        solve_sync("2 + 2?", graph.compile(), budget=Budget(turns=2), checkpointer=InMemorySaver())


def test_a_synchronous_saver_is_refused(tmp_path: Path) -> None:
    synchronous = SqliteSaver.from_conn_string(str(tmp_path / "s.sqlite"))
    with synchronous as saver, pytest.raises(ConfigurationError, match="AsyncSqliteSaver"):
        solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=saver)


@pytest.mark.parametrize(("path", "words"), [("nowhere/s.sqlite", "does not exist"), (".", "is a folder")])
def test_a_path_that_cannot_be_a_store_is_told(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        solve_sync("count", endless(), budget=Budget(turns=2), checkpointer=tmp_path / path)


def test_a_blank_problem_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="blank"):
        solve_sync(" ", endless(), budget=Budget(turns=2))
