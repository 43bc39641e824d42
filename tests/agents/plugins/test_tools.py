"""Tools with a policy that learns: shown by the template, called in the family's format, results appended exactly."""

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.tools import tool
from typing_policy import TypingPolicy, typed_call

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.tools import PlainFormat, Said, tool_format
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.recording import PolicyCall, recording
from selfcorrect.agents.state import Generation
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.batching import rows_of


@tool
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def adding(prompt: str, seed: int) -> str:
    """Calls `add` once, then tells what it gave."""
    if "<tool_response>" in prompt:
        return "It is " + prompt.rpartition("<tool_response>\n")[2].partition("\n")[0]
    return typed_call("add", '{"a": 3, "b": 4}')


def generation(text: str) -> Generation:
    return Generation(text=text, messages=[], prompt_ids=[], completion_ids=[], logprobs=[], finish_reason="stop")


def shown_and_appended(policy: TypingPolicy, calls: list[PolicyCall]) -> str:
    """The text of the one row that `calls` make, which is what the last call saw and wrote."""
    (row,) = rows_of(calls)
    last = calls[-1].generation
    assert row.ids == last["prompt_ids"] + last["completion_ids"]
    sampled = [row.ids[span.start : span.stop] for span in row.spans]
    assert sampled == [call.generation["completion_ids"] for call in calls]
    return str(policy.tokenizer.decode(row.ids))


@pytest.mark.parametrize("family", ["qwen3", "qwen2_5"])
def test_an_agent_with_a_tool_is_one_exact_row_whose_results_are_masked(family: str) -> None:
    policy = TypingPolicy(adding, family)
    agent = create_agent(ChatSelfCorrect(policy=policy, revisions=0), [add])
    with recording(policy) as recorder:
        state = agent.invoke({"messages": [("user", "3 + 4?")]})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "It is 7"
    text = shown_and_appended(policy, recorder.calls)
    assert text.count("# Tools") == 1 and '"name": "add"' in text
    assert "<tool_response>\n7\n</tool_response>" in text
    first, second = recorder.calls
    between = second.generation["prompt_ids"][
        len(first.generation["prompt_ids"] + first.generation["completion_ids"]) :
    ]
    assert policy.tokenizer.decode(between).startswith("\n<|im_start|>user\n<tool_response>")


def test_the_exact_ids_come_through_a_checkpointer() -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    policy = TypingPolicy(adding)
    agent = create_agent(ChatSelfCorrect(policy=policy, revisions=0), [add], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    with recording(policy) as recorder:
        agent.invoke({"messages": [("user", "3 + 4?")]}, config)
        agent.invoke({"messages": [("user", "and again?")]}, config)
    assert len(rows_of(recorder.calls)) == 1
    assert len(recorder.calls) == 3


def test_a_conversation_that_was_changed_meanwhile_is_shown_afresh() -> None:
    policy = TypingPolicy(lambda prompt, seed: "yes")
    model = ChatSelfCorrect(policy=policy, revisions=0)
    with recording(policy) as recorder:
        said = model.invoke([("user", "one")])
        model.invoke([HumanMessage("one"), said, HumanMessage("two")])
        model.invoke([HumanMessage("ONE"), said, HumanMessage("two")])
        said.content = "no"
        model.invoke([HumanMessage("one"), said, HumanMessage("two")])
    first, appended, changed, edited = (call.generation["prompt_ids"] for call in recorder.calls)
    assert appended[: len(first)] == first
    assert "ONE" in policy.tokenizer.decode(changed)
    assert "no" in policy.tokenizer.decode(edited) and "yes" not in policy.tokenizer.decode(edited)


@pytest.mark.parametrize(
    "said",
    [
        '<tool_call>\n{"name": "add", "arguments": {"a": 3,\n</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": 3}\n</tool_call>',
        '<tool_call>\n{"arguments": {"a": 3}}\n</tool_call>',
        "<tool_call>",
        '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 4}}',
    ],
)
def test_a_call_that_cannot_be_read_is_a_message_that_says_so(said: str) -> None:
    for family in ("qwen3", None):
        policy = TypingPolicy(lambda prompt, seed: said, family)
        reply = ChatSelfCorrect(policy=policy).bind_tools([add]).invoke("3 + 4?")
        if reply.tool_calls:  # the end mark alone is missing: the call itself is whole
            assert reply.tool_calls[0]["args"] == {"a": 3, "b": 4}
            continue
        assert reply.invalid_tool_calls, (family, reply)
        assert reply.invalid_tool_calls[0]["error"]


def test_a_policy_without_a_template_is_told_in_plain_json() -> None:
    told: list[str] = []

    def script(conversation: Any) -> str:
        told.append(conversation[0]["content"])
        if conversation[-1]["content"].startswith("Result of add"):
            return conversation[-1]["content"].rpartition(" ")[2]
        return 'Sure?</think>\n```json\n{"name": "add", "parameters": {"a": 3, "b": 4}}\n```'

    agent = create_agent(ChatSelfCorrect(policy=ScriptedPolicy(script), revisions=0), [add])
    state = agent.invoke({"messages": [("user", "3 + 4?")]})
    assert state["messages"][-1].text == "7"
    assert json.dumps(add.args["a"]["type"]) in told[0] and '"name": "add"' in told[0]
    assert "nothing but a JSON object" in told[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain words", Said("plain words")),
        ('{"answer": 3}', Said('{"answer": 3}')),
        ("<think>hm</think>\nwords", Said("words", "hm")),
        (
            '[{"name": "f", "arguments": {}}, {"name": "g", "parameters": {"x": [1]}}]',
            Said("", calls=[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"x": [1]}}]),
        ),
        ('{"name": "f", "arguments": {}}\n{"name": "g", "arguments": {}}',
         Said("", calls=[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}])),
    ],
)  # fmt: skip
def test_plain_json_is_read_as_calls_or_words(text: str, said: Said) -> None:
    assert PlainFormat().read(generation(text), []) == said


