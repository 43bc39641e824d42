"""Any LangChain chat model as the inner policy, and the import name that we share with openai-agents."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from scripted_chat_model import ScriptedChatModel
from small_models import problems

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.plugins.chat_model_policy import CONCURRENCY, ChatModelPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Message
from selfcorrect.agents.stopping import Budget
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.countdown import CountdownTask

ASK = [Message(role="user", content="2 + 2?")]


def generate(policy: ChatModelPolicy, sampling: Sampling = GREEDY) -> Any:
    return asyncio.run(policy.generate(ASK, sampling))


def test_any_chat_model_plays_the_loop_and_is_measured() -> None:
    task = CountdownTask(3)
    asked = task.problems("test", 3)
    gold = {problem.prompt: problem.gold for problem in asked}

    def second_try(messages: list[BaseMessage], tools: Any) -> str:
        return str(gold[str(messages[0].text)]) if len(messages) > 1 else "1 + 1 = 3"

    graph = build_graph(ChatModelPolicy(ScriptedChatModel(script=second_try)), prompts=COUNTDOWN)
    report, _ = evaluate(graph, asked, CountdownChecker())
    assert (report.accuracy_t1, report.accuracy_t2, report.delta) == (0.0, 1.0, 1.0)


def test_langchains_own_fakes_are_policies_too() -> None:
    assert generate(ChatModelPolicy(FakeListChatModel(responses=["4"])))["text"] == "4"


def test_calls_of_remote_models_are_not_recorded_for_training() -> None:
    with recording() as recorder:
        generate(ChatModelPolicy(FakeListChatModel(responses=["4"])))
    assert recorder.calls == []


def test_the_sampling_reaches_the_model_under_the_usual_names() -> None:
    model = ScriptedChatModel(script=lambda messages, tools: "4")
    generate(ChatModelPolicy(model), Sampling(temperature=0.7, top_p=0.9, max_new_tokens=5, seed=3, stop=("\n",)))
    options = {name: value for name, value in model.calls[0].items() if name != "messages"}
    assert options == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "stop": ["\n"]}


def test_call_options_can_be_left_to_the_model() -> None:
    model = ScriptedChatModel(script=lambda messages, tools: "4")
    generate(ChatModelPolicy(model, call_options=lambda sampling: {}))
    assert set(model.calls[0]) == {"messages", "stop"}


@pytest.mark.parametrize(("said", "reason"), [("length", "length"), ("stop", "stop"), ("max_tokens", "length")])
def test_an_answer_cut_off_by_the_provider_is_marked(said: str, reason: str) -> None:
    answer = AIMessage("4", response_metadata={"finish_reason": said})
    assert (
        generate(ChatModelPolicy(ScriptedChatModel(script=lambda messages, tools: answer)))["finish_reason"] == reason
    )


def test_a_budget_counts_the_tokens_that_the_provider_reports() -> None:
    # each answer is one word, but is reported as 5 tokens: the second one reaches the budget of 10
    policy = ChatModelPolicy(ScriptedChatModel(script=lambda messages, tools: "4"))
    graph = build_graph(policy, revisions=9, stop=Budget(tokens=10))
    from selfcorrect.agents.episodes import play_sync

    assert len(play_sync(graph, problems(["2 + 2?"]))[0]["turns"]) == 2


def test_an_unknown_provider_is_told() -> None:
    with pytest.raises(PolicyError, match="cannot make the chat model 'nobody:model'"):
        ChatModelPolicy("nobody:model")


def test_options_for_a_finished_model_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="base_url: set these on the chat model itself"):
        ChatModelPolicy(FakeListChatModel(responses=[]), base_url="http://127.0.0.1")


class Crowded(FakeListChatModel):
    """Notes how many requests it ever had at a time."""

    now: int = 0
    most: int = 0

    async def _agenerate(self, *given: Any, **more: Any) -> ChatResult:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        return ChatResult(generations=[ChatGeneration(message=AIMessage("4"))])


@pytest.mark.parametrize("concurrency", [1, 3, 7])
def test_a_provider_is_never_sent_more_requests_at_once_than_it_should(concurrency: int) -> None:
    model = Crowded(responses=["4"])
    policy = ChatModelPolicy(model, concurrency=concurrency)

    async def many() -> list[Any]:
        return await asyncio.gather(*(policy.generate(ASK, GREEDY) for _ in range(20)))

    for _ in range(2):  # another loop each time, as in two evaluations
        assert [answer["text"] for answer in asyncio.run(many())] == ["4"] * 20
    assert model.most == concurrency


def test_requests_at_once_are_limited_where_nobody_says_so_too() -> None:
    model = Crowded(responses=["4"])
    graph = build_graph(ChatModelPolicy(model), prompts=COUNTDOWN)
    evaluate(graph, CountdownTask(3).problems("test", 50), CountdownChecker())
    assert model.most == CONCURRENCY < 50


def test_a_chat_models_name_tells_how_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    policy, _ = named_policy("openai:org/m?concurrency=2&timeout=7.5&max_retries=0")
    assert isinstance(policy, ChatModelPolicy)
    model: Any = policy.model
    assert (model.model_name, model.request_timeout, model.max_retries) == ("org/m", 7.5, 0)
    assert policy.concurrency == 2
    plain, _ = named_policy("openai:m")
    assert isinstance(plain, ChatModelPolicy) and plain.concurrency == CONCURRENCY
    with pytest.raises(ConfigurationError, match="a chat model has no option 'tokenizer'; it has concurrency, timeout"):
        named_policy("openai:m?tokenizer=x")
    with pytest.raises(ConfigurationError, match="chat model: timeout is a number of seconds, got 'long'"):
        named_policy("openai:m?timeout=long")
    with pytest.raises(ConfigurationError, match="concurrency is at least 1, got 0"):
        named_policy("openai:m?concurrency=0")


@pytest.mark.slow
def test_openai_agents_and_we_are_imported_side_by_side(tmp_path: Any) -> None:
    program = (
        "import agents, selfcorrect.agents.plugins.chat_model; from agents import Agent; print(Agent.__module__, "
        "selfcorrect.agents.plugins.chat_model.ChatSelfCorrect.__module__, agents is not selfcorrect.agents)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["agents.agent", "selfcorrect.agents.plugins.chat_model", "True"]
