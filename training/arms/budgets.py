"""What an arm will cost, planned before anything is trained, and whether two arms cost the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import EpisodeState, Role, Turn, answers, verdict_of
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import write_whole
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.settings import RunSettings

TOLERANCE = 0.05
"""Budgets within this share of each other are called equal: episodes come in whole numbers."""
_PROBES = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """Mean sampled tokens of the base policy at the training temperature.

    Attributes:
        attempt, revise, critique: of one such turn.
        called_wrong: share of its first answers that the policy itself calls wrong, and revises when it judges itself.
        called_wrong_again: the same of its revisions: what it called wrong once is harder than the others; None where
            no revision was judged.
        correct: share of its first answers that the checker accepts.
        wrong_again: share of the revisions of wrong answers that are wrong too; None where not measured.
    """

    attempt: float
    revise: float
    critique: float = 0.0
    called_wrong: float = 1.0
    correct: float = 0.0
    called_wrong_again: float | None = None
    wrong_again: float | None = None


def measured_costs(settings: RunSettings, kept: Path, *, judges_itself: bool) -> Costs:
    """Measure the base policy on problems it may be trained on, or take what an earlier measurement left in `kept`."""
    known = known_costs(kept, judges_itself=judges_itself)
    if known is not None:
        return known
    costs = _measure(settings, judges_itself=judges_itself)
    write_whole(kept, json.dumps(asdict(costs), indent=2) + "\n")
    return costs


def known_costs(kept: Path, *, judges_itself: bool) -> Costs | None:
    """What an earlier measurement left in `kept`; None if there was none, or not of all that is asked."""
    found = Costs(**json.loads(kept.read_text(encoding="utf-8"))) if kept.is_file() else None
    return None if found is None or (judges_itself and not found.critique) else found


def _measure(settings: RunSettings, *, judges_itself: bool) -> Costs:
    from selfcorrect.agents.evaluation import evaluate
    from selfcorrect.training.runs.opening import open_graph, open_policy

    task, policy = settings.task.open(), open_policy(settings.policy)
    available = getattr(task, "available", None)
    count = _PROBES if available is None else min(_PROBES, available("train"))
    problems = task.problems("train", count, seed=settings.seed)
    sampling = Sampling(temperature=settings.optimiser.temperature)
    report, usual = evaluate(open_graph(settings, policy, task.checker), problems, task.checker, sampling=sampling)
    attempt, revise = _tokens(usual, "attempt"), _tokens(usual, "revise")
    wrong_again = share_wrong_again(usual)
    if not judges_itself:
        return Costs(attempt, revise, correct=report.accuracy_t1, wrong_again=wrong_again)
    judging = settings.model_copy(update={"graph": settings.graph.model_copy(update={"critique": "self"})})
    judged = play_sync(open_graph(judging, policy, task.checker), problems, sampling=sampling)
    first, again = share_revised(judged, later=False) or 0.0, share_revised(judged, later=True)
    return Costs(attempt, revise, _tokens(judged, "critique"), first, report.accuracy_t1, again, wrong_again)


def share_wrong_again(states: Sequence[EpisodeState]) -> float | None:
    """Of the revisions of wrong answers: how many are wrong. None if there are none."""
    wrong = [[_is_wrong(turn) for turn in answers(state)] for state in states]
    again = [later for one in wrong for earlier, later in pairwise(one) if earlier]
    return sum(again) / len(again) if again else None


def _is_wrong(turn: Turn) -> bool:
    verdict = verdict_of(turn)
    return verdict is not None and not verdict.correct


def share_revised(judged: Sequence[EpisodeState], *, later: bool) -> float | None:
    """Of the answers that the policy judged, the first of each episode or the `later` ones: how many it revised. None
    if there are none."""
    total = revised = 0
    for state in judged:
        roles = [turn["role"] for turn in state["turns"]]
        critiques, revisions = roles.count("critique"), roles.count("revise")
        total += max(0, critiques - 1) if later else min(1, critiques)
        revised += max(0, revisions - 1) if later else min(1, revisions)
    return revised / total if total else None


def _tokens(states: Sequence[EpisodeState], role: Role) -> float:
    lengths = [
        len(turn["generation"]["completion_ids"]) for state in states for turn in state["turns"] if turn["role"] == role
    ]
    return sum(lengths) / max(1, len(lengths))


def refuse_unequal(planned: Mapping[str, Budget], *, tolerance: float = TOLERANCE) -> None:
    """Raise unless all budgets that are not zero are the same within `tolerance`, tokens with tokens, steps with steps.

    Raises:
        ConfigurationError: they are not; the message lists them.
    """
    trained = {name: budget for name, budget in planned.items() if budget.generated_tokens or budget.optimiser_steps}
    unequal = [
        words
        for words, numbers in (
            ("generated tokens", [budget.generated_tokens for budget in trained.values()]),
            ("optimiser steps", [budget.optimiser_steps for budget in trained.values()]),
        )
        if numbers and max(numbers) > min(numbers) * (1 + tolerance)
    ]
    if unequal:
        lines = [
            f"  {name}: {budget.generated_tokens:,} generated tokens, {budget.optimiser_steps:,} optimiser steps"
            for name, budget in trained.items()
        ]
        raise ConfigurationError(
            f"the arms would not cost the same ({' and '.join(unequal)} differ by more than {tolerance:.0%}):\n"
            + "\n".join(lines)
            + "\nchange what makes them differ, or compare them as they are with --allow-unequal-budgets"
        )
