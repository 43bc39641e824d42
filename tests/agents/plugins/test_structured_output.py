"""Answers as JSON: told to the policy, parsed and validated, and drawn by the schema where that is asked for."""

import json
import math
from typing import Any, Literal

import pytest
import torch
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from small_models import llama
from typing_policy import TypingPolicy, family_tokenizer

from selfcorrect.agents.decoding.constraints import Constraints, token_texts
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.plugins.structured import FormatError, response_format
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import Draws, recording
from selfcorrect.agents.state import Message
from selfcorrect.errors import ConfigurationError, GraphError, PolicyError


class Grade(BaseModel):
    """Whether a document is of use."""

    relevant: Literal["yes", "no"]
    score: int


SCHEMA = json.dumps(Grade.model_json_schema())


def random_policy(**options: Any) -> TransformersPolicy:
    tokenizer = family_tokenizer("qwen3")
    return TransformersPolicy(llama(len(tokenizer), positions=2048), tokenizer, max_new_tokens=120, **options)


def test_an_answer_of_the_schema_is_an_object_of_the_class() -> None:
    policy = TypingPolicy(lambda prompt, seed: '```json\n{"relevant": "yes", "score": 3}\n```')
    model = ChatSelfCorrect(policy=policy, revisions=0)
    assert model.with_structured_output(Grade).invoke("of use?") == Grade(relevant="yes", score=3)
    as_dict = model.with_structured_output(Grade.model_json_schema()).invoke("of use?")
    assert as_dict == {"relevant": "yes", "score": 3}
    with recording(policy) as recorder:
        model.with_structured_output(Grade).invoke("of use?")
    assert '"relevant"' in policy.tokenizer.decode(recorder.calls[0].generation["prompt_ids"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("yes", "no valid JSON"),
        ('{"relevant": "perhaps", "score": 3}', "relevant"),
        ('{"relevant": "yes"}', "score"),
        ("[" * 50_000, "JSON"),
    ],
)
def test_an_answer_of_another_form_says_so(said: str, words: str) -> None:
    model = ChatSelfCorrect(policy=ScriptedPolicy([said]), revisions=0)
    with pytest.raises(FormatError, match=words):
        model.with_structured_output(Grade).invoke("of use?")
    kept: Any = model.with_structured_output(Grade, include_raw=True).invoke("of use?")
    assert kept["parsed"] is None and words in str(kept["parsing_error"])
    assert kept["raw"].text == said and words in kept["raw"].response_metadata["format_error"]


def test_function_calling_serves_structured_output_too() -> None:
    policy = ScriptedPolicy(['{"name": "Grade", "arguments": {"relevant": "no", "score": 0}}'])
    model = ChatSelfCorrect(policy=policy, revisions=0)
    assert model.with_structured_output(Grade, method="function_calling").invoke("?") == Grade(relevant="no", score=0)


def test_an_agent_gives_a_structured_response() -> None:
    from langchain.agents.structured_output import ProviderStrategy, ToolStrategy

    answer = ChatSelfCorrect(policy=ScriptedPolicy(['{"relevant": "no", "score": 1}']), revisions=0)
    by_format = create_agent(answer, response_format=ProviderStrategy(Grade))
    assert by_format.invoke({"messages": [("user", "?")]})["structured_response"] == Grade(relevant="no", score=1)
    call = ChatSelfCorrect(
        policy=ScriptedPolicy(['{"name": "Grade", "arguments": {"relevant": "no", "score": 1}}']), revisions=0
    )
    by_tool = create_agent(call, response_format=ToolStrategy(Grade))
    assert by_tool.invoke({"messages": [("user", "?")]})["structured_response"] == Grade(relevant="no", score=1)


def test_a_revised_answer_has_the_form_too() -> None:
    answers = ['{"relevant": "no", "score": 1}', '{"relevant": "yes", "score": 2}']
    model = ChatSelfCorrect(policy=ScriptedPolicy(answers))
    assert model.with_structured_output(Grade).invoke("?") == Grade(relevant="yes", score=2)


def test_what_is_no_schema_is_refused() -> None:
    for asked in ({"type": "xml"}, {"type": "json_schema"}, {"type": "object", "properties": 3}):
        with pytest.raises(ConfigurationError, match="response_format"):
            response_format(asked)