def test_nothing_that_a_policy_writes_raises() -> None:
    for text in ("[" * 50_000, '{"name": "f", "arguments": ' + "[" * 50_000, "\ud800{", "{" * 9, '{"name": NaN}'):
        assert PlainFormat().read(generation(text), []).calls == []


def test_a_choice_of_tools_is_obeyed_or_its_lack_told() -> None:
    policy = TypingPolicy(lambda prompt, seed: "no call")
    model = ChatSelfCorrect(policy=policy, revisions=0)
    missed = model.bind_tools([add], tool_choice="any").invoke("3 + 4?")
    assert "asked for" in str(missed.invalid_tool_calls[0]["error"])
    assert not model.bind_tools([add], tool_choice="none").invoke("3 + 4?").invalid_tool_calls
    with pytest.raises(ConfigurationError, match="none of the tools"):
        model.bind_tools([add], tool_choice="multiply").invoke("3 + 4?")


def test_the_answer_after_tools_is_revised() -> None:
    def script(prompt: str, seed: int) -> str:
        return "It is 8" if "There might be" in prompt or "again" in prompt.lower() else adding(prompt, seed)

    policy = TypingPolicy(script)
    agent = create_agent(ChatSelfCorrect(policy=policy, revisions=1), [add])
    with recording(policy) as recorder:
        last = agent.invoke({"messages": [("user", "3 + 4?")]})["messages"][-1]
    assert [turn["role"] for turn in last.response_metadata["turns"]] == ["attempt", "revise"]
    assert len(recorder.calls) == 3
    assert len(rows_of(recorder.calls)) == 1


def test_conversations_may_end_with_any_message_and_hold_several_systems() -> None:
    policy = TypingPolicy(lambda prompt, seed: "ok")
    model = ChatSelfCorrect(policy=policy, revisions=0)
    for messages in (
        [HumanMessage("first"), AIMessage("then")],
        [SystemMessage("rule"), HumanMessage("first"), SystemMessage("then")],
        [SystemMessage("rule"), SystemMessage("more"), HumanMessage("first")],
        [HumanMessage([{"type": "text", "text": "first"}, "then"])],
        [AIMessage("first")],
    ):
        with recording(policy) as recorder:
            assert model.invoke(messages).text == "ok"
        shown = policy.tokenizer.decode(recorder.calls[0].generation["prompt_ids"])
        places = [shown.find(text) for message in messages for text in [str(message.text)]]
        assert -1 not in places and places == sorted(places)
        assert ChatSelfCorrect(policy=policy).invoke(messages).text == "ok"


def test_messages_are_trimmed_by_the_tokens_of_the_policy() -> None:
    policy = TypingPolicy(lambda prompt, seed: "ok")
    model = ChatSelfCorrect(policy=policy)
    messages = [HumanMessage("x" * 100), AIMessage("y" * 100), HumanMessage("z" * 100)]
    shown = model.get_num_tokens_from_messages(messages)
    assert shown == len(policy.template.first(tool_format(policy).shown(messages, [])))
    one = model.get_num_tokens_from_messages(messages[-1:])
    kept = trim_messages(messages, token_counter=model, max_tokens=one + 10, strategy="last")
    assert kept == messages[-1:]
    assert ChatSelfCorrect(policy=ScriptedPolicy(["a"])).get_num_tokens_from_messages(messages) > 0
    assert model.get_num_tokens_from_messages([ToolMessage("r", tool_call_id="1")]) > 0


def test_several_answers_are_drawn_apart() -> None:
    policy = TypingPolicy(lambda prompt, seed: str(seed))
    model = ChatSelfCorrect(policy=policy, revisions=0, seed=5)
    answers = model.generate([[HumanMessage("a")]], n=3).generations[0]
    assert [answer.text for answer in answers] == ["5", "6", "7"]
    with pytest.raises(ConfigurationError, match="cannot be streamed"):
        list(model.stream("a", n=2))
