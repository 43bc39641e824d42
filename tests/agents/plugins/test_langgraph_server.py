"""Our graphs under the real development server of LangGraph, driven by its real client."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from local_server import free_port, running, script
from small_models import WORDS, llama, word_tokenizer

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.serving.langgraph_app import conversation_graph, model_from
from selfcorrect.errors import ConfigurationError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GRAPHS = """
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.solving.stored_episode import AskHuman
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.serving.langgraph_app import conversation_graph

policy = ScriptedPolicy(["five", "four"])
chat = conversation_graph(ChatSelfCorrect(policy=policy))
corrector = build_graph(policy)
asking = build_graph(policy, checker=AskHuman(), critique="feedback")
"""
PROBLEM = {"problem": {"id": "p", "prompt": "2 + 2?", "reference": None, "checker": "none"}, "seed": 0, "turns": []}
QUIET = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our graphs and of the one that langgraph.json names, over a local model."""
    folder = tmp_path_factory.mktemp("application")
    (folder / "application.py").write_text(GRAPHS)
    names = ["chat", "corrector", "asking"]
    path, name = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["selfcorrect"].split(":")
    graphs = {"selfcorrect": f"{ROOT / path}:{name}"} | {name: f"./application.py:{name}" for name in names}
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    tokenizer.save_pretrained(folder / "model")
    llama(len(tokenizer), positions=2048).save_pretrained(folder / "model")
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    port = free_port()
    command = [script("langgraph"), "dev", "--no-browser", "--no-reload", "--port", str(port)]
    environment = {**QUIET, "SELFCORRECT_MODEL": str(folder / "model")}
    with running(command, f"http://127.0.0.1:{port}/ok", folder=folder, environment=environment):
        yield f"http://127.0.0.1:{port}"


def test_a_conversation_is_answered_with_the_corrected_answer(address: str) -> None:
    async def talk() -> Any:
        async with get_client(url=address) as client:
            return await client.runs.wait(None, "chat", input={"messages": [{"role": "user", "content": "2 + 2?"}]})

    message = asyncio.run(talk())["messages"][-1]
    assert message["content"] == "four"
    assert [turn["text"] for turn in message["response_metadata"]["turns"]] == ["five", "four"]


def test_the_correction_graph_itself_is_served_and_streams_its_turns(address: str) -> None:
    async def stream() -> list[Any]:
        async with get_client(url=address) as client:
            run = client.runs.stream(None, "corrector", input=PROBLEM, stream_mode="updates")
            return [part.data async for part in run if part.event == "updates"]

    updates = asyncio.run(stream())
    assert [next(iter(update)) for update in updates] == ["attempt", "revise"]
    assert updates[-1]["revise"]["stop_reason"] == "revisions"


def test_a_person_judges_through_the_server(address: str) -> None:
    async def judge() -> tuple[Any, Any]:
        async with get_client(url=address) as client:
            thread = (await client.threads.create())["thread_id"]
            await client.runs.wait(thread, "asking", input=PROBLEM)
            waiting = await client.threads.get_state(thread)
            done = await client.runs.wait(thread, "asking", command={"resume": "correct"})
            return waiting["tasks"][0]["interrupts"][0]["value"], done

    question, done = asyncio.run(judge())
    assert question["answer"] == "five"
    assert (done["stop_reason"], len(done["turns"])) == ("verified", 1)


# --- the shipped langgraph.json
# ------------------------------------------------------------------------------------------


def test_the_shipped_file_names_a_graph_that_is_there() -> None:
    path, name = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["selfcorrect"].split(":")
    assert (ROOT / path).is_file()
    assert f"async def {name}(" in (ROOT / path).read_text()


def test_the_served_graph_answers_without_a_server() -> None:
    graph = conversation_graph(ChatSelfCorrect(policy=ScriptedPolicy(["five", "four"])))
    state = asyncio.run(graph.ainvoke({"messages": [{"role": "user", "content": "2 + 2?"}]}))
    assert state["messages"][-1].text == "four"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SELFCORRECT_REVISIONS": "many"}, "SELFCORRECT_REVISIONS"),
        ({"SELFCORRECT_CRITIQUE": "feedback"}, "SELFCORRECT_CRITIQUE"),
    ],
)
def test_a_wrong_variable_is_told(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        model_from(environment)


def test_the_shipped_file_serves_a_local_model(address: str) -> None:
    # the model is loaded and decoded without blocking the server's event loop, which would refuse it
    async def talk() -> Any:
        async with get_client(url=address) as client:
            question = {"messages": [{"role": "user", "content": "3 5 7 get 9"}]}
            return await client.runs.wait(None, "selfcorrect", input=question)

    answer = asyncio.run(talk())["messages"][-1]
    assert [turn["role"] for turn in answer["response_metadata"]["turns"]] == ["attempt", "revise"]


def test_a_context_of_plain_data_says_how_to_draw() -> None:
    seen: list[Any] = []

    class Watching(ScriptedPolicy):
        async def generate(self, messages: Any, sampling: Any, *, after: Any = None) -> Any:
            seen.append(sampling)
            return await super().generate(messages, sampling, after=after)

    graph = conversation_graph(ChatSelfCorrect(policy=Watching(["five", "four"])))
    given: Any = {"messages": [{"role": "user", "content": "2 + 2?"}]}
    context: Any = {"sampling": {"temperature": 0.5, "max_new_tokens": 7}}
    asyncio.run(graph.ainvoke(given, context=context))
    assert [(one.temperature, one.max_new_tokens) for one in seen] == [(0.5, 7)] * 2
    with pytest.raises(ConfigurationError, match="sampling has no heat"):
        asyncio.run(graph.ainvoke(given, context={"sampling": {"heat": 1}}))  # type: ignore[arg-type]


def test_studio_is_shown_the_nodes_of_the_loop() -> None:
    graph = conversation_graph(ChatSelfCorrect(policy=ScriptedPolicy(["five", "four"])))
    drawn = graph.get_graph(xray=True)
    assert {"attempt", "revise"} <= {name.rpartition(":")[2] for name in drawn.nodes}
