"""A policy or a correction graph as a LangChain chat model: one call is one episode, its last answer the reply."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic_core import core_schema

from selfcorrect.agents.critiques import CritiqueMode, critique_mode
from selfcorrect.agents.episodes import Graph
from selfcorrect.agents.listening import IsAnswer, refuse_draft
from selfcorrect.agents.nodes import Revise, ReviseWithFeedback
from selfcorrect.agents.plugins.agent_tool import DESCRIPTION, as_tool
from selfcorrect.agents.plugins.background import BackgroundChatModel
from selfcorrect.agents.plugins.call_options import choices, of_choice, sampling_of_call, written_tools
from selfcorrect.agents.plugins.chat_model_policy import (
    ChatModelPolicy,
    from_langchain,
    generation_of,
    question_and_history,
)
from selfcorrect.agents.plugins.conversation import (
    UNTRACED,
    ask_with_tools,
    loop_of_calls,
    model_with_tools,
    played,
    played_in_steps,
    told_as_drawn,
)
from selfcorrect.agents.plugins.one_call import Wanted, ask, formatted
from selfcorrect.agents.plugins.replies import (
    closing_chunk,
    reply,
    reply_of_call,
    turn_chunk,
    with_logprobs,
)
from selfcorrect.agents.plugins.structured import parsed_from
from selfcorrect.agents.plugins.tools import tool_format
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.recording import is_recording
from selfcorrect.agents.state import Generation, answers
from selfcorrect.errors import ConfigurationError

_Mode = Annotated[CritiqueMode, GetPydanticSchema(lambda mode, _: core_schema.is_instance_schema(mode))]
"""A mode as it is. `InstanceOf` looks into it (up to pydantic 2.12), at names only type checkers import."""
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
        answer_node: the node of the graph whose one call of a policy is the answer, and no draft: it is streamed token
            by token. None streams answers of a graph whole; see `streams_whole`.
        revisions, critique, checker, prompts, stop_rule: as in `build_graph`; only with a policy.
        temperature: 0 is greedy.
        top_p, max_tokens, seed, stop: as in `Sampling`.
        timeout: seconds after which a call raises TimeoutError.
        constrained: draw answers by the JSON schema of the call's `response_format`, and calls of tools that a
            `tool_choice` forces by those of the tools, rather than only parse and validate them. Their
            log-probabilities are then those of the constrained distribution.
        model: name that replies and traces carry.

    Raises:
        ConfigurationError: the arguments contradict each other.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    policy: Any = None
    graph: Any = None
    inputs: Inputs | None = None
    answer: Answer | None = None
    answer_node: str | None = None
    revisions: int = 1
    critique: str | _Mode = "instruction"
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
    constrained: bool = False

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
        if self.answer_node is not None:
            if self.graph is None:
                raise ConfigurationError("answer_node=... belongs to graph=...; with policy=... it is known")
            refuse_draft(self.graph, self.answer_node)
        if self.constrained and not getattr(self.policy, "draws_by_schema", False):
            raise ConfigurationError(
                "constrained=True needs a policy that draws by a schema: a TransformersPolicy or VLLMPolicy"
            )
        if self.constrained and self.revisions and critique_mode(self.critique).turns > 1:
            raise ConfigurationError("constrained=True would make critiques JSON too; use critique='instruction'")
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

    @property
    def graph_played(self) -> Graph:
        """The graph that a call plays, whose nodes are those that are drawn."""
        return self._loop

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

    async def _agenerate_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        """An LLM cache is passed by where calls are recorded: what it gave again would be drawn, and learnt, once."""
        if self.cache is not False and is_recording():
            return await self.model_copy(update={"cache": False})._agenerate_with_cache(*args, **kwargs)
        return await super()._agenerate_with_cache(*args, **kwargs)

    def _generate_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        """The same for synchronous calls."""
        if self.cache is not False and is_recording():
            return self.model_copy(update={"cache": False})._generate_with_cache(*args, **kwargs)
        return super()._generate_with_cache(*args, **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        calls = [
            self._reply(messages, stop, of_choice(dict(self), kwargs, number)) for number in range(choices(kwargs))
        ]
        async with asyncio.timeout(self.timeout):
            replies = await asyncio.gather(*calls)
        return ChatResult(generations=[ChatGeneration(message=message) for message in replies])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if choices(kwargs) > 1:
            raise ConfigurationError("n above 1 cannot be streamed; use generate or batch")
        stops, chunks = stop or self.stop or (), self._chunks(messages, stop, kwargs)
        told = told_as_drawn(chunks, stops, self._is_answer(kwargs))
        async with asyncio.timeout(self.timeout), aclosing(told):
            async for chunk in told:
                yield chunk

    @property
    def streams_whole(self) -> str | None:
        """Why answers are streamed in one piece; None if by their tokens.

        Calls with tools or a `response_format` are always told whole, and so is an answer of a loop that its own rule
        ends before the last revision: that it was the answer is known only when it is over.
        """
        if self.graph is not None:
            hint = "answer_node=..., the node whose one call of the policy is the answer, lets it stream by tokens"
            return None if self.answer_node else f"which call of the graph draws the answer is not known: {hint}"
        if not getattr(self.policy, "tells_tokens", False):
            return f"a {type(self.policy).__name__} does not tell its tokens"
        return None if self._is_one_call or self._last_answer else "the critique's last step is a node of its own kind"

    @property
    def _last_answer(self) -> tuple[str, int] | None:
        """The node that draws the loop's last possible answer, and its how-manieth call that is."""
        if not self.revisions:
            return "attempt", 1
        name, node = critique_mode(self.critique).steps(self.policy, self.prompts)[-1]
        return (name, self.revisions) if isinstance(node, Revise | ReviseWithFeedback) else None

    def _is_answer(self, kwargs: Mapping[str, Any]) -> IsAnswer:
        """Which call of an episode is known, as it begins, to be the answer."""
        if kwargs.get("tools") or kwargs.get("response_format"):
            return lambda number, place: False  # a call of a tool or JSON is told whole
        if self.graph is not None:
            return lambda number, place: (number, place.node) == (1, self.answer_node)
        if self._is_one_call:
            return lambda number, place: number == 1
        last = self._last_answer
        return lambda number, place: (place.node, number) == last

    async def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self.inputs is not None or kwargs.get("logprobs") or self._begins_with_one_call(messages, kwargs):
            yield closing_chunk(await self._reply(messages, stop, kwargs), with_turns=True)
            return
        sampling = sampling_of_call(dict(self), stop, kwargs)
        async with aclosing(played_in_steps(self._loop, messages, sampling)) as steps:
            async for step in steps:
                if step.turn is not None:
                    yield turn_chunk(step.turn)
                else:
                    yield closing_chunk(reply(step.state, self.model), with_turns=False)

    async def _reply(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        sampling = sampling_of_call(dict(self), stop, kwargs)
        if self.inputs is not None and self.answer is not None:
            state = await self._loop.ainvoke(self.inputs(messages), UNTRACED)
            return reply(state, self.model, answer=self.answer(state))
        attempt = None
        wanted = Wanted.of_call(kwargs, constrained=self.constrained)
        if wanted.tools and isinstance(self.policy, ChatModelPolicy):
            said = await ask_with_tools(self.policy, messages, sampling, kwargs)
            if said.tool_calls:
                return said
            attempt = generation_of(said, from_langchain(messages))
        elif self._begins_with_one_call(messages, kwargs):
            message, attempt = await ask(self.policy, self.prompts, messages, sampling, wanted)
            if self._is_one_call or message.tool_calls or message.invalid_tool_calls:
                return self._with_logprobs(reply_of_call(message, attempt, self.model), attempt, kwargs)
        schema = wanted.format.constraint if wanted.constrained and wanted.format is not None else None
        state = await played(self._loop, messages, replace(sampling, json_schema=schema), attempt)
        message = formatted(reply(state, self.model), wanted)
        return self._with_logprobs(message, answers(state)[-1]["generation"], kwargs)

    def _with_logprobs(self, message: AIMessage, drawn: Generation, kwargs: Mapping[str, Any]) -> AIMessage:
        return (
            with_logprobs(message, drawn, getattr(self.policy, "tokenizer", None))
            if kwargs.get("logprobs")
            else message
        )

    def _begins_with_one_call(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> bool:
        """Whether the first answer is asked for outside the loop, which knows no more than a question."""
        more = bool(kwargs.get("tools")) or kwargs.get("response_format") is not None
        if self.policy is None and more:
            raise ConfigurationError(
                "tools and response_format need ChatSelfCorrect(policy=...): a graph has calls of its own"
            )
        return self.policy is not None and (self._is_one_call or more or not question_and_history(messages)[0])

    @property
    def _is_one_call(self) -> bool:
        return self.policy is not None and self.revisions == 0 and self.checker is None

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the policy call tools. Its calls are returned as they are; its answers are revised.

        A `ChatModelPolicy` passes the tools to its chat model. Any other policy is shown them by its tokenizer's chat
        template where that knows tools, else in plain JSON.

        Args:
            tools: as LangChain takes them.
            tool_choice: "auto" (the default), "none", "any", or a tool's name. The last two are kept with
                `constrained=True`; without it, a reply without a call says so in its `invalid_tool_calls`.
            kwargs: options of calls (`response_format`, `strict`), or of the inner chat model.

        Raises:
            NotImplementedError: a graph, or a chat model that cannot call tools.
        """
        traced = {name: kwargs.pop(name) for name in list(kwargs) if name.startswith("ls_")}
        if self.policy is None or isinstance(self.policy, ChatModelPolicy):
            model_with_tools(self.policy or self.graph).bind_tools(
                tools, tool_choice=tool_choice, **kwargs
            )  # refuses what the inner model refuses
            return self.bind(tools=written_tools(tools), tool_choice=tool_choice, tool_options=kwargs, **traced)
        kwargs.pop("strict", None)  # an answer is validated in any case
        kwargs.pop("parallel_tool_calls", None)
        return self.bind(
            tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=tool_choice, **kwargs, **traced
        )

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answers as objects of `schema`, parsed and validated; see `constrained` for drawing by it.

        Args:
            schema: a pydantic class, a TypedDict, or a JSON schema.
            include_raw: give a dict with "raw", "parsed" and "parsing_error" rather than raise.
            kwargs: `method` is "json_schema" (default), "json_mode" or "function_calling"; around a `ChatModelPolicy`
                whatever LangChain's own method takes.

        Raises:
            FormatError: when called, unless `include_raw`: the answer does not follow the schema.
        """
        if self.policy is None or isinstance(self.policy, ChatModelPolicy):
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        method = kwargs.pop("method", "json_schema")
        kwargs.pop("strict", None)
        if method not in ("json_schema", "json_mode", "function_calling") or kwargs:
            raise ConfigurationError(f"with_structured_output does not know {method if not kwargs else sorted(kwargs)}")
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw)
        wanted = {"type": "json_schema", "json_schema": {"schema": convert_to_json_schema(schema)}}
        asking = self.bind(
            response_format=wanted, ls_structured_output_format={"kwargs": {"method": method}, "schema": schema}
        )
        return parsed_from(asking, schema, include_raw=include_raw)

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Any = None) -> int:
        """How many tokens the policy is shown of `messages`, for `trim_messages(token_counter=model)`.

        A policy without a tokenizer is counted as LangChain estimates, by characters.
        """
        if isinstance(self.policy, ChatModelPolicy) and isinstance(self.policy.model, BaseChatModel):
            return self.policy.model.get_num_tokens_from_messages(list(messages), tools)
        if not hasattr(self.policy, "count_tokens"):
            return count_tokens_approximately(messages, tools=tools)
        written = [convert_to_openai_tool(tool) for tool in tools or ()]
        form = tool_format(self.policy)
        return int(self.policy.count_tokens(form.shown(list(messages), written))) if messages else 0

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text, by the policy's tokenizer.

        Raises:
            NotImplementedError: it has none.
        """
        tokenizer = getattr(self.policy, "tokenizer", None)
        if tokenizer is None:
            raise NotImplementedError("this model's policy has no tokenizer, so that nobody knows the ids of a text")
        return list(tokenizer.encode(text, add_special_tokens=False))

    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """This model as an agent's tool with one argument, `problem`; see `selfcorrect.agents.as_tool`.

        With `args_schema` or `arg_types` it is LangChain's own `as_tool`.
        """
        if args_schema is not None or arg_types is not None:
            return super().as_tool(args_schema, name=name, description=description, arg_types=arg_types)
        return as_tool(self, name=name or "solve_problem", description=description or DESCRIPTION)
