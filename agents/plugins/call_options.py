"""The options that one call of `ChatSelfCorrect` is given, beside its messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from selfcorrect.agents.policy import Sampling
from selfcorrect.errors import ConfigurationError

_SAMPLING = {"temperature", "top_p", "max_tokens", "seed"}
_READ_ELSEWHERE = {"tools", "tool_choice", "tool_options", "response_format", "n", "logprobs", "stream", "model"}


def sampling_of_call(own: Mapping[str, Any], stop: list[str] | None, options: Mapping[str, Any]) -> Sampling:
    """How a call draws: as `own`, the model's settings, say where the call's `stop` and `options` do not.

    Raises:
        ConfigurationError: nothing knows one of the options.
    """
    unknown = set(options) - _SAMPLING - _READ_ELSEWHERE
    if unknown:
        raise ConfigurationError(
            f"ChatSelfCorrect does not know the call option {', '.join(sorted(unknown))}; it knows "
            f"{', '.join(sorted(_SAMPLING))}, stop, n, logprobs, response_format and tools"
        )
    chosen = {name: options.get(name, own[name]) for name in _SAMPLING}
    return Sampling(
        temperature=chosen["temperature"],
        top_p=chosen["top_p"],
        max_new_tokens=chosen["max_tokens"],
        seed=chosen["seed"],
        stop=tuple(stop or own["stop"] or ()),
    )


def choices(options: Mapping[str, Any]) -> int:
    """How many answers a call asks for."""
    count = options.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"n must be 1 or more, got {count!r}")
    return count


def of_choice(own: Mapping[str, Any], options: dict[str, Any], number: int) -> dict[str, Any]:
    """The options of answer `number`: with a seed, every answer has another one."""
    seed = options.get("seed", own["seed"])
    return options if seed is None or number == 0 else {**options, "seed": seed + number}


def written_tools(tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]) -> list[dict[str, Any]]:
    """Tools as a call carries them: written out as OpenAI's, except those that a provider has written already."""
    return [tool if isinstance(tool, dict) and "type" in tool else convert_to_openai_tool(tool) for tool in tools]
