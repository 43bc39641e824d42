"""What flows through a search graph, and who takes part in it.

The state is plain data only, so that any LangGraph checkpointer can store it.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NotRequired, TypedDict

from langgraph.runtime import Runtime

from selfcorrect.agents.policy import Policy, RenewingPolicy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import Generation, Message, tokens_of
from selfcorrect.errors import ConfigurationError, GraphError, SandboxError
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.rewards.checkers import (
    AnswerFinder,
    ExecutingChecker,
    KeyedChecker,
    StrictlyKeyedChecker,
    WholeAnswerFinder,
    known_checker,
)
from selfcorrect.tasks.problem import Problem

log = logging.getLogger(__name__)


class Candidate(TypedDict):
    """One whole answer.

    Keys:
        text: as it was written.
        key: what a vote counts it as; None if no answer can be read in it, or it was cut off.
        score: the verifier's, in [0, 1]; None if there is none, or it abstained.
        tokens: generated for it (for a revision: for this turn alone), the policy's own verdict on it included.
        chain, revision: it is the `revision`-th answer (from 0) of parallel chain number `chain`.
        generation: what the policy returned, for whoever goes on from it.
        called_right: the policy's own verdict, where a search asks for it (`SelfJudged`); None where it said neither.
    """

    text: str
    key: str | None
    score: float | None
    tokens: int
    chain: int
    revision: int
    generation: NotRequired[Generation]
    called_right: NotRequired[bool | None]


class SearchState(TypedDict, total=False):
    """The state of every search graph.

    Keys:
        problem: a `Problem` as plain data.
        seed: of the whole search.
        budget: generated tokens that may be used, in all; None is no limit.
        candidates: the answers so far, in the order in which they were begun.
        pieces: what a search over steps has just written, not yet pruned.
        beams: the unfinished answers that it goes on with.
        scored: how many of `candidates`, from the first, the verifier has seen.
        tokens: generated so far, unfinished and thrown-away pieces included.
        rounds: of sampling or of steps, so far.
        chosen: number of the winning candidate; None if none can be read.
        stop_reason: why the search ended: "complete" (all that the strategy draws), "settled" (more could not change
            the vote), "sure" (the verifier is, or enough answers agree that the policy itself calls right), "exhausted"
            (the policy has no answer left that it did not give), "budget"; None where a stored one goes on.
        planned: how many candidates the strategy would have drawn at most.
        notes: what went otherwise than planned, for people.
        difficulty: what `ComputeOptimal` estimated; 0 is easy, 1 hard.
        strategy: name of the strategy that it chose.
        asked: of a stored search, the strategy and the sampling that it was begun with.
    """

    problem: dict[str, Any]
    seed: int
    budget: int | None
    candidates: list[Candidate]
    scored: int
    pieces: list["Partial"]
    beams: list["Partial"]
    tokens: int
    rounds: int
    chosen: int | None
    stop_reason: str | None
    planned: int
    notes: list[str]
    difficulty: float
    strategy: str
    asked: dict[str, Any]


class Partial(TypedDict):
    """An answer as far as it is written, in a search over steps.

    Keys:
        generation: all of it so far.
        tokens: generated for its last step.
        shown: the text that the verifier scores: its own, or that of the lookahead from here.
        score: of that.
    """

    generation: Generation
    tokens: int
    shown: str
    score: float | None


@dataclass(frozen=True)
class SearchContext:
    """What one run of a search graph is given beside its input."""

    sampling: Sampling = field(default_factory=Sampling)


def context_of(runtime: Runtime[SearchContext]) -> SearchContext:
    """The run's context; the default one where the graph is run without."""
    return runtime.context if runtime.context is not None else SearchContext()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What came of a search.

    Attributes:
        problem_id: of the problem.
        answer: the text that was chosen; "" if no candidate can be read.
        candidates: all answers, with keys and scores (their generations left out).
        chosen: number of the winning one; None if none can be read.
        votes: (key, votes or summed scores) of the readable answers, the most first.
        tokens: generated in all.
        saved_tokens: about how many the strategy would have generated besides, had it not stopped early: the candidates
            that were not drawn, at the mean length of those that were.
        stop_reason: see `SearchState`.
        notes: what went otherwise than planned: a verifier that abstained throughout, for example.
        strategy: name of what was played; that which it chose, for `ComputeOptimal`.
        difficulty: as `ComputeOptimal` estimated it, else None.
    """

    problem_id: str
    answer: str
    candidates: tuple[Candidate, ...]
    chosen: int | None
    votes: tuple[tuple[str, float], ...]
    tokens: int
    saved_tokens: int
    stop_reason: str
    notes: tuple[str, ...]
    strategy: str
    difficulty: float | None = None


def readable_score(score: float | None) -> float | None:
    """`score`, or None (an abstention) if it is not a number."""
    return None if score is None or math.isnan(score) else float(score)


def without_generation(candidate: Candidate) -> Candidate:
    """`candidate` as it is shown: without token ids."""
    shown = candidate.copy()
    shown.pop("generation", None)
    return shown


# What a vote counts as the same answer, and what a verifier is shown: the problem's checker knows.

AnswerKey = Callable[[str], str | None]
"""From a response to what it is counted as; None where no answer can be read, which takes it out of the vote."""


def answer_key(problem: Problem) -> AnswerKey:
    """The key function for answers to `problem`: its checker's `answer_key`, or else the text as it is."""
    checker = known_checker(problem.checker)
    if isinstance(checker, KeyedChecker):
        return lambda response: checker.answer_key(response, problem.prompt)
    return lambda response: response.strip() or None


