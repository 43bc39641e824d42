"""What a windowed policy shows, and when it may append to earlier ids."""

import asyncio
from typing import Any

import pytest
from small_models import WORDS, llama, word_tokenizer

from selfcorrect.agents.policies.scripted import ScriptedPolicy, WindowedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Policy
from selfcorrect.agents.state import Message
from selfcorrect.errors import ConfigurationError


def conversation(policy: Policy, turns: int) -> list[Any]:
    """Generations of an episode: "3 get", then "again" after every answer."""
    made = [asyncio.run(policy.generate([Message(role="user", content="3 get")], GREEDY))]
    for _ in range(turns - 1):
        made.append(asyncio.run(policy.generate([Message(role="user", content="again")], GREEDY, after=made[-1])))
    return made


@pytest.mark.parametrize("exchanges", [1, 2, 3])
def test_the_problem_and_the_last_exchanges_are_shown(exchanges: int) -> None:
    script = lambda talk: str(1 + int(talk[-2]["content"]) if len(talk) > 1 else 1)
    shown = [m["content"] for m in conversation(WindowedPolicy(ScriptedPolicy(script), exchanges), 6)[-1]["messages"]]
    kept = [part for number in range(6 - exchanges, 6) for part in (str(number), "again")]
    assert shown == ["3 get", *kept]


def test_as_long_as_nothing_is_cut_ids_are_appended_exactly() -> None:
    policy = TransformersPolicy(llama(len(WORDS) + 3), word_tokenizer(WORDS, pad_token="<pad>"), max_new_tokens=3)
    first, second, third = conversation(WindowedPolicy(policy, 1), 3)
    assert second["prompt_ids"][: len(first["prompt_ids"]) + 3] == [*first["prompt_ids"], *first["completion_ids"]]
    assert third["prompt_ids"][: len(second["prompt_ids"])] != second["prompt_ids"]
    assert len(third["prompt_ids"]) <= len(second["prompt_ids"])


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="exchanges must be 1 or more"):
        WindowedPolicy(ScriptedPolicy([]), 0)
