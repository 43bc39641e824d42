"""Any LangChain chat model as a policy: correction loops, checkers and metrics before any training."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from selfcorrect.agents.plugins.messages import to_langchain
from selfcorrect.agents.policies.rendering import conversation_after
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, Message, Usage
from selfcorrect.errors import ConfigurationError, PolicyError

CallOptions = Callable[[Sampling], dict[str, Any]]
_CUT_OFF = {"length", "max_tokens", "MAX_TOKENS"}
"""How providers say that the token limit ended an answer."""


def standard_options(sampling: Sampling) -> dict[str, Any]:
    """The call options that most providers know. The seed is left out, as many refuse it."""
    options: dict[str, Any] = {"temperature": sampling.temperature}
    if sampling.top_p < 1:
        options["top_p"] = sampling.top_p
    if sampling.max_new_tokens is not None:
        options["max_tokens"] = sampling.max_new_tokens
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    return options


class ChatModelPolicy:
    """Writes turns with a LangChain chat model. For inference and evaluation: there are no token ids to train on.

    Args:
        model: a chat model (or one with retries or fallbacks around it), or a name like "openai:gpt-5-mini" for
            LangChain's `init_chat_model`, which needs the extra `langchain` and the provider's own package.
        call_options: what of a `Sampling` is passed with each call, under the provider's names. `lambda sampling: {}`
            leaves everything as the model was made, for models that refuse a temperature.
        **model_options: passed to `init_chat_model`; only with a name.

    Raises:
        PolicyError: the named model cannot be had.
        ConfigurationError: options are given with a model that is made already.
    """

    def __init__(
        self,
        model: Runnable[LanguageModelInput, AIMessage] | str,
        *,
        call_options: CallOptions = standard_options,
        **model_options: Any,
    ) -> None:
        if model_options and not isinstance(model, str):
            unknown = ", ".join(model_options)
            raise ConfigurationError(
                f"{unknown}: set these on the chat model itself; they are only for names of models"
            )
        self.model = named_chat_model(model, **model_options) if isinstance(model, str) else model
        self.call_options = call_options

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The model's next message. What the provider's client raises is passed on as it is."""
        conversation = conversation_after(after, messages)
        return generation_of(await self.ask(self.model, conversation, sampling), conversation)

    async def ask(
        self, model: Runnable[LanguageModelInput, AIMessage], messages: Sequence[Message], sampling: Sampling
    ) -> AIMessage:
        """One call of `model`, which may be this policy's model with tools bound."""
        return await model.ainvoke(to_langchain(messages), **self.call_options(sampling))


def generation_of(message: AIMessage, conversation: list[Message]) -> Generation:
    """A chat model's answer to `conversation` as a generation without token ids."""
    said = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    generation = Generation(
        text=str(message.text),
        messages=conversation,
        prompt_ids=[],
        completion_ids=[],
        logprobs=[],
        finish_reason="length" if said in _CUT_OFF else "stop",
    )
    usage = message.usage_metadata
    if usage is not None:
        generation["usage"] = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    return generation


def named_chat_model(name: str, **options: Any) -> BaseChatModel:
    """The chat model that `init_chat_model` makes of "provider:model".

    Raises:
        PolicyError: a package or a key is missing, or nothing has that name.
    """
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        from selfcorrect.distribution import install_command

        raise PolicyError(f"{name!r} names a LangChain model: {install_command('langchain')}") from error
    try:
        made: BaseChatModel = init_chat_model(name, **options)
    except Exception as error:  # every provider has exceptions of its own for a missing key
        raise PolicyError(f"cannot make the chat model {name!r}: {type(error).__name__}: {error}") from error
    return made
