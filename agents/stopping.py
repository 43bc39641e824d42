"""When an episode ends before its revisions are used up. Rules are small separate types; `until` puts one around a
node."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Protocol

from langgraph.runtime import Runtime
from langgraph.types import Overwrite

from selfcorrect.agents.nodes import EpisodeContext, Node, tried_on_examples
from selfcorrect.agents.policy import derive_seed
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import EpisodeState, Turn, now, problem_of, tokens_of
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.rewards.checker import Status
from selfcorrect.tasks.problem import Problem

_LENGTH = 1_000_003
"""The child of an episode's seed that draws its length; the small numbers are those of its turns."""
Scorer = Callable[[Problem, str], float | Awaitable[float]]
"""A verifier: (problem, answer text) -> score, larger is better."""


class Stop(Protocol):
    """A stop rule. It is asked after every turn (after judging, where the graph judges)."""

    async def reason(self, state: EpisodeState) -> str | None:
        """Why the episode should end now, or None to go on."""
        ...


@dataclass(frozen=True)
class FixedRevisions:
    """Always use all revisions: what training and comparisons between turns need."""

    async def reason(self, state: EpisodeState) -> str | None:
        return None


@dataclass(frozen=True)
class OwnVerdict:
    """End ("accepted") unless the policy's own critique calls the answer wrong, as PAG does; for critique "self".

    A critique in which no verdict can be read lets the answer stand.

    Args:
        prompts: tell how the critique says "wrong"; None stands for the prompts of the graph.

    Raises:
        GraphError: it is asked without prompts, in a graph that `build_graph` did not make.
    """

    prompts: Prompts | None = None

    async def reason(self, state: EpisodeState) -> str | None:
        last = state["turns"][-1]
        if last["role"] != "critique":
            return None
        if self.prompts is None:
            raise GraphError("OwnVerdict needs prompts=... outside build_graph, to know how a critique says 'wrong'")
        return None if self.prompts.calls_wrong(last["generation"]["text"]) else "accepted"


@dataclass(frozen=True)
class CheckerVerdict:
    """End ("verified") when the checker calls the answer correct; for critique "feedback" only."""

    async def reason(self, state: EpisodeState) -> str | None:
        verdict = state["turns"][-1]["verdict"]
        return "verified" if verdict is not None and verdict["status"] == Status.CORRECT else None


@dataclass(frozen=True)
class ExamplesHold:
    """End ("verified") when the program does what the examples of its problem say, or ("no examples") if there are none
    to learn from; for critique "examples". Examples that could not be run end nothing."""

    async def reason(self, state: EpisodeState) -> str | None:
        found = await tried_on_examples(state)
        if found is None:
            return "no examples"
        return "verified" if found.correct else None


@dataclass(frozen=True)
class VerifierScore:
    """End ("verified") when a learned verifier scores the last answer at `threshold` or more.

    Args:
        threshold: on the scorer's own scale.
        scorer: a function or coroutine function of (problem, answer text).
    """

    threshold: float
    scorer: Scorer

    async def reason(self, state: EpisodeState) -> str | None:
        last = state["turns"][-1]
        if last["role"] == "critique":
            return None
        score = self.scorer(problem_of(state), last["generation"]["text"])
        return "verified" if (await score if isawaitable(score) else score) >= self.threshold else None


@dataclass(frozen=True)
class Budget:
    """End ("budget") when an episode has used `tokens` sampled tokens, `seconds` since it began, or `turns`, whichever
    is first.

    The turn in which the budget runs out is finished, so an episode may use up to one turn more of tokens and seconds.
    A policy that reports neither token ids nor usage is metered in words. Seconds are those of the clock: they go on
    while a stopped episode waits to be taken up again. Every generation is a turn, critiques too.

    Raises:
        ConfigurationError: no limit is given, or a negative one.
    """

    tokens: int | None = None
    seconds: float | None = None
    turns: int | None = None

    def __post_init__(self) -> None:
        limits = {"tokens": self.tokens, "seconds": self.seconds, "turns": self.turns}
        if all(limit is None for limit in limits.values()):
            raise ConfigurationError("Budget needs tokens=..., seconds=..., turns=... or several of them")
        for name, limit in limits.items():
            if limit is not None and not limit >= 0:
                raise ConfigurationError(f"Budget: {name} must be 0 or more, got {limit}")

    async def reason(self, state: EpisodeState) -> str | None:
        if self.turns is not None and len(state["turns"]) >= self.turns:
            return "budget"
        if self.tokens is not None and sum(tokens_of(turn["generation"]) for turn in state["turns"]) >= self.tokens:
            return "budget"
        if self.seconds is not None and now() - state["started"] >= self.seconds:
            return "budget"
        return None


@dataclass(frozen=True)
class UpTo:
    """End ("revisions") after `revisions` revisions, or earlier by `rule`.

    Args:
        revisions: the most.
        rule: what else may end the episode.
        fewest: each episode draws how many from this to `revisions`, each as likely, by its seed; None always plays
            `revisions`, as an episode without a seed does.
    """

    revisions: int
    rule: Stop
    fewest: int | None = None

    async def reason(self, state: EpisodeState) -> str | None:
        turns = state["turns"]
        revised = sum(turn["role"] == "revise" for turn in turns)
        if turns[-1]["role"] != "critique" and revised >= self.revisions_of(state):
            return "revisions"
        return await self.rule.reason(state)

    def revisions_of(self, state: EpisodeState) -> int:
        """How many revisions the episode may have."""
        if self.fewest is None or "seed" not in state:
            return self.revisions
        return self.fewest + derive_seed(state["seed"], _LENGTH) % (self.revisions - self.fewest + 1)


def until(node: Node, rule: Stop) -> Node:
    """`node`, which also writes `stop_reason` when `rule` says that the episode should end after it."""

    async def node_then_rule(state: EpisodeState, runtime: Runtime[EpisodeContext]) -> dict[str, Any]:
        update = await node(state, runtime)
        after: EpisodeState = {**state, **update, "turns": _turns_after(state, update["turns"])}  # type: ignore[typeddict-item]
        reason = await rule.reason(after)
        return update if reason is None else {**update, "stop_reason": reason}

    return node_then_rule


def _turns_after(state: EpisodeState, update: list[Turn] | Overwrite) -> list[Turn]:
    return update.value if isinstance(update, Overwrite) else [*state.get("turns", []), *update]
