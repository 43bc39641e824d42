"""Play held-out problems, judge every answer, report what correction changed."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

from selfcorrect.agents.episodes import Graph, play, run_blocking
from selfcorrect.agents.policy import GREEDY, Sampling, derive_seed
from selfcorrect.agents.state import EpisodeState, Turn, answer_text, answers, usage_of, verdict_of, verdict_record
from selfcorrect.agents.unfinished import UnfinishedEvaluation
from selfcorrect.errors import UnreadablePromptError
from selfcorrect.rewards.checker import Checker, judged
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem

# What correction changes, in numbers: pure functions of the scores and texts of finished episodes.
#
# Scores are 1.0 (correct), less (not; a checker may give fractions) and None (unjudged: left out wherever it would be
# needed). An episode that ended early keeps its last answer in later turns. All shares are in [0, 1]; a share of
# nothing is nan.

Interval = tuple[float, float]
OWN_STOP = "accepted"
"""The stop reason of an episode that ended by the policy's own word."""

_Z95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one evaluation.

    Attributes:
        setting: the name of the graph; with "feedback" in it, the policy was told the checker's findings.
        n: episodes.
        accuracy: share of correct answers at each turn, unjudged ones left out.
        accuracy_ci95: Wilson interval of each.
        accuracy_t1: of the first answers.
        accuracy_t2: of the second ones (of the first, where there is only one).
        delta: accuracy of the last answers minus that of the first, over episodes of which both are judged.
        delta_ci95: paired 95 % interval of delta.
        mcnemar_p: exact two-sided McNemar test of as many fixed as broken answers.
        i_to_c: share of episodes whose first answer was incorrect and whose last is correct.
        c_to_i: share whose first answer was correct and whose last is not.
        unchanged: share of episodes with a second answer whose last answer, as the checker read it, is the first one.
        edit_distance: mean word edit distance between first and last answer, divided by the longer one's length.
        tokens_per_turn: mean sampled tokens of each turn, critiques included; of a remote model as it reports them.
        truncated: share of turns cut off by the token limit.
        unjudged: share of answers that the checker could not judge.
        answers: mean number of answers of an episode.
        tokens: mean sampled tokens of an episode, critiques included.
        stopped: share of episodes that the policy ended by its own word.
        stopped_right: share of those whose last answer is correct; the unjudged are left out.
        stopped_right_ci95: its Wilson interval.
        left_out: ids of problems that the policy cannot be shown, for they are too long for its context; the figures
            are of the others.
        delta_by_turn, i_to_c_by_turn, c_to_i_by_turn: delta and flips from each answer to the next, the first pair
            first; an episode that ended early keeps its last answer.
    """

    setting: str
    n: int
    accuracy: list[float]
    accuracy_ci95: list[Interval]
    accuracy_t1: float
    accuracy_t2: float
    delta: float
    delta_ci95: Interval
    mcnemar_p: float
    i_to_c: float
    c_to_i: float
    unchanged: float
    edit_distance: float
    tokens_per_turn: list[float]
    truncated: float
    unjudged: float
    answers: float
    tokens: float
    stopped: float
    stopped_right: float
    stopped_right_ci95: Interval
    left_out: list[str] = field(default_factory=list)
    delta_by_turn: list[float] = field(default_factory=list)
    i_to_c_by_turn: list[float] = field(default_factory=list)
    c_to_i_by_turn: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data: intervals are lists, nan is None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def accuracy_at(scores: Sequence[Sequence[Score]], turn: int) -> tuple[float, Interval]:
    """Share of correct answers at `turn` (from 0) and its Wilson interval."""
    judged = [score for score in (_at(episode, turn) for episode in scores) if score is not None]
    right = sum(score == 1.0 for score in judged)
    return share(right, len(judged)), wilson(right, len(judged))


def flips(scores: Sequence[Sequence[Score]]) -> tuple[int, int, int]:
    """(incorrect to correct, correct to incorrect, episodes of which first and last answer are judged)."""
    pairs = [(episode[0], episode[-1]) for episode in scores if episode]
    judged = [(first == 1.0, last == 1.0) for first, last in pairs if first is not None and last is not None]
    return judged.count((False, True)), judged.count((True, False)), len(judged)


def wilson(right: int, n: int) -> Interval:
    """Wilson's 95 % score interval of a share `right` / `n` (Journal of the American Statistical Association 22,
    1927)."""
    if n == 0:
        return math.nan, math.nan
    from scipy.stats import binomtest  # a second to import

    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired_interval(fixed: int, broken: int, n: int) -> Interval:
    """95 % interval of the paired difference (`fixed` - `broken`) / `n`.

    Wald's interval after half an observation is added to each of the four cells (Agresti and Min, Statistics in
    Medicine 24, 2005): unlike the plain one it has a width when nothing flipped.
    """
    if n == 0:
        return math.nan, math.nan
    total = n + 2
    centre = (fixed - broken) / total
    half = _Z95 * math.sqrt(fixed + broken + 1 - (fixed - broken) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided p that flips go both ways equally often: twice the binomial tail, at most 1."""
    from scipy.stats import binomtest

    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def edit_distance(first: str, last: str) -> float:
    """Word edit distance (insert, delete, replace cost 1) divided by the longer text's length; 0.0 is equal, 1.0 all
    new.

    By bit-parallel dynamic programming (Myers, Journal of the ACM 46, 1999; this form by Hyyrö, 2003).
    """
    a, b = first.split(), last.split()
    if not a or not b:
        return float(len(a) != len(b))
    where: dict[str, int] = {}
    for place, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << place
    full, top = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = full, 0, len(a)
    for word in b:
        match = where.get(word, 0)
        diagonal = ((((match & plus) + plus) ^ plus) | match | minus) & full
        up, down = minus | (full & ~(diagonal | plus)), plus & diagonal
        distance += bool(up & top) - bool(down & top)
        up = (up << 1 | 1) & full
        plus, minus = (down << 1 & full) | (full & ~(diagonal | up)), up & diagonal
    return distance / max(len(a), len(b))