async def counted_as(problem: Problem, response: str) -> str | None:
    """What a vote on `problem` counts `response` as: what it does, where the checker runs answers to find out; else by
    `answer_key`. So it is, too, where nothing can be run on this machine; the log says so."""
    checker = known_checker(problem.checker)
    if isinstance(checker, ExecutingChecker):
        try:
            return await checker.executed_key(response, problem.prompt)
        except SandboxError as error:
            _tell_texts_are_counted(str(error))
    return answer_key(problem)(response)


@cache
def _tell_texts_are_counted(why: str) -> None:
    log.warning("votes count programs by their texts, as none can be run here: %s", why)


async def strictly_counted_as(problem: Problem, response: str) -> str | None:
    """As `counted_as`, by the checker's stricter key where it has one."""
    checker = known_checker(problem.checker)
    if isinstance(checker, StrictlyKeyedChecker):
        return checker.strict_answer_key(response, problem.prompt)
    return await counted_as(problem, response)


def shown_to_verifier(problem: Problem, response: str) -> str:
    """The answer in `response` without what a revision says about the answer before it, where the checker of `problem`
    can tell; else all of it."""
    checker = known_checker(problem.checker)
    return checker.final_answer(response, problem.prompt) if isinstance(checker, AnswerFinder) else response


# Who takes part in a search: the policy, its prompts, and who scores.


@dataclass(frozen=True)
class SearchModels:
    """What every strategy is given to build its graph from.

    Args:
        policy: writes the answers.
        verifier: scores them; needed by some strategies.
        step_verifier: scores unfinished answers in a search over steps; None leaves that to `verifier`.
        prompts: the words around the problem.
        key: what a vote counts as equal; None is what `counted_as` says of each problem.
    """

    policy: Policy
    verifier: Verifier | None = None
    prompts: Prompts = PLAIN
    key: AnswerKey | None = None
    step_verifier: StepVerifier | None = None

    def need_verifier(self, who: str) -> Verifier:
        """The verifier, for the strategy called `who`.

        Raises:
            ConfigurationError: there is none.
        """
        if self.verifier is None:
            raise ConfigurationError(f"{who} chooses by a verifier's scores: give verifier=... (--verifier DIR)")
        return self.verifier

    def need_renewing_policy(self, who: str) -> RenewingPolicy:
        """The policy as one that draws without replacement, for the strategy called `who`.

        Raises:
            ConfigurationError: it cannot.
        """
        if not isinstance(self.policy, RenewingPolicy):
            raise ConfigurationError(f"{who} draws without replacement, which a {type(self.policy).__name__} cannot do")
        return self.policy

    def opening(self, problem: Problem) -> list[Message]:
        """The messages that ask for a first answer."""
        shown = Message(role="user", content=self.prompts.attempt.replace("{problem}", problem.prompt))
        return [Message(role="system", content=self.prompts.system), shown] if self.prompts.system else [shown]

    async def candidate(
        self, problem: Problem, generation: Generation, *, chain: int, revision: int = 0, tokens: int | None = None
    ) -> Candidate:
        """`generation` as a candidate. One that was cut off takes no part in the choice, whatever can be read in it,
        unless the problem's checker finds that the answer stands there whole."""
        text = generation["text"]
        readable = generation["finish_reason"] != "length" or _is_whole(problem, text)
        return Candidate(
            text=text,
            key=await self._key(problem, text) if readable else None,
            score=None,
            tokens=tokens_of(generation) if tokens is None else tokens,
            chain=chain,
            revision=revision,
            generation=generation,
        )

    async def _key(self, problem: Problem, text: str) -> str | None:
        return await counted_as(problem, text) if self.key is None else self.key(text)


def _is_whole(problem: Problem, response: str) -> bool:
    checker = known_checker(problem.checker)
    return isinstance(checker, WholeAnswerFinder) and checker.is_whole(response, problem.prompt)


async def scores_of(verifier: Verifier, problem: Problem, texts: Sequence[str]) -> list[float | None]:
    """The verifier's scores; equal texts are shown once, what is not a number becomes an abstention.

    Raises:
        GraphError: as many scores as texts were expected, each in [0, 1].
    """
    different = list(dict.fromkeys(texts))
    if not different:
        return []
    given = await verifier.scores(problem.prompt, different)
    if len(given) != len(different):
        raise GraphError(
            f"the verifier gave {len(given)} scores for {len(different)} answers to problem {problem.id!r}"
        )
    scores = {text: readable_score(score) for text, score in zip(different, given, strict=True)}
    wrong = next((score for score in scores.values() if score is not None and not 0 <= score <= 1), None)
    if wrong is not None:
        raise GraphError(f"the verifier scored an answer to problem {problem.id!r} with {wrong}; scores are in [0, 1]")
    return [scores[text] for text in texts]
