"""A policy by name: an embedded one, smollm2, a folder, a GGUF file, a Hugging Face id, a server, a LangChain model."""

import difflib
import inspect
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import PLAIN, Prompts, prompts_of
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.registry import Registry, called, is_address, shown_kind

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


def named_policy(
    name: str, *, device: str | None = None, dtype: str | None = None, **options: Any
) -> tuple[Policy, Prompts]:
    """The policy called `name` and the words to talk to it for questions of any kind.

    Args:
        name: as above.
        device, dtype: of a model in this process; see `choose_device`. None is "auto".
        **options: of `TransformersPolicy`, `VLLMPolicy` or `TinkerPolicy`; unused for chat models.

    Raises:
        PolicyError: it cannot be loaded.
        ConfigurationError: the device is not there or lacks the dtype; or the model runs elsewhere, as its server says.
    """
    elsewhere = _backend(name)
    if elsewhere is None:
        policy = _local_policy(name, device or "auto", dtype or "auto", options)
    elif (device, dtype) != (None, None):
        raise ConfigurationError(f"{name} runs elsewhere: device and dtype are its server's to choose")
    else:
        policy = elsewhere(options)
    return policy, prompts_of(policy, english=PLAIN)


def runs_elsewhere(name: str) -> bool:
    """Whether the policy called `name` has its weights on a server: it plays, and nothing is trained here."""
    return _backend(name) is not None


def _backend(name: str) -> Callable[[dict[str, Any]], Policy] | None:
    """Makes the policy that does not run as a model of this process; None for those that do."""
    kind, _, rest = name.partition(":")
    if Path(name).exists():
        return None
    if kind in BACKENDS:
        return partial(BACKENDS[kind], rest)
    if is_address(name) and "." in kind:
        return partial(BACKENDS.find(name), rest)
    return partial(_chat_model, name) if is_chat_model_name(name) else None


Backend = Callable[[str, dict[str, Any]], Policy]
"""Makes the policy of what follows the backend's name and a colon; the options are those of `named_policy`."""


def _vllm(rest: str, options: dict[str, Any]) -> Policy:
    from selfcorrect.agents.policies.vllm import VLLMPolicy

    name, _, more = rest.partition("?")
    server = vllm_server(f"vllm:{name}")
    assert server is not None
    model, url = server
    return VLLMPolicy.from_pretrained(url, model, **{**_told_in_name(more, "vLLM server", _OF_A_SERVER), **options})


def _told_in_name(more: str, server: str, known: Collection[str]) -> dict[str, Any]:
    """What a server's name tells after a question mark, as in `?tokenizer=./model&max_model_length=4096`."""
    told: dict[str, Any] = {}
    for option, value in parse_qsl(more, keep_blank_values=True):
        if option not in known:
            raise ConfigurationError(f"a {server} has no option {option!r}; it has {', '.join(known)}")
        kind, read = _IN_NAMES[option]
        try:
            told[option] = read(value)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"{server}: {option} is {kind}, got {value!r}") from error
    return told


_IN_NAMES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "tokenizer": ("a folder or Hugging Face id", str),
    "max_model_length": ("a whole number", int),
    "processed_logprobs": ("true or false", {"true": True, "false": False}.__getitem__),
    "concurrency": ("a whole number", int),
    "timeout": ("a number of seconds", float),
    "max_retries": ("a whole number", int),
}
"""Options that the name of a server can tell: what each is, and how it is read. The key stands in VLLM_API_KEY."""

_OF_A_SERVER = ("tokenizer", "max_model_length", "processed_logprobs", "concurrency")
_OF_TINKER = ("tokenizer", "max_model_length")
_OF_A_CHAT_MODEL = ("concurrency", "timeout", "max_retries")


def _tinker(rest: str, options: dict[str, Any]) -> Policy:
    """MODEL@URL, or MODEL alone where the environment says which service; the model may be a tinker:// path."""
    from selfcorrect.agents.policies.tinker import TinkerPolicy

    name, _, more = rest.partition("?")
    model, _, url = name.rpartition("@") if "@http" in name else (name, "", None)
    return TinkerPolicy.from_service(model, url=url, **{**_told_in_name(more, "Tinker service", _OF_TINKER), **options})


def _chat_model(rest: str, options: dict[str, Any]) -> Policy:
    from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy

    name, _, more = rest.partition("?")
    told = _told_in_name(more, "chat model", _OF_A_CHAT_MODEL)
    try:
        return ChatModelPolicy(name, **told)
    except PolicyError as error:
        near = difflib.get_close_matches(rest.partition(":")[0], ("vllm", "tinker"), n=1, cutoff=_NEAR)
        hint = f"; did you mean {near[0]}:...?" if near else ""
        own = "; for a policy of your own, the module's name must have a dot" if is_address(rest) else ""
        raise PolicyError(f"{error}{hint}{own}") from error


_NEAR = 0.75
"""How alike a provider's name and a backend's must be for one to be told for the other."""


def _own(address: str, found: Any) -> Backend:
    """A policy of a user's own, or a class or function that makes one; it is called without arguments."""
    makes = isinstance(found, type) or inspect.isfunction(found)

    def made(rest: str, options: dict[str, Any]) -> Policy:
        policy: Any = called(address, found, expected=_POLICY) if makes else found
        if not callable(getattr(policy, "generate", None)):
            raise PolicyError(f"{address} is no policy: expected {_POLICY}, got {shown_kind(policy)}")
        return cast(Policy, policy)

    return made


_POLICY = "generate(messages, sampling, *, after=None), or what makes such a policy when called without arguments"

BACKENDS: Registry[Backend] = Registry(
    "policy backend", {"vllm": _vllm, "tinker": _tinker, "langchain": _chat_model}, accept=_own
)
"""What stands before the colon of a policy's name. A name without one is a folder, a GGUF file, a Hugging Face id,
"embedded", "embedded-looks" or "smollm2"; any other word before it is a provider of LangChain, and a dotted one
`package.module:Name` of a user's own."""


def _local_policy(name: str, device: str, dtype: str, options: dict[str, Any]) -> Policy:
    """A model in this process. One that was trained to think does so."""
    from selfcorrect.agents.policies.pretrained import model_location
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.quiet.policy import QuietPolicy
    from selfcorrect.agents.quiet.thinking import is_quiet_folder
    from selfcorrect.devices import choose_device

    location = model_location(name)
    if is_quiet_folder(Path(location)):
        if dtype not in ("auto", "float32"):
            raise ConfigurationError(f"{name} thinks in float32: dtype {dtype!r} is not for models that think")
        quiet = QuietPolicy.from_pretrained(location, **options)
        quiet.model.to(choose_device(device))
        return quiet
    return TransformersPolicy.from_pretrained(location, device=device, dtype=dtype, **options)