def share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def mean_by_turn(numbers: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column of rows of different lengths, over the rows that have it."""
    columns = zip_longest(*numbers)
    present = [[number for number in column if number is not None] for column in columns]
    return [sum(column) / len(column) for column in present]


def _at(episode: Sequence[Score], turn: int) -> Score:
    return episode[min(turn, len(episode) - 1)] if episode else None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def evaluate(
    graph: Graph,
    problems: Sequence[Problem],
    checker: Checker,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    concurrency: int | None = None,
    unfinished: UnfinishedEvaluation | None = None,
) -> tuple[EvaluationReport, list[EpisodeState]]:
    """One episode per problem, judged: the report and the final states, whose answers all carry a verdict.

    Answers that the graph has not judged are judged by `checker` after playing, so nothing it says can reach the
    policy. May be called inside a running event loop.

    Args:
        sampling: greedy, as SCoRe evaluates, unless told otherwise.
        seed, concurrency: as in `play`.
        unfinished: where episodes are kept as they end; those that it holds already are not played again.

    Problems that are too long for the policy's context are left out; the report names them.

    Raises:
        SelfCorrectError: an episode failed; see `play`. An UnreadablePromptError where no problem can be shown.
    """
    given: dict[str, Any] = {"sampling": sampling, "seed": seed, "concurrency": concurrency, "unfinished": unfinished}
    return run_blocking(evaluate_async(graph, problems, checker, **given))


async def evaluate_async(
    graph: Graph,
    problems: Sequence[Problem],
    checker: Checker,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    concurrency: int | None = None,
    unfinished: UnfinishedEvaluation | None = None,
) -> tuple[EvaluationReport, list[EpisodeState]]:
    """`evaluate` for asynchronous code."""
    unreadable: dict[str, UnreadablePromptError] = {}
    by_seed = {derive_seed(seed, index): problem for index, problem in enumerate(problems)}
    there = {} if unfinished is None else unfinished.begin()
    left = {own: problem for own, problem in by_seed.items() if own not in there}
    played = await play(
        graph, list(left.values()), sampling=sampling, seeds=list(left), concurrency=concurrency,
        on_episode=None if unfinished is None else unfinished.keep,
        on_unreadable=lambda problem, error: unreadable.update({problem.id: error}),
    )  # fmt: skip
    ended: dict[int, EpisodeState] = {state["seed"]: state for state in played}
    for own, kept in there.items():
        ended[own] = {**kept, "problem": by_seed[own].model_dump()}
    if unreadable and not ended:
        raise next(iter(unreadable.values()))
    states = [ended[own] for own in by_seed if own in ended]
    judged = list(await asyncio.gather(*(judge(state, checker) for state in states)))
    return replace(report_on(judged, setting=graph.get_name()), left_out=list(unreadable)), judged


async def judge(state: EpisodeState, checker: Checker) -> EpisodeState:
    """A copy of `state` in which every answer carries a verdict; those that have one keep it."""
    reference, prompt = state["problem"]["reference"], state["problem"].get("prompt")

    async def with_verdict(turn: Turn) -> Turn:
        if turn["role"] == "critique" or turn["verdict"] is not None:
            return turn
        return {**turn, "verdict": verdict_record(await judged(checker, turn["generation"]["text"], reference, prompt))}

    return {**state, "turns": list(await asyncio.gather(*map(with_verdict, state["turns"])))}


def report_on(states: Sequence[EpisodeState], *, setting: str = "") -> EvaluationReport:
    """The figures of finished, judged episodes."""
    scores = [[_score(turn) for turn in answers(state)] for state in states]
    longest = max(map(len, scores), default=0)
    accuracies = [accuracy_at(scores, turn) for turn in range(longest)] or [accuracy_at([], 0)]
    fixed, broken, paired = flips(scores)
    given = [score for episode in scores for score in episode]
    turns = [turn for state in states for turn in state["turns"]]
    revised = [(texts[0], texts[-1]) for texts in map(_texts, states) if len(texts) > 1]
    return EvaluationReport(
        setting=setting,
        n=len(states),
        accuracy=[accuracy for accuracy, _ in accuracies],
        accuracy_ci95=[interval for _, interval in accuracies],
        accuracy_t1=accuracies[0][0],
        accuracy_t2=accuracies[min(1, len(accuracies) - 1)][0],
        delta=share(fixed - broken, paired),
        delta_ci95=paired_interval(fixed, broken, paired),
        mcnemar_p=mcnemar(fixed, broken),
        i_to_c=share(fixed, paired),
        c_to_i=share(broken, paired),
        unchanged=share(sum(first == last for first, last in revised), len(revised)),
        edit_distance=share(sum(edit_distance(first, last) for first, last in revised), len(revised)),
        tokens_per_turn=mean_by_turn([[_tokens(turn) for turn in state["turns"]] for state in states]),
        truncated=share(sum(turn["generation"]["finish_reason"] == "length" for turn in turns), len(turns)),
        unjudged=share(sum(score is None for score in given), len(given)),
        answers=share(len(given), len(states)),
        tokens=share(sum(map(_tokens, turns)), len(states)),
        **_own_stops(states, scores),
        **_turn_by_turn(scores, longest),
    )


def _turn_by_turn(scores: Sequence[Sequence[Score]], longest: int) -> dict[str, Any]:
    """Delta and flips from each answer to the next."""
    found: dict[str, list[float]] = {"delta_by_turn": [], "i_to_c_by_turn": [], "c_to_i_by_turn": []}
    for turn in range(longest - 1):
        fixed, broken, judged = flips([[_at(episode, turn), _at(episode, turn + 1)] for episode in scores])
        found["delta_by_turn"].append(share(fixed - broken, judged))
        found["i_to_c_by_turn"].append(share(fixed, judged))
        found["c_to_i_by_turn"].append(share(broken, judged))
    return found


def _own_stops(states: Sequence[EpisodeState], scores: Sequence[Sequence[Score]]) -> dict[str, Any]:
    """What became of the episodes that the policy ended itself."""
    ended = [
        episode[-1]
        for state, episode in zip(states, scores, strict=True)
        if state.get("stop_reason") == OWN_STOP and episode
    ]
    judged = [score for score in ended if score is not None]
    right = sum(score == 1.0 for score in judged)
    return {
        "stopped": share(len(ended), len(states)),
        "stopped_right": share(right, len(judged)),
        "stopped_right_ci95": wilson(right, len(judged)),
    }


def _tokens(turn: Turn) -> int:
    """Sampled tokens: counted, or as a remote model reported them; 0 where nobody knows."""
    usage = usage_of(turn["generation"])
    return 0 if usage is None else usage["output_tokens"]


def _score(turn: Turn) -> Score:
    verdict = verdict_of(turn)
    return None if verdict is None else verdict.score


def _texts(state: EpisodeState) -> list[str]:
    return [answer_text(turn) for turn in answers(state)]
