"""A LangChain application's graph: its nodes call a chat model, synchronously or not, beside a chat model of someone
else."""

from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from word_game import config, likes_plus, policy_from, problems, question

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.training.own_graph import train


class Talk(TypedDict, total=False):
    question: str
    draft: str
    remark: str


@pytest.mark.slow
def test_a_graph_that_calls_our_chat_model_trains(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = policy_from(tiny_model_folder)
    chat = ChatSelfCorrect(policy=policy, revisions=0, prompts=COUNTDOWN)
    critic = GenericFakeChatModel(messages=iter(lambda: AIMessage("again"), None))
    asked: list[list[PolicyCall]] = []

    async def write(state: Talk) -> Talk:
        return {"draft": str((await chat.ainvoke(state["question"])).text)}

    async def check(state: Talk) -> Talk:
        return {"remark": str((await critic.ainvoke(state["draft"])).text)}

    def rewrite(state: Talk) -> Talk:
        return {"draft": str(chat.invoke([("user", state["question"]), ("user", state["remark"])]).text)}

    graph = StateGraph(Talk).add_node("write", write).add_node("check", check).add_node("rewrite", rewrite)
    graph.add_edge(START, "write").add_edge("write", "check").add_edge("check", "rewrite").add_edge("rewrite", END)

    def pays(state: Any, turns: list[PolicyCall]) -> list[float | None]:
        asked.append(turns)
        return likes_plus(state, turns)

    settings = config(tmp_path, steps=15, problems_per_step=4, episodes_per_problem=8)
    trained = train(
        graph.compile(), problems(4), policy=policy, reward_fn=pays, inputs=question, config=settings, kl=0.0
    )
    assert {tuple(turn.node for turn in turns) for turns in asked} == {("write", "rewrite")}
    assert {turn.sampling.temperature for turns in asked for turn in turns} == {1.0}
    for name in ("reward/write_1", "reward/rewrite_1"):
        rewards = [step[name] for step in trained.steps]
        assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3, name
    assert all(step["ratio_deviation"] < 1e-4 for step in trained.steps)
