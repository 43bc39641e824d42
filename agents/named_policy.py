"""A policy by name: the embedded one, a folder, a Hugging Face id, or a chat model of LangChain."""

import re
from pathlib import Path
from typing import Any

from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN, Prompts

_PROVIDER_AND_MODEL = re.compile(r"[a-z][a-z0-9_-]+:[^/\\].*")


def is_chat_model_name(name: str) -> bool:
    """Whether `name` is of the form "provider:model", as LangChain's `init_chat_model` takes it."""
    return _PROVIDER_AND_MODEL.fullmatch(name) is not None and not Path(name).exists()


def named_policy(name: str, **options: Any) -> tuple[Policy, Prompts]:
    """The policy called `name` and the words to talk to it for questions of any kind.

    Args:
        name: as above.
        **options: of `TransformersPolicy`; unused for chat models.

    Raises:
        PolicyError: it cannot be loaded.
    """
    if is_chat_model_name(name):
        from selfcorrect.agents.chat_model_policy import ChatModelPolicy

        return ChatModelPolicy(name), PLAIN
    from selfcorrect.agents.embedded_policy import model_location
    from selfcorrect.agents.transformers_policy import TransformersPolicy

    policy = TransformersPolicy.from_pretrained(model_location(name), **options)
    return policy, PLAIN if reads_english(policy.tokenizer) else COUNTDOWN


def reads_english(tokenizer: Any) -> bool:
    """Whether a tokenizer knows the words of a plain sentence; that of the embedded policy does not."""
    unknown = tokenizer.unk_token_id
    sentence = "Using the numbers, each exactly once, reach a target"
    return unknown is None or unknown not in tokenizer(sentence, add_special_tokens=False)["input_ids"]
