"""Playing many episodes: order, concurrency, errors, and event loops that already run."""

import asyncio
import gc
from collections.abc import Sequence

import pytest
from small_models import problems, texts

from selfcorrect.agents.episodes import play, play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState, Generation, Message
from selfcorrect.errors import GraphError, PolicyError

PROMPTS = [f"{number} get 1 :" for number in range(20)]


def echo(conversation: Sequence[Message]) -> str:
    return conversation[0]["content"]


def test_final_states_come_in_the_order_of_the_problems() -> None:
    states = play_sync(build_graph(ScriptedPolicy(echo), prompts=COUNTDOWN), problems(PROMPTS))
    assert [texts(state)[0] for state in states] == PROMPTS


def test_play_sync_works_where_an_event_loop_runs_already() -> None:
    async def notebook_cell() -> list[EpisodeState]:
        return play_sync(build_graph(ScriptedPolicy(echo), prompts=COUNTDOWN), problems(PROMPTS[:3]))

    assert len(asyncio.run(notebook_cell())) == 3


def test_nothing_to_play_is_no_episodes() -> None:
    assert play_sync(build_graph(ScriptedPolicy(echo)), []) == []


class Crowd:
    """A policy that counts how many episodes wait for it at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return await ScriptedPolicy(["x", "y"]).generate(messages, sampling, after=after)


@pytest.mark.parametrize(("concurrency", "most"), [(None, 20), (3, 3), (1, 1)])
def test_concurrency_limits_the_episodes_at_a_time(concurrency: int | None, most: int) -> None:
    crowd = Crowd()
    play_sync(build_graph(crowd, prompts=COUNTDOWN), problems(PROMPTS), concurrency=concurrency)
    assert crowd.most == most


def test_each_finished_episode_is_announced() -> None:
    heard: list[str] = []
    graph = build_graph(ScriptedPolicy(echo), prompts=COUNTDOWN)
    play_sync(graph, problems(PROMPTS), on_episode=lambda state: heard.append(state["problem"]["id"]))
    assert sorted(heard) == sorted(f"p{number}" for number in range(20))


def test_an_error_of_ours_keeps_its_kind_and_names_the_problem() -> None:
    graph = build_graph(ScriptedPolicy({"3 get": ["a", "b"]}), prompts=COUNTDOWN)
    with pytest.raises(PolicyError, match="problem 'p0': the script has no entry"):
        play_sync(graph, problems(PROMPTS[:1]))


def test_any_other_error_becomes_a_graph_error_that_names_the_problem_and_the_cause() -> None:
    def broken(conversation: Sequence[Message]) -> str:
        return str(1 // 0) if conversation[0]["content"] == PROMPTS[7] else "x"

    with pytest.raises(GraphError, match="problem 'p7': ZeroDivisionError") as caught:
        play_sync(build_graph(ScriptedPolicy(broken), prompts=COUNTDOWN), problems(PROMPTS))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_after_an_error_no_other_episode_goes_on() -> None:
    finished: list[EpisodeState] = []

    def first_fails(conversation: Sequence[Message]) -> str:
        return str(1 // 0) if conversation[0]["content"] == PROMPTS[0] else "x"

    async def and_wait() -> None:
        graph = build_graph(ScriptedPolicy(first_fails), prompts=COUNTDOWN)
        with pytest.raises(GraphError):
            await play(graph, problems(PROMPTS), concurrency=1, on_episode=finished.append)
        await asyncio.sleep(0.01)

    asyncio.run(and_wait())
    assert finished == []


def test_the_garbage_collector_is_as_before_afterwards() -> None:
    before = gc.get_threshold()
    during: list[tuple[int, int, int]] = []

    def look(conversation: Sequence[Message]) -> str:
        during.append(gc.get_threshold())
        return "x"

    play_sync(build_graph(ScriptedPolicy(look), prompts=COUNTDOWN), problems(PROMPTS[:1]))
    assert gc.get_threshold() == before
    assert during[0][0] > before[0]
