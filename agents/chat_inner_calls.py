"""What happens inside one call of `ChatSelfCorrect`: calls that nobody outside should see twice, and tools of an inner model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from selfcorrect.agents.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.policy import Sampling

UNTRACED: RunnableConfig = {"callbacks": []}
"""For the calls inside an episode. Their callbacks would count its tokens twice, and mix the turns into streams of the reply."""


@contextmanager
def untraced() -> Iterator[None]:
    """Calls inside the block inherit everything but the callbacks."""
    inherited: RunnableConfig = var_child_runnable_config.get() or {}
    token = var_child_runnable_config.set({**inherited, **UNTRACED})
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def model_with_tools(source: Any) -> BaseChatModel:
    """The chat model inside `source` (a policy or graph) that can call tools.

    Raises:
        NotImplementedError: there is none, as LangChain expects to be told.
    """
    model = source.model if isinstance(source, ChatModelPolicy) else None
    if not isinstance(model, BaseChatModel) or type(model).bind_tools is BaseChatModel.bind_tools:
        raise NotImplementedError(
            "tools need ChatSelfCorrect(policy=ChatModelPolicy(model)) with a chat model that can call tools; "
            f"this one has {type(source).__name__}"
        )
    return model


async def ask_with_tools(
    policy: ChatModelPolicy, messages: list[BaseMessage], sampling: Sampling, call: dict[str, Any]
) -> AIMessage:
    """The inner model's answer to `messages`, or its calls of the tools that `bind_tools` put into `call`."""
    options = call.get("tool_options", {})
    model = model_with_tools(policy).bind_tools(call["tools"], tool_choice=call.get("tool_choice"), **options)
    with untraced():
        return await model.ainvoke(messages, **policy.call_options(sampling))
