"""The scripted policy is a faithful stand-in: deterministic, well-formed, recorded."""

import asyncio

import pytest
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.policies.scripted import SCRIPTED_LOGPROB, ScriptedPolicy
from selfcorrect.agents.policy import GREEDY, Policy
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError


def say(policy: Policy, text: str, after: Generation | None = None) -> Generation:
    return asyncio.run(policy.generate([Message(role="user", content=text)], GREEDY, after=after))


def test_a_list_is_replayed_turn_by_turn_for_every_conversation() -> None:
    policy = ScriptedPolicy(["one", "two"])
    first = say(policy, "a")
    assert say(policy, "again", after=first)["text"] == "two"
    assert say(policy, "b")["text"] == "one"


def test_a_mapping_is_looked_up_by_the_longest_prompt_that_is_shown() -> None:
    policy = ScriptedPolicy({"3 5": ["short"], "3 5 7": ["long"]})
    assert say(policy, "Solve: 3 5 7 get 56 :")["text"] == "long"
    assert say(policy, "Solve: 3 5 get 8 :")["text"] == "short"


def test_a_function_sees_the_whole_conversation() -> None:
    policy = ScriptedPolicy(lambda conversation: " | ".join(message["content"] for message in conversation))
    assert say(policy, "again", after=say(policy, "a"))["text"] == "a | a | again"


def test_a_script_that_is_too_short_says_so() -> None:
    policy = ScriptedPolicy(["one"])
    with pytest.raises(PolicyError, match="holds 1 outputs .* output 2 was asked for"):
        say(policy, "again", after=say(policy, "a"))


def test_a_problem_without_entry_is_named() -> None:
    with pytest.raises(PolicyError, match="no entry .* '9 9'"):
        say(ScriptedPolicy({"3 5": ["x"]}), "9 9")


def test_without_a_tokenizer_there_are_no_ids() -> None:
    generation = say(ScriptedPolicy(["one"]), "a")
    assert (generation["prompt_ids"], generation["completion_ids"], generation["logprobs"]) == ([], [], [])


def test_with_a_tokenizer_later_prompts_extend_earlier_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = ScriptedPolicy(["3 + 5 = 8", "5 + 3 = 8"], tokenizer=tokenizer)
    first = say(policy, "3 5 get 8 :")
    second = say(policy, "again :", after=first)
    known = first["prompt_ids"] + first["completion_ids"]
    assert first["completion_ids"][-1] == tokenizer.eos_token_id
    assert second["prompt_ids"] == known + tokenizer.encode("again :", add_special_tokens=False)
    assert second["logprobs"] == [SCRIPTED_LOGPROB] * len(second["completion_ids"])


def test_generations_are_recorded() -> None:
    with recording() as recorder:
        say(ScriptedPolicy(["one"]), "a")
    assert [call.generation["text"] for call in recorder.calls] == ["one"]
