"""Learning a plan from what strategies achieved on training problems. Pure functions of the measurements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from selfcorrect.agents.search.compute_optimal import BudgetPlan, Measure, SearchPlan
from selfcorrect.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one strategy made of one problem.

    Attributes:
        problem: its id (with the seed, where there are several).
        strategy: the strategy's name.
        answers: the budget, in answers of mean length.
        correct: 1.0, 0.0, or None if the checker could not judge it.
        tokens: generated.
    """

    problem: str
    strategy: str
    answers: int
    correct: float | None
    tokens: int


def fit_plan(
    outcomes: Iterable[Outcome],
    difficulties: Mapping[str, float],
    *,
    samples: int,
    measure: Measure,
    answer_tokens: float,
    bins: int = 5,
    tolerance: float = 0.02,
    unestimated: Iterable[Outcome] = (),
    task: str = "",
    policy: str = "",
) -> SearchPlan:
    """The best strategy for each bin of difficulty and each budget.

    "Best" is the cheapest of those whose accuracy is within `tolerance` of the highest: of strategies that are as good,
    the one that stops earlier. Budgets of fewer than two estimates are not worth one, and get one strategy for all
    problems; so do those where one for all, without an estimate, is as good as the bins' own and cheaper. A bin
    without problems takes its budget's overall best.

    Args:
        outcomes: of every strategy at every budget, on training problems. The strategies of a budget must cost no more
            than it, those of an estimated one with the estimate's answers included.
        difficulties: of the problems, as estimated by `samples` answers.
        unestimated: the same as `outcomes`, as they are where nothing is estimated; by default every budget that is
            worth an estimate gets one.
        samples, measure: how they were estimated.
        answer_tokens: mean tokens of an answer.
        bins: how many, of equally many problems as far as ties allow (quintiles in Snell et al.).
        tolerance: in accuracy.
        task, policy: for the plan's reader.

    Raises:
        ConfigurationError: there are no outcomes, or `bins` is below 1.
    """
    judged, alone = _usable(outcomes, difficulties), _by_budget(_usable(unestimated, difficulties))
    if not judged or bins < 1:
        raise ConfigurationError(
            f"a plan is fitted on judged outcomes and 1 or more bins, got {len(judged)} outcomes and {bins} bins"
        )
    edges = _edges(list(difficulties.values()), bins)
    plan = SearchPlan(
        task=task, policy=policy, measure=measure, samples=samples, edges=edges, answer_tokens=answer_tokens,
        budgets=[BudgetPlan(answers=1, tokens=1, strategies=[judged[0].strategy])], fitted_on=len(difficulties),
    )  # fmt: skip
    estimated = _by_budget(judged)
    budgets = [
        _fit_budget(answers, estimated.get(answers, []), alone.get(answers, []), difficulties, plan, tolerance)
        for answers in sorted(estimated.keys() | alone.keys())
    ]
    return plan.model_copy(update={"budgets": budgets})


def _usable(outcomes: Iterable[Outcome], difficulties: Mapping[str, float]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.correct is not None and outcome.problem in difficulties]


def _by_budget(outcomes: Iterable[Outcome]) -> dict[int, list[Outcome]]:
    found: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.answers, []).append(outcome)
    return found


@dataclass(frozen=True, slots=True)
class _Best:
    strategy: str
    accuracy: float
    tokens: float


def _fit_budget(
    answers: int,
    outcomes: Sequence[Outcome],
    unestimated: Sequence[Outcome],
    difficulties: Mapping[str, float],
    plan: SearchPlan,
    tolerance: float,
) -> BudgetPlan:
    one_for_all = _best(unestimated or outcomes, tolerance)
    if answers < 2 * plan.samples or not outcomes:
        return _budget_plan(answers, plan, [one_for_all])
    overall = _best(outcomes, tolerance)
    sorted_in: list[list[Outcome]] = [[] for _ in range(len(plan.edges) + 1)]
    for outcome in outcomes:
        sorted_in[plan.bin_of(difficulties[outcome.problem])].append(outcome)
    chosen = [_best(members, tolerance) if members else overall for members in sorted_in]
    together = _together(chosen, [len({outcome.problem for outcome in members}) for members in sorted_in])
    as_good = one_for_all.accuracy >= together.accuracy - tolerance and one_for_all.tokens < together.tokens
    return _budget_plan(answers, plan, [one_for_all] if unestimated and as_good else chosen)


def _together(chosen: Sequence[_Best], problems: Sequence[int]) -> _Best:
    """What the bins' strategies come to over all problems, of which each bin has so many."""
    accuracy, tokens = (
        sum(getattr(best, figure) * count for best, count in zip(chosen, problems, strict=True)) / sum(problems)
        for figure in ("accuracy", "tokens")
    )
    return _Best("", accuracy, tokens)


def _budget_plan(answers: int, plan: SearchPlan, chosen: Sequence[_Best]) -> BudgetPlan:
    return BudgetPlan(
        answers=answers,
        tokens=max(1, int(answers * plan.answer_tokens)),
        strategies=[best.strategy for best in chosen],
        accuracy=[round(best.accuracy, 4) for best in chosen],
        mean_tokens=[round(best.tokens, 1) for best in chosen],
    )


def _best(outcomes: Sequence[Outcome], tolerance: float) -> _Best:
    of: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        of.setdefault(outcome.strategy, []).append(outcome)
    measured = [
        _Best(name, fmean(one.correct or 0.0 for one in rows), fmean(one.tokens for one in rows))
        for name, rows in of.items()
    ]
    highest = max(one.accuracy for one in measured)
    good = [one for one in measured if one.accuracy >= highest - tolerance]
    return min(good, key=lambda one: (one.tokens, -one.accuracy))


def _edges(difficulties: Sequence[float], bins: int) -> list[float]:
    """Quantiles; equal ones are one edge, so that no bin is empty of meaning."""
    if bins == 1 or len(difficulties) < 2:
        return []
    return sorted(set(quantiles(difficulties, n=bins, method="inclusive")))
