"""The nodes of a correction loop: plain async callables, usable in any LangGraph graph over an `EpisodeState`.

Each takes the state and LangGraph's `Runtime`, whose context says how to sample, and returns an update of the state.
None looks at a verdict except `ReviseWithFeedback`; `ReviseByExamples` finds something out by itself.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from langgraph.runtime import Runtime
from langgraph.types import Overwrite

from selfcorrect.agents.policy import Policy, Sampling, derive_seed, sampling_from
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import EpisodeState, Generation, Message, Role, Turn, now, verdict_record
from selfcorrect.errors import GraphError
from selfcorrect.rewards.checker import Checker, Status, Verdict, judged


@dataclass(frozen=True)
class EpisodeContext:
    """What one run of a graph is given beside its input: the same compiled graph trains at T=1 and is evaluated
    greedily."""

    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if isinstance(self.sampling, Mapping):  # a server's context is JSON
            object.__setattr__(self, "sampling", sampling_from(self.sampling))


class Node(Protocol):
    """A node of a correction loop."""

    def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> Awaitable[dict[str, Any]]:
        """The update of the state."""
        ...


@dataclass(frozen=True)
class Attempt:
    """Node: show the problem, write the first answer. An episode that comes with its first answer keeps it."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        started = now()
        if state.get("turns"):
            return {"turns": [], "started": started}
        shown = self.prompts.attempt.replace("{problem}", state["problem"]["prompt"])
        messages = [*self._opening(state), Message(role="user", content=shown)]
        generation = await self.policy.generate(messages, _sampling(state, runtime))
        return {"turns": [Turn(role="attempt", generation=generation, verdict=None)], "started": started}

    def _opening(self, state: EpisodeState) -> list[Message]:
        """What comes before the problem. A system message of the conversation takes the place of the prompts' own."""
        history = state.get("history", [])
        if not self.prompts.system or any(message["role"] == "system" for message in history):
            return history
        return [Message(role="system", content=self.prompts.system), *history]


@dataclass(frozen=True)
class Critique:
    """Node: ask the policy to judge its own last answer."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        return await _next_turn(self.policy, self.prompts.critique, "critique", state, runtime)


@dataclass(frozen=True)
class Revise:
    """Node: ask for another answer, by an instruction that knows nothing of any verdict."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        return await _next_turn(self.policy, self.prompts.revise, "revise", state, runtime)


@dataclass(frozen=True)
class ReviseWithFeedback:
    """Node: ask for another answer and pass on what the checker found. No longer intrinsic self-correction."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        verdict = state["turns"][-1]["verdict"]
        if verdict is None:
            raise GraphError("ReviseWithFeedback follows an answer that nobody judged; put a Judge node before it")
        reason = verdict["reason"] or f"the answer is {verdict['status']}"
        message = self.prompts.feedback.replace("{reason}", reason)
        return await _next_turn(self.policy, message, "revise", state, runtime)


@dataclass(frozen=True)
class ReviseByExamples:
    """Node: run the last answer's program on the examples that the problem shows, and ask for another one with what
    came of it. Nothing is known here that the policy was not shown; of the tests nothing is. Where no example can be
    run, it asks as `Revise` does."""

    policy: Policy
    prompts: Prompts

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        found = await tried_on_examples(state)
        told = found is not None and found.status is not Status.UNJUDGED
        message = self.prompts.feedback.replace("{reason}", found.reason) if found and told else self.prompts.revise
        return await _next_turn(self.policy, message, "revise", state, runtime)


async def tried_on_examples(state: EpisodeState) -> Verdict | None:
    """What came of the last answer on the examples that its problem shows; None if it shows none."""
    from selfcorrect.rewards.code.example_runner import shared_runner

    return await shared_runner().run(state["problem"]["prompt"], state["turns"][-1]["generation"]["text"])


@dataclass(frozen=True)
class Judge:
    """Node: put the checker's verdict on the last turn."""

    checker: Checker

    async def __call__(self, state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        *earlier, last = state["turns"]
        text, problem = last["generation"]["text"], state["problem"]
        verdict = await judged(self.checker, text, problem["reference"], problem.get("prompt"))
        return {"turns": Overwrite([*earlier, {**last, "verdict": verdict_record(verdict)}])}


async def _next_turn(
    policy: Policy, instruction: str, role: Role, state: EpisodeState, runtime: Runtime[EpisodeContext]
) -> dict[str, Any]:
    before: Generation = state["turns"][-1]["generation"]
    message = Message(role="user", content=instruction)
    generation = await policy.generate([message], _sampling(state, runtime), after=before)
    return {"turns": [Turn(role=role, generation=generation, verdict=None)]}


def _sampling(state: EpisodeState, runtime: Runtime[EpisodeContext]) -> Sampling:
    """The run's sampling with this turn's own seed; without an episode seed, the run's (or no) seed stands for it."""
    sampling = runtime.context.sampling if runtime.context is not None else Sampling()
    seed = state.get("seed", sampling.seed)
    return sampling if seed is None else sampling.with_seed(derive_seed(seed, len(state.get("turns", []))))
