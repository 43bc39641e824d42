"""Middleware of LangChain's `create_agent`: the agent checks its final answer and revises it before anyone sees it."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from selfcorrect.agents.critiques import CritiqueMode
from selfcorrect.agents.episodes import initial_state
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.nodes import EpisodeContext
from selfcorrect.agents.plugins.background import run_in_background
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy, from_langchain, generation_of
from selfcorrect.agents.plugins.conversation import unstreamed
from selfcorrect.agents.plugins.replies import reply
from selfcorrect.agents.policies.scripted import ScriptedPolicy, WindowedPolicy
from selfcorrect.agents.policy import GREEDY, Policy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import EpisodeState, Message
from selfcorrect.agents.stopping import Stop
from selfcorrect.errors import GraphError
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
except ImportError as error:
    from selfcorrect.distribution import install_command

    raise ImportError(f"SelfCorrectMiddleware needs LangChain: {install_command('langchain')}") from error


ProblemOf = Callable[[Sequence[Message]], Problem]


def problem_of_conversation(conversation: Sequence[Message]) -> Problem:
    """The last message of the user (or result of a tool) as a problem that nobody can judge."""
    asked = [message["content"] for message in conversation if message["role"] == "user"]
    return Problem(id="agent", prompt=asked[-1] if asked else "?", reference=None, checker="none")


class SelfCorrectMiddleware(AgentMiddleware):
    """Takes every final answer of an agent through a correction loop; calls of tools pass untouched.

    Only the corrected answer enters the agent's messages, and streams of them; `response_metadata["turns"]` of it holds
    all turns. Revisions are written without tools. Both `invoke` and `ainvoke` of the agent work.

    Args:
        policy: writes critiques and revisions; None is the agent's own model.
        revisions, critique, checker, prompts, stop: as in `build_graph`. Agents' questions differ in kind, so "self" is
            the default: the answer stands unless the model's own critique calls it wrong.
        problem_of: the problem in the conversation, with the reference that `checker` compares with.
        sampling: how critiques and revisions are drawn.

    Raises:
        GraphError: the settings contradict each other.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        revisions: int = 1,
        critique: str | CritiqueMode = "self",
        checker: Checker | None = None,
        prompts: Prompts = PLAIN,
        stop: Stop | None = None,
        problem_of: ProblemOf = problem_of_conversation,
        sampling: Sampling = GREEDY,
    ) -> None:
        super().__init__()
        if checker is not None and problem_of is problem_of_conversation:
            raise GraphError(
                "a checker compares with a reference: give problem_of=..., a function from the messages to a Problem"
            )
        self._problem_of = problem_of
        self._sampling = sampling
        self._settings: dict[str, Any] = {
            "revisions": revisions, "critique": critique, "checker": checker, "prompts": prompts, "stop": stop,
        }  # fmt: skip
        graph = self._graph_of(policy or ScriptedPolicy([]))  # contradictions are told now
        self._graph = None if policy is None else graph

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """LangChain's hook around a model call."""
        with unstreamed():
            response = handler(request)
            answer = _final_answer(response)
            return response if answer is None else run_in_background(self._corrected(request, response, answer))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same for asynchronous agents."""
        with unstreamed():
            response = await handler(request)
            answer = _final_answer(response)
            return response if answer is None else await self._corrected(request, response, answer)

    async def _corrected(
        self, request: ModelRequest[Any], response: ModelResponse[Any], answer: AIMessage
    ) -> ModelResponse[Any]:
        conversation = from_langchain(_shown(request))
        start = initial_state(
            self._problem_of(conversation), secrets.randbits(63), attempt=generation_of(answer, conversation)
        )
        graph = self._graph or self._graph_of(ChatModelPolicy(request.model, call_options=_no_options))
        state: EpisodeState = await graph.ainvoke(start, context=EpisodeContext(self._sampling))
        corrected = reply(state, answer.response_metadata.get("model_name", "agent"))
        corrected.id, corrected.name = answer.id, answer.name
        corrected.response_metadata = {**answer.response_metadata, **corrected.response_metadata}
        return ModelResponse(
            result=[*response.result[:-1], corrected], structured_response=response.structured_response
        )

    def _graph_of(self, policy: Policy) -> Any:
        # checkpoints belong to the agent: a final answer is corrected in one piece
        return build_graph(WindowedPolicy(policy), **self._settings).copy(update={"checkpointer": False})


def _final_answer(response: ModelResponse[Any]) -> AIMessage | None:
    """The answer, if the model call ended with one in words."""
    last = response.result[-1] if response.result else None
    if not isinstance(last, AIMessage) or last.tool_calls or response.structured_response is not None:
        return None
    return last if str(last.text).strip() else None


def _shown(request: ModelRequest[Any]) -> list[BaseMessage]:
    return [*([request.system_message] if request.system_message else []), *request.messages]


def _no_options(sampling: Sampling) -> dict[str, Any]:
    """The agent's model is called as it was made."""
    return {}
