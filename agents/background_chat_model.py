"""Chat models of LangChain that think asynchronously, for callers who do not."""

from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from selfcorrect.agents.background_loop import iterate_in_background, run_in_background


class BackgroundChatModel(BaseChatModel):
    """A chat model whose synchronous calls are its asynchronous ones, run on one background event loop.

    Subclasses must write `_agenerate` and `_astream`: those of LangChain would call the synchronous ones again.
    """

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return run_in_background(self._agenerate(messages, stop, None, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from iterate_in_background(self._astream(messages, stop, None, **kwargs))

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """All of `inputs` at once, so that a local policy decodes them together."""
        return run_in_background(self.abatch(inputs, config, return_exceptions=return_exceptions, **kwargs))
