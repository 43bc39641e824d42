"""A policy or a correction graph as a LangChain chat model: one call is one episode, its last answer the reply."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from selfcorrect.agents.episodes import Graph
from selfcorrect.agents.graph import CritiqueMode
from selfcorrect.agents.plugins.background import BackgroundChatModel
from selfcorrect.agents.plugins.chat_model_policy import generation_of
from selfcorrect.agents.plugins.conversation import (
    UNTRACED,
    ask_with_tools,
    loop_of_calls,
    model_with_tools,
    one_turn,
    played,
    played_in_steps,
)
from selfcorrect.agents.plugins.messages import from_langchain
from selfcorrect.agents.plugins.replies import closing_chunk, reply, turn_chunk
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.errors import ConfigurationError

# The options that one call of `ChatSelfCorrect` is given, beside its messages.

_SAMPLING = {"temperature", "top_p", "max_tokens", "seed"}
_READ_ELSEWHERE = {"tools", "tool_choice", "tool_options", "stream", "model"}


def sampling_of_call(own: Mapping[str, Any], stop: list[str] | None, options: Mapping[str, Any]) -> Sampling:
    """How a call draws: as `own`, the model's settings, say where the call's `stop` and `options` do not.

    Raises:
        ConfigurationError: nothing knows one of the options.
    """
    unknown = set(options) - _SAMPLING - _READ_ELSEWHERE
    if unknown:
        raise ConfigurationError(
            f"ChatSelfCorrect does not know the call option {', '.join(sorted(unknown))}; it knows "
            f"{', '.join(sorted(_SAMPLING))} and stop"
        )
    chosen = {name: options.get(name, own[name]) for name in _SAMPLING}
    return Sampling(
        temperature=chosen["temperature"],
        top_p=chosen["top_p"],
        max_new_tokens=chosen["max_tokens"],
        seed=chosen["seed"],
        stop=tuple(stop or own["stop"] or ()),
    )


def written_tools(tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]) -> list[dict[str, Any]]:
    """Tools as a call carries them: written out as OpenAI's, except those that a provider has written already."""
    return [tool if isinstance(tool, dict) and "type" in tool else convert_to_openai_tool(tool) for tool in tools]


# A policy or graph as a tool of an agent.

DESCRIPTION = (
    "Solves one self-contained problem: writes an answer, looks for mistakes in it, and gives the corrected answer."
)


class ProblemInput(BaseModel):
    """What the tool is called with."""

    problem: str = Field(description="The whole problem; nothing else of the conversation is seen.", min_length=1)


def as_tool(model: "ChatSelfCorrect", *, name: str = "solve_problem", description: str = DESCRIPTION) -> BaseTool:
    """`model` as a tool with one argument, `problem`.

    The agent sees the answer; the `artifact` of the tool message holds the turns. Make `model` of a policy or a graph:
    `as_tool(ChatSelfCorrect(policy=policy))`.
    """

    def solve_problem(problem: str) -> tuple[str, Any]:
        message = model.invoke([HumanMessage(problem)])
        return str(message.text), message.response_metadata["turns"]

    async def solve_problem_async(problem: str) -> tuple[str, Any]:
        message = await model.ainvoke([HumanMessage(problem)])
        return str(message.text), message.response_metadata["turns"]

    return StructuredTool.from_function(
        solve_problem,
        solve_problem_async,
        name=name,
        description=description,
        args_schema=ProblemInput,
        response_format="content_and_artifact",
    )


Inputs = Callable[[list[BaseMessage]], dict[str, Any]]
Answer = Callable[[Any], str]


