"""Play held-out problems, judge every answer, report what correction changed."""

import asyncio
from collections.abc import Sequence

from selfcorrect.agents.episodes import Graph, play, run_blocking
from selfcorrect.agents.metrics import (
    EvaluationReport,
    Score,
    accuracy_at,
    edit_distance,
    flips,
    mcnemar,
    mean_by_turn,
    paired_interval,
    share,
)
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.state import EpisodeState, Turn, answer_text, answers, verdict_of, verdict_record
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.problem import Problem


def evaluate(
    graph: Graph, problems: Sequence[Problem], checker: Checker, *, sampling: Sampling = GREEDY, seed: int = 0
) -> tuple[EvaluationReport, list[EpisodeState]]:
    """One episode per problem, judged: the report and the final states, whose answers all carry a verdict.

    Answers that the graph has not judged are judged by `checker` after playing, so nothing it says can reach the policy. May be
    called inside a running event loop.

    Args:
        sampling: greedy, as SCoRe evaluates, unless told otherwise.
        seed: as in `play`.

    Raises:
        SelfCorrectError: an episode failed; see `play`.
    """
    return run_blocking(evaluate_async(graph, problems, checker, sampling=sampling, seed=seed))


async def evaluate_async(
    graph: Graph, problems: Sequence[Problem], checker: Checker, *, sampling: Sampling = GREEDY, seed: int = 0
) -> tuple[EvaluationReport, list[EpisodeState]]:
    """`evaluate` for asynchronous code."""
    played = await play(graph, problems, sampling=sampling, seed=seed)
    judged = list(await asyncio.gather(*(judge(state, checker) for state in played)))
    return report_on(judged, setting=graph.get_name()), judged


async def judge(state: EpisodeState, checker: Checker) -> EpisodeState:
    """A copy of `state` in which every answer carries a verdict; those that have one keep it."""
    reference = state["problem"]["reference"]

    async def with_verdict(turn: Turn) -> Turn:
        if turn["role"] == "critique" or turn["verdict"] is not None:
            return turn
        return {**turn, "verdict": verdict_record(await checker.check(turn["generation"]["text"], reference))}

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
        tokens_per_turn=mean_by_turn(
            [[len(turn["generation"]["completion_ids"]) for turn in state["turns"]] for state in states]
        ),
        truncated=share(sum(turn["generation"]["finish_reason"] == "length" for turn in turns), len(turns)),
        unjudged=share(sum(score is None for score in given), len(given)),
    )


def _score(turn: Turn) -> Score:
    verdict = verdict_of(turn)
    return None if verdict is None else verdict.score


def _texts(state: EpisodeState) -> list[str]:
    return [answer_text(turn) for turn in answers(state)]
