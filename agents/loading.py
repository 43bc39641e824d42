"""A policy by name: the embedded one, a folder, a Hugging Face id, a vLLM server, or a chat model of LangChain."""

import re
from pathlib import Path
from typing import Any

from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import PLAIN, Prompts, prompts_of
from selfcorrect.errors import PolicyError

_PROVIDER_AND_MODEL = re.compile(r"[a-z][a-z0-9_-]+:[^/\\].*")


def is_chat_model_name(name: str) -> bool:
    """Whether `name` is of the form "provider:model", as LangChain's `init_chat_model` takes it."""
    return _PROVIDER_AND_MODEL.fullmatch(name) is not None and not Path(name).exists()


def vllm_server(name: str) -> tuple[str, str] | None:
    """Model and address of a name like "vllm:Qwen/Qwen3-4B@http://localhost:8000/v1"; None for other names.

    Raises:
        PolicyError: one of the two is missing.
    """
    kind, _, rest = name.partition(":")
    if kind != "vllm":
        return None
    model, _, url = rest.rpartition("@")
    if not model or not url.startswith(("http://", "https://")):
        raise PolicyError(
            f"a vLLM server is named vllm:MODEL@URL, as in vllm:Qwen/Qwen3-4B@http://localhost:8000/v1; got {name!r}"
        )
    return model, url


def named_policy(name: str, **options: Any) -> tuple[Policy, Prompts]:
    """The policy called `name` and the words to talk to it for questions of any kind.

    Args:
        name: as above.
        **options: of `TransformersPolicy` or `VLLMPolicy`; unused for chat models.

    Raises:
        PolicyError: it cannot be loaded.
    """
    server = vllm_server(name)
    if server is not None:
        from selfcorrect.agents.policies.vllm import VLLMPolicy

        model, url = server
        remote = VLLMPolicy.from_pretrained(url, model, **options)
        return remote, prompts_of(remote, english=PLAIN)
    if is_chat_model_name(name):
        from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy

        return ChatModelPolicy(name), PLAIN
    policy = _local_policy(name, options)
    return policy, prompts_of(policy, english=PLAIN)


def _local_policy(name: str, options: dict[str, Any]) -> Policy:
    """A model in this process. One that was trained to think does so."""
    from selfcorrect.agents.policies.pretrained import model_location
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.quiet.folder import is_quiet_folder
    from selfcorrect.agents.quiet.policy import QuietPolicy

    location = model_location(name)
    if is_quiet_folder(Path(location)):
        return QuietPolicy.from_pretrained(location, **options)
    return TransformersPolicy.from_pretrained(location, **options)