class ChatSelfCorrect(BackgroundChatModel):
    """A LangChain chat model whose replies have been revised.

    The last message of the user is the problem; what came before it is shown first. `response_metadata["turns"]` of a
    reply holds every turn (role, text, verdict), `usage_metadata` is their sum. Streams yield an empty chunk for each
    turn as it is written, then the reply. Synchronous calls run on one background event loop, so that concurrent ones
    share batches.

    Args:
        policy: writes every turn. With `revisions=0` a call is exactly one call of it: the way to use a policy in the
            nodes of a LangGraph graph that is to be trained.
        graph: instead of a policy: a graph of `build_graph`, or any compiled graph with `inputs` and `answer`.
        inputs: the graph's input, made from the messages; for graphs over other states than `EpisodeState`.
        answer: the reply, read from the graph's final state; likewise.
        revisions, critique, checker, prompts, stop_rule: as in `build_graph`; only with a policy.
        temperature: 0 is greedy.
        top_p, max_tokens, seed, stop: as in `Sampling`.
        timeout: seconds after which a call raises TimeoutError.
        model: name that replies and traces carry.

    Raises:
        ConfigurationError: the arguments contradict each other.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    policy: Any = None
    graph: Any = None
    inputs: Inputs | None = None
    answer: Answer | None = None
    revisions: int = 1
    critique: CritiqueMode = "instruction"
    checker: Any = None
    prompts: Prompts = PLAIN
    stop_rule: Any = None
    model: str = "selfcorrect"
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: list[str] | None = None
    timeout: float | None = Field(default=None, gt=0)
    streaming: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "ChatSelfCorrect":
        if (self.policy is None) == (self.graph is None):
            raise ConfigurationError("ChatSelfCorrect needs either policy=... or graph=...")
        loop = {"revisions", "critique", "checker", "prompts", "stop_rule"} & self.model_fields_set
        if self.graph is not None and loop:
            raise ConfigurationError(
                f"{', '.join(sorted(loop))}: a graph has these already; give them with policy=... only"
            )
        if (self.inputs is None) != (self.answer is None) or (self.inputs is not None and self.graph is None):
            raise ConfigurationError("inputs=... and answer=... belong together, and to graph=...")
        if self.policy is not None:
            _ = self._loop  # contradictions in the loop's settings are told now
        return self

    @property
    def _llm_type(self) -> str:
        return "selfcorrect"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        settings = ("model", "revisions", "critique", "temperature", "top_p", "max_tokens", "seed", "stop")
        return {**{name: getattr(self, name) for name in settings}, "source": id(self.policy or self.graph)}

    @cached_property
    def _loop(self) -> Graph:
        """The graph that is played."""
        if self.graph is not None:
            return cast(Graph, self.graph)
        return loop_of_calls(
            self.policy,
            checker=self.checker,
            prompts=self.prompts,
            revisions=self.revisions,
            critique=self.critique,
            stop=self.stop_rule,
        )

    # --- LangChain's ways to call; the synchronous ones are inherited ------------------------------------------------

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with asyncio.timeout(self.timeout):
            message = await self._reply(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with asyncio.timeout(self.timeout):
            if self.inputs is not None or "tools" in kwargs or self._is_one_call:
                yield closing_chunk(await self._reply(messages, stop, kwargs), with_turns=True)
                return
            sampling = sampling_of_call(dict(self), stop, kwargs)
            async with aclosing(played_in_steps(self._loop, messages, sampling)) as steps:
                async for step in steps:
                    if step.turn is not None:
                        yield turn_chunk(step.turn)
                    else:
                        yield closing_chunk(reply(step.state, self.model), with_turns=False)

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _reply(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        sampling = sampling_of_call(dict(self), stop, kwargs)
        if self.inputs is not None and self.answer is not None:
            state = await self._loop.ainvoke(self.inputs(messages), UNTRACED)
            return reply(state, self.model, answer=self.answer(state))
        attempt = None
        if "tools" in kwargs:
            said = await ask_with_tools(self.policy, messages, sampling, kwargs)
            if said.tool_calls:
                return said
            attempt = generation_of(said, from_langchain(messages))
        elif self._is_one_call:
            return reply(await one_turn(self.policy, self.prompts, messages, sampling), self.model)
        return reply(await played(self._loop, messages, sampling, attempt), self.model)

    @property
    def _is_one_call(self) -> bool:
        return self.policy is not None and self.revisions == 0 and self.checker is None

    # --- tools -------------------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Pass tools through to the inner model. Its calls of tools are returned as they are; its answers are revised.

        Raises:
            NotImplementedError: the policy is no `ChatModelPolicy` around a model that can call tools.
        """
        traced = {name: kwargs.pop(name) for name in list(kwargs) if name.startswith("ls_")}
        model_with_tools(self.policy or self.graph).bind_tools(
            tools, tool_choice=tool_choice, **kwargs
        )  # refuses what the inner model refuses
        return self.bind(tools=written_tools(tools), tool_choice=tool_choice, tool_options=kwargs, **traced)

    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """This model as an agent's tool with one argument, `problem`; see
        `selfcorrect.agents.plugins.chat_model.as_tool`.

        With `args_schema` or `arg_types` it is LangChain's own `as_tool`.
        """
        if args_schema is not None or arg_types is not None:
            return super().as_tool(args_schema, name=name, description=description, arg_types=arg_types)
        from selfcorrect.agents.plugins.chat_model import DESCRIPTION, as_tool

        return as_tool(self, name=name or "solve_problem", description=description or DESCRIPTION)