# Drawn by the schema.


def test_constrained_answers_follow_the_schema_whatever_the_model() -> None:
    model = ChatSelfCorrect(policy=random_policy(), revisions=0, temperature=1.0, constrained=True)
    asking = model.with_structured_output(Grade)
    assert all(isinstance(grade, Grade) for grade in asking.batch(["of use?", "and this?", "this?"]))


def test_a_call_that_is_demanded_is_drawn_by_the_schema_of_its_tool_whatever_the_model() -> None:
    @tool
    def grade(relevant: Literal["yes", "no"], score: Literal[1, 2, 3]) -> str:
        """Grade it."""
        return f"{relevant} {score}"

    @tool
    def skip(reason: Literal["long", "old"]) -> str:
        """Skip it."""
        return reason

    model = ChatSelfCorrect(policy=random_policy(), revisions=0, temperature=1.0, constrained=True)
    one, both = model.bind_tools([grade, skip], tool_choice="skip"), model.bind_tools([grade, skip], tool_choice="any")
    for asking, names in ((one, {"skip"}), (both, {"grade", "skip"})):
        for said in asking.batch(["of use?", "and this?", "this?"]):
            assert not said.invalid_tool_calls
            (call,) = said.tool_calls
            assert call["name"] in names
            assert (grade if call["name"] == "grade" else skip).invoke(call["args"])
    free = model.bind_tools([grade, skip], tool_choice="auto").invoke("of use?")
    assert not free.tool_calls  # a random model writes none of its own


def test_constrained_log_probabilities_are_those_of_the_constrained_distribution() -> None:
    import asyncio

    policy = random_policy(reuse_cache=False)
    sampling = Sampling(temperature=0.7, seed=3, json_schema=SCHEMA)
    drawn = asyncio.run(policy.generate([Message(role="user", content="hi")], sampling))
    guide = Constraints(policy.tokenizer).guide(SCHEMA)
    ids = drawn["completion_ids"]
    with torch.no_grad():
        logits = policy.model(torch.tensor([drawn["prompt_ids"] + ids])).logits[0].float() / 0.7
    for place, (token, logprob) in enumerate(zip(ids, drawn["logprobs"], strict=True)):
        allowed = guide.allowed()
        row = logits[len(drawn["prompt_ids"]) + place - 1]
        assert token in allowed
        expected = float(row[token] - torch.logsumexp(row[allowed], dim=0))
        assert math.isclose(logprob, expected, abs_tol=1e-3)
        guide.advance(token)
    assert guide.ended


def test_rows_without_a_schema_are_drawn_as_if_alone() -> None:
    import asyncio

    policy = random_policy(reuse_cache=False)
    free, bound = Sampling(seed=1, max_new_tokens=20), Sampling(seed=2, json_schema=SCHEMA)
    message = [Message(role="user", content="hi")]

    async def both() -> Any:
        return await asyncio.gather(policy.generate(message, free), policy.generate(message, bound))

    alone = asyncio.run(policy.generate(message, free))
    assert asyncio.run(both())[0]["completion_ids"] == alone["completion_ids"]


def test_a_constrained_call_does_not_learn_and_says_why() -> None:
    model = ChatSelfCorrect(policy=random_policy(), revisions=0, constrained=True)
    with recording(draws=Draws(seed=0, temperature=1.0)), pytest.raises(GraphError, match="constrained distribution"):
        model.with_structured_output(Grade).invoke([HumanMessage("?")])


def test_what_cannot_be_constrained_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="draws by a schema"):
        ChatSelfCorrect(policy=ScriptedPolicy(["a"]), constrained=True)
    with pytest.raises(ConfigurationError, match="critiques"):
        ChatSelfCorrect(policy=random_policy(), critique="self", constrained=True)
    with pytest.raises(PolicyError, match="cannot be followed"):
        Constraints(family_tokenizer("qwen3")).guide('{"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}')


def test_the_bytes_of_tokens_are_those_they_write() -> None:
    texts = token_texts(family_tokenizer("qwen3"))
    assert b" " in texts and b"\xc3" in texts and b"<|im_end|>" not in texts
