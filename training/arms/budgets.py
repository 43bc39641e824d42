"""What an arm will cost, planned before anything is trained, and whether two arms cost the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import EpisodeState, Role
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
        called_wrong: share of its answers that the policy itself calls wrong, and revises when it judges itself.
        correct: share of its first answers that the checker accepts.
    """

    attempt: float
    revise: float
    critique: float = 0.0
    called_wrong: float = 1.0
    correct: float = 0.0


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
    if not judges_itself:
        return Costs(attempt, revise, correct=report.accuracy_t1)
    judging = settings.model_copy(update={"graph": settings.graph.model_copy(update={"critique": "self"})})
    judged = play_sync(open_graph(judging, policy, task.checker), problems, sampling=sampling)
    wrong = sum(any(turn["role"] == "revise" for turn in state["turns"]) for state in judged)
    return Costs(attempt, revise, _tokens(judged, "critique"), wrong / len(judged), report.accuracy_t1)


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
