"""A policy or a correction graph as a LangChain chat model: one call is one episode, its last answer the reply."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from selfcorrect.agents.background_loop import iterate_in_background, run_in_background
from selfcorrect.agents.chat_inner_calls import UNTRACED, ask_with_tools, model_with_tools, untraced
from selfcorrect.agents.chat_model_policy import generation_of
from selfcorrect.agents.chat_replies import Step, closing_chunk, reply, steps_of, turn_chunk
from selfcorrect.agents.episodes import Graph, opening
from selfcorrect.agents.graph import CritiqueMode, build_graph
from selfcorrect.agents.langchain_messages import from_langchain, question_and_history
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import EpisodeState, Generation, Message, Turn
from selfcorrect.agents.stopping import Stop
from selfcorrect.agents.windowed_policy import WindowedPolicy
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem

Inputs = Callable[[list[BaseMessage]], dict[str, Any]]
Answer = Callable[[Any], str]


class ChatSelfCorrect(BaseChatModel):
    """A LangChain chat model whose replies have been revised.

    The last message of the user is the problem; what came before it is shown first. `response_metadata["turns"]` of a reply
    holds every turn (role, text, verdict), `usage_metadata` is their sum. Streams yield an empty chunk for each turn as it is
    written, then the reply. Synchronous calls run on one background event loop, so that concurrent ones share batches.

    Args:
        policy: writes every turn. With `revisions=0` a call is exactly one call of it: the way to use a policy in the nodes of a
            LangGraph graph that is to be trained.
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
            raise ConfigurationError(f"{', '.join(sorted(loop))}: a graph has these already; give them with policy=... only")
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
            given: Graph = self.graph
            return given
        policy: Policy = WindowedPolicy(self.policy)
        checker: Checker | None = self.checker
        rule: Stop | None = self.stop_rule
        made = build_graph(
            policy, checker=checker, prompts=self.prompts, revisions=self.revisions, critique=self.critique, stop=rule
        )
        # within a node of a graph with a checkpointer, an episode is one call and keeps no checkpoints of its own
        return made.copy(update={"checkpointer": False})

    # --- LangChain's four ways to call -----------------------------------------------------------------------------------

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

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return run_in_background(self._agenerate(messages, stop, None, **kwargs))

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
            sampling = self._sampling(stop, kwargs)
            async with aclosing(self._steps(messages, sampling)) as steps:
                async for step in steps:
                    if step.turn is not None:
                        yield turn_chunk(step.turn)
                    else:
                        yield closing_chunk(reply(step.state, self.model), with_turns=False)

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

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _reply(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        sampling = self._sampling(stop, kwargs)
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
            return reply(await self._one_turn(messages, sampling), self.model)
        return reply(await self._play(messages, sampling, attempt), self.model)

    @property
    def _is_one_call(self) -> bool:
        return self.policy is not None and self.revisions == 0 and self.checker is None

    async def _one_turn(self, messages: list[BaseMessage], sampling: Sampling) -> EpisodeState:
        """The policy itself, without a graph around it: a trainer's record then names the caller's node."""
        question, history = question_and_history(messages)
        asked = Message(role="user", content=self.prompts.attempt.replace("{problem}", question))
        with untraced():
            generation = await self.policy.generate([*history, asked], sampling)
        return EpisodeState(turns=[Turn(role="attempt", generation=generation, verdict=None)])

    async def _play(
        self, messages: list[BaseMessage], sampling: Sampling, attempt: Generation | None = None
    ) -> EpisodeState:
        start, context = self._start(messages, sampling, attempt)
        return cast(EpisodeState, await self._loop.ainvoke(start, UNTRACED, context=context))

    async def _steps(self, messages: list[BaseMessage], sampling: Sampling) -> AsyncGenerator[Step]:
        start, context = self._start(messages, sampling)
        states: Any = self._loop.astream(start, UNTRACED, context=context, stream_mode="values")
        async with aclosing(states):
            async for step in steps_of(states, judged="judge" in self._loop.nodes):
                yield step

    @staticmethod
    def _start(
        messages: list[BaseMessage], sampling: Sampling, attempt: Generation | None = None
    ) -> tuple[EpisodeState, EpisodeContext]:
        question, history = question_and_history(messages)
        problem = Problem(id="chat", prompt=question, reference=None, checker="none")
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        return opening(problem, seed, history=history, attempt=attempt), EpisodeContext(sampling)

    def _sampling(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Sampling:
        """This call's sampling: the model's own settings, changed by the call's."""
        known = {"temperature", "top_p", "max_tokens", "seed"}
        unknown = set(kwargs) - known - {"tools", "tool_choice", "tool_options", "stream", "model"}
        if unknown:
            raise ConfigurationError(
                f"ChatSelfCorrect does not know the call option {', '.join(sorted(unknown))}; it knows {', '.join(sorted(known))} and stop"
            )
        chosen = {name: kwargs.get(name, getattr(self, name)) for name in known}
        return Sampling(
            temperature=chosen["temperature"],
            top_p=chosen["top_p"],
            max_new_tokens=chosen["max_tokens"],
            seed=chosen["seed"],
            stop=tuple(stop or self.stop or ()),
        )

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
        model_with_tools(self.policy or self.graph).bind_tools(tools, tool_choice=tool_choice, **kwargs)  # refuses what the inner model refuses
        written = [tool if isinstance(tool, dict) and "type" in tool else convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=written, tool_choice=tool_choice, tool_options=kwargs, **traced)

    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """This model as an agent's tool with one argument, `problem`; see `selfcorrect.agents.tool.as_tool`.

        With `args_schema` or `arg_types` it is LangChain's own `as_tool`.
        """
        if args_schema is not None or arg_types is not None:
            return super().as_tool(args_schema, name=name, description=description, arg_types=arg_types)
        from selfcorrect.agents.tool import DESCRIPTION, as_tool

        return as_tool(self, name=name or "solve_problem", description=description or DESCRIPTION)
