"""Graphs whose episodes fail, ask people, remember, cache, and start threads of their own: the run goes on."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import interrupt
from typing_policy import TypingPolicy

from selfcorrect.agents.episodes import NODE_THREADS, run_blocking
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.own_graph import Trained, train
from selfcorrect.training.ppo.config import TurnPPOConfig


class Note(TypedDict, total=False):
    question: str
    text: str


ASKED = [Problem(id=f"p{number}", prompt=f"q{number}", reference=None, checker="none") for number in range(2)]


def policy() -> TypingPolicy:
    return TypingPolicy(lambda prompt, seed: "x" * (1 + seed % 5), None, max_new_tokens=20)


def graph_of(*nodes: Callable[..., Any], **compiled: Any) -> Any:
    graph = StateGraph(Note)
    for node in nodes:
        graph.add_node(node.__name__, node)
    for before, after in zip(
        (START, *(node.__name__ for node in nodes)), (*(n.__name__ for n in nodes), END), strict=True
    ):
        graph.add_edge(before, after)
    return graph.compile(**compiled)


def trained(graph: Any, policy: TypingPolicy, folder: Path, **options: Any) -> tuple[Trained, list[list[PolicyCall]]]:
    seen: list[list[PolicyCall]] = []

    def pays(state: Any, calls: list[PolicyCall]) -> list[float | None]:
        seen.append(calls)
        return [float(len(call.text)) for call in calls]

    config = TurnPPOConfig(output_dir=folder, steps=1, problems_per_step=2, episodes_per_problem=4)
    result = train(
        graph, ASKED, policy=policy, reward_fn=pays, inputs=lambda problem: {"question": problem.prompt}, config=config,
        kl=0.0, rules=EpisodeRules(**options),
    )  # fmt: skip
    return result, seen


def chat_of(policy: TypingPolicy) -> ChatSelfCorrect:
    return ChatSelfCorrect(policy=policy, revisions=0)


def failing_on(policy: TypingPolicy, fails: Callable[[str], bool]) -> Any:
    chat = chat_of(policy)

    async def write(state: Note) -> Note:
        return {"text": str((await chat.ainvoke(state["question"])).text)}

    async def check(state: Note) -> Note:
        if fails(state["text"]):
            raise ValueError("no such text")
        return {}

    return graph_of(write, check)


def test_an_episode_that_fails_is_left_out_and_counted(tmp_path: Path) -> None:
    model = policy()
    result, seen = trained(failing_on(model, lambda text: text == "xxx"), model, tmp_path)
    (step,) = result.steps
    assert 0 < step["episodes_failed"] < 1
    assert len(seen) == 8 * (1 - step["episodes_failed"]) == step["calls"]
    assert step["draws"] == 8


def test_an_episode_that_fails_is_paid_for_where_that_is_asked(tmp_path: Path) -> None:
    model = policy()
    graph = failing_on(model, lambda text: text == "xxx")
    result, seen = trained(graph, model, tmp_path, on_episode_error="pay", error_reward=-7.0)
    (step,) = result.steps
    good = [float(len(call.text)) for calls in seen for call in calls]
    failed = 8 - len(good)
    assert failed and step["calls"] == 8
    assert step["reward/write_1"] == pytest.approx((sum(good) - 7.0 * failed) / 8)


def test_an_episode_that_fails_ends_the_run_where_that_is_asked(tmp_path: Path) -> None:
    model = policy()
    with pytest.raises(GraphError, match="problem p.: ValueError while playing: no such text"):
        trained(failing_on(model, lambda text: text == "xxx"), model, tmp_path, on_episode_error="raise")


def test_a_batch_in_which_every_episode_fails_is_an_error(tmp_path: Path) -> None:
    model = policy()
    with pytest.raises(GraphError, match="no such text"):
        trained(failing_on(model, lambda text: True), model, tmp_path)


def test_an_endless_loop_and_a_slow_node_fail_their_episode_only(tmp_path: Path) -> None:
    model = policy()
    chat = chat_of(model)

    async def write(state: Note) -> Note:
        text = str((await chat.ainvoke(state["question"])).text)
        if len(text) == 2:
            await asyncio.sleep(600)
        return {"text": text}

    result, _ = trained(graph_of(write), model, tmp_path, timeout=4.0)
    assert 0 < result.steps[0]["episodes_failed"] < 1

    async def write_on(state: Note) -> Note:
        return {"text": str((await chat.ainvoke(state["question"])).text)}

    graph = StateGraph(Note).add_node("write", write_on).add_edge(START, "write")
    graph.add_conditional_edges("write", lambda state: "write" if len(state["text"]) == 1 else END)
    looping = graph.compile().with_config({"recursion_limit": 3})
    result, _ = trained(looping, policy_of(chat), tmp_path / "2", timeout=60.0)
    assert result.steps[0]["calls"] >= 1


def policy_of(chat: ChatSelfCorrect) -> TypingPolicy:
    made: TypingPolicy = chat.policy
    return made


def test_rules_that_contradict_each_other_are_refused() -> None:
    for options in ({"on_episode_error": "pay"}, {"error_reward": 1.0}, {"on_episode_error": "ignore"}, {"timeout": 0}):
        with pytest.raises(ConfigurationError):
            EpisodeRules(**options)


def asking(policy: TypingPolicy) -> Any:
    chat = chat_of(policy)

    async def write(state: Note) -> Note:
        draft = str((await chat.ainvoke(state["question"])).text)
        said = interrupt({"draft": draft})
        return {"text": str((await chat.ainvoke(f"{state['question']} {said}")).text)}

    return graph_of(write)


def test_a_person_replies_and_a_node_that_is_run_again_is_recorded_once(tmp_path: Path) -> None:
    model, asked = policy(), []

    async def replies(value: Any, problem: Problem) -> str:
        asked.append((value["draft"], problem.id))
        return "shorter"

    _, seen = trained(asking(model), model, tmp_path, replies=replies)
    assert len(asked) == 8
    assert {len(calls) for calls in seen} == {2}
    drafts = sorted(calls[0].text for calls in seen)
    assert drafts == sorted(draft for draft, _ in asked)  # the draft that was asked about is the one that learns
    assert all("shorter" in model.tokenizer.decode(calls[1].generation["prompt_ids"]) for calls in seen)


def test_a_graph_that_asks_nobody_is_an_error(tmp_path: Path) -> None:
    model = policy()
    with pytest.raises(ConfigurationError, match="give replies="):
        trained(asking(model), model, tmp_path)


def test_every_episode_has_a_copy_of_the_store(tmp_path: Path) -> None:
    model, store, found = policy(), InMemoryStore(), []
    store.put(("facts",), "one", {"text": "given"})
    chat = chat_of(model)

    async def write(state: Note, runtime: Runtime[Any]) -> Note:
        assert runtime.store is not None
        found.append(sorted(item.key for item in await runtime.store.asearch(("facts",))))
        text = str((await chat.ainvoke(state["question"])).text)
        await runtime.store.aput(("facts",), text, {"text": text})
        return {"text": text}

    trained(graph_of(write, store=store), model, tmp_path)
    assert found == [["one"]] * 8
    assert [item.key for item in store.search(("facts",))] == ["one"]


def test_a_cache_of_answers_does_not_hide_calls(tmp_path: Path) -> None:
    model = policy()
    chat = chat_of(model)

    def write(state: Note) -> Note:
        return {"text": str(chat.invoke("the same for all").text)}

    set_llm_cache(InMemoryCache())
    try:
        result, seen = trained(graph_of(write), model, tmp_path)
    finally:
        set_llm_cache(None)
    assert [len(calls) for calls in seen] == [1] * 8
    assert result.steps[0]["draws"] == 8


@pytest.mark.parametrize("kind", ["executor", "thread"])
def test_threads_that_a_node_starts_are_recorded(kind: str, tmp_path: Path) -> None:
    model = policy()
    chat = chat_of(model)

    def by_executor(question: str) -> str:
        with ThreadPoolExecutor(2) as threads:
            return "".join(str(answer.text) for answer in threads.map(chat.invoke, [question, question + "?"]))

    def by_thread(question: str) -> str:
        said: list[str] = []
        threads = [threading.Thread(target=lambda: said.append(str(chat.invoke(question).text))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "".join(said)

    def write(state: Note) -> Note:
        return {"text": by_executor(state["question"]) if kind == "executor" else by_thread(state["question"])}

    result, seen = trained(graph_of(write), model, tmp_path)
    assert {len(calls) for calls in seen} == {2}
    assert result.steps[0]["draws"] == result.steps[0]["calls"] == 16


def test_calls_that_nobody_recorded_are_counted(tmp_path: Path) -> None:
    from contextvars import Context

    model = policy()
    chat = chat_of(model)

    def write(state: Note) -> Note:
        Context().run(chat.invoke, "unseen")  # a library that clears the context
        return {"text": str(chat.invoke(state["question"]).text)}

    result, _ = trained(graph_of(write), model, tmp_path)
    assert (result.steps[0]["calls"], result.steps[0]["draws"]) == (8, 16)


def test_many_synchronous_nodes_run_side_by_side() -> None:
    together = threading.Barrier(NODE_THREADS, timeout=60)

    async def all_at_once() -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(together.wait) for _ in range(NODE_THREADS))))

    assert sorted(run_blocking(all_at_once())) == list(range(NODE_THREADS))
