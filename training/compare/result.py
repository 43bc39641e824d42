"""The comparison as plain data: what `compare.json` holds, and what tables, curves and the page are made of."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from selfcorrect.agents.evaluation import wilson
from selfcorrect.files import finite, write_whole
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.compare.comparison import (
    WAYS,
    Comparison,
    Evaluation,
    Exam,
    Way,
    evaluation_of,
    folder_of,
    measured_budget,
)
from selfcorrect.training.compare.statistics import Difference, Mean, holm, mean_over_seeds, paired_difference
from selfcorrect.training.runs.alarms import alarms
from selfcorrect.training.runs.run_directory import RunDirectory

FIGURES = ("accuracy_t1", "accuracy_t2", "delta", "i_to_c", "c_to_i", "unchanged")
"""The columns of the paper's table, and the share of unchanged answers."""
_NO_SHARES = ("delta", "answers", "tokens")
LOOKS = ("accuracy_t4", "accuracy_t8", "accuracy_t16", "answers", "tokens", "stopped", "stopped_right")
"""Further columns where answers are revised more than once; an episode that ended keeps its answer."""
TESTED = ("accuracy_t2", "delta")
FINAL = "accuracy_final"
"""Tested too where answers are revised more than once."""
SIGNIFICANT = 0.05

Evaluations = Mapping[str, Mapping[int, Evaluation]]
"""By arm and seed."""


def comparison_result(
    comparison: Comparison, out: Path, planned: Mapping[str, Budget], *, reference: str
) -> dict[str, Any]:
    """Everything that is known so far; arms and seeds that are not finished are left out.

    Args:
        reference: the arm that the others are tested against.
    """
    arms = [arm_spec.name for arm_spec in comparison.arm_specs]
    untrained = {arm_spec.name for arm_spec in comparison.arm_specs if arm_spec.load is None}
    result: dict[str, Any] = {
        "task": comparison.settings.task.title,
        "policy": comparison.settings.policy.model,
        "problems": comparison.problems,
        "temperature": comparison.temperature,
        "seeds": list(comparison.seeds),
        "reference": reference,
        "arms": {arm_spec.name: arm_spec.says for arm_spec in comparison.arm_specs},
        "budgets": {arm: _budgets(comparison, out, arm, planned.get(arm)) for arm in arms},
        "curves": {arm: curve for arm in arms if (curve := _curve(comparison, out, arm))},
        "alarms": {arm: raised for arm in arms if (raised := _alarms(comparison, out, arm))},
    }
    result |= _tables(comparison, out, arms, untrained, reference, comparison.exams[0])
    result["exams"] = {
        exam.name: {"task": exam.task.title, **_tables(comparison, out, arms, untrained, reference, exam)}
        for exam in comparison.more_exams
    }
    result["held_out_alarms"] = held_out_alarms(result["greedy"], comparison.problems)
    plain: dict[str, Any] = finite(result)
    return plain


def _tables(
    comparison: Comparison, out: Path, arms: Sequence[str], untrained: Collection[str], reference: str, exam: Exam
) -> dict[str, Any]:
    """The rows and the tests of an exam, greedy and sampled, and how many problems it was; as it was planned, as long
    as nothing is evaluated."""
    tables: dict[str, Any] = {"problems": exam.problems}
    for way in WAYS:
        found = _evaluations(comparison, out, arms, way, exam.name)
        answers = max((_longest(seeds) for seeds in found.values()), default=0)
        asked = [len(evaluation.scores) for seeds in found.values() for evaluation in seeds.values()]
        tables["problems"] = max(asked, default=tables["problems"])
        tables[way] = {
            arm: _row(_told_apart(seeds, once=way == "greedy" and arm in untrained), answers)
            for arm, seeds in found.items()
        }
        tables[f"{way}_tests"] = against_reference(reference, found) if reference in found else {}
    return tables


def against_reference(reference: str, evaluations: Evaluations) -> dict[str, dict[str, dict[str, Any]]]:
    """For accuracy@2, delta and of longer episodes the final accuracy: `reference` minus each other arm, paired by
    seed and problem, with Holm's p over the arms."""
    tests: dict[str, dict[str, dict[str, Any]]] = {}
    longest = max(len(one.report["accuracy"]) for seeds in evaluations.values() for one in seeds.values())
    for figure in (*TESTED, *([FINAL] if longest > 2 else [])):
        differences = {
            arm: _difference(evaluations[reference], evaluations[arm], figure)
            for arm in evaluations
            if arm != reference
        }
        adjusted = holm({arm: difference.p for arm, difference in differences.items()})
        tests[figure] = {
            arm: {**asdict(difference), "p_holm": adjusted[arm], "verdict": verdict(difference, adjusted[arm])}
            for arm, difference in differences.items()
        }
    return tests


def verdict(difference: Difference, p: float) -> str:
    """What may be said: "higher", "lower", or "no difference" within the noise."""
    if math.isnan(p) or p >= SIGNIFICANT:
        return "no difference"
    return "higher" if difference.mean > 0 else "lower"


def held_out_alarms(rows: Mapping[str, Mapping[str, Any]], problems: int) -> dict[str, list[str]]:
    """The alarms of training, asked of the greedy evaluation: what each arm has become against the row "base"."""
    if "base" not in rows:
        return {}
    base = _watched(rows["base"])
    found = {arm: alarms([_watched(row)], base, episodes=problems) for arm, row in rows.items() if arm != "base"}
    return {arm: [alarm.words for alarm in raised] for arm, raised in found.items() if raised}


def _watched(row: Mapping[str, Any]) -> dict[str, float | None]:
    means = {name: row[name]["mean"] for name in ("unchanged", "accuracy_t1", "delta")}
    return {**means, **{name: row[name] for name in ("tokens_per_episode", "truncated", "unjudged")}}


def _difference(one: Mapping[int, Evaluation], other: Mapping[int, Evaluation], figure: str) -> Difference:
    seeds = [seed for seed in one if seed in other]
    return paired_difference(
        [_scores(one[seed], figure) for seed in seeds], [_scores(other[seed], figure) for seed in seeds]
    )


def _scores(evaluation: Evaluation, figure: str) -> Sequence[float | None]:
    if figure == "delta":
        return evaluation.gained()
    return evaluation.at(1 if figure == "accuracy_t2" else len(evaluation.report["accuracy"]) - 1)


def _evaluations(
    comparison: Comparison, out: Path, arms: Sequence[str], way: Way, exam: str
) -> dict[str, dict[int, Evaluation]]:
    found: dict[str, dict[int, Evaluation]] = {}
    for arm in arms:
        for seed in comparison.seeds:
            evaluation = evaluation_of(out, arm, seed, way, exam)
            if evaluation is not None:
                found.setdefault(arm, {})[seed] = evaluation
    return found


def _told_apart(seeds: Mapping[int, Evaluation], *, once: bool) -> Mapping[int, Evaluation]:
    """The seeds that say something of their own: greedy answers of the base are the same for all."""
    return dict(list(seeds.items())[:1]) if once else seeds


def _longest(seeds: Mapping[int, Evaluation]) -> int:
    return max(len(evaluation.report["accuracy"]) for evaluation in seeds.values())


def _row(seeds: Mapping[int, Evaluation], answers: int) -> dict[str, Any]:
    """Every figure of an arm: mean, interval, and each seed's; those of single turns up to `answers`, the most of any
    arm, so that all rows have the same."""
    row: dict[str, Any] = {"seeds": list(seeds), "longest": _longest(seeds)}
    for figure in (*FIGURES, *LOOKS, *_by_turn(answers)):
        values = [_figure(evaluation, figure) for evaluation in seeds.values()]
        known = [math.nan if value is None else float(value) for value in values]
        mean: Mean = mean_over_seeds(
            [value for value in known if not math.isnan(value)], is_share=not figure.startswith(_NO_SHARES)
        )
        row[figure] = {"mean": mean.mean, "interval": mean.interval, "by_seed": known}
        if len(seeds) == 1:
            row[figure]["interval"] = _over_problems(next(iter(seeds.values())), figure)
    row["tokens_per_episode"] = fmean(tokens_per_episode(evaluation) for evaluation in seeds.values())
    row["truncated"] = fmean(evaluation.report["truncated"] or 0.0 for evaluation in seeds.values())
    row["unjudged"] = fmean(evaluation.report["unjudged"] or 0.0 for evaluation in seeds.values())
    return row


def _over_problems(evaluation: Evaluation, figure: str) -> tuple[float, float]:
    """The 95 % interval of a figure of one seed, for other problems of the kind: Wilson's for a share of all
    episodes, the paired one for delta; (nan, nan) for the others."""
    report = evaluation.report
    if figure == "delta":
        low, high = report["delta_ci95"]
    elif figure in ("accuracy_t1", "accuracy_t2"):
        low, high = report["accuracy_ci95"][min(int(figure[-1]), len(report["accuracy_ci95"])) - 1]
    elif figure in ("i_to_c", "c_to_i") and report[figure] is not None:
        paired = sum(gained is not None for gained in evaluation.gained())
        low, high = wilson(round(report[figure] * paired), paired)
    else:
        return math.nan, math.nan
    return (math.nan if low is None else low), (math.nan if high is None else high)


def _by_turn(longest: int) -> list[str]:
    """Figures of every turn of episodes of more than two answers; those of answers 4, 8 and 16 are `LOOKS`."""
    turns = range(2, longest + 1) if longest > 2 else ()
    accuracies = [f"accuracy_t{turn}" for turn in turns if turn > 2 and f"accuracy_t{turn}" not in LOOKS]
    return [*accuracies, *(f"{name}_t{turn}" for turn in turns for name in ("delta", "i_to_c", "c_to_i"))]


def _figure(evaluation: Evaluation, figure: str) -> float | None:
    """A figure of the report, or one after so many answers, of which it holds a list."""
    name, _, turn = figure.rpartition("_t")
    if f"{name}_by_turn" in evaluation.report:
        changes: list[float | None] = evaluation.report[f"{name}_by_turn"]
        return changes[int(turn) - 2] if int(turn) - 2 < len(changes) else None
    if figure in evaluation.report or not figure.startswith("accuracy_t"):
        return evaluation.report.get(figure)
    reached: list[float | None] = evaluation.report["accuracy"]
    return reached[min(int(figure.removeprefix("accuracy_t")), len(reached)) - 1]


def tokens_per_episode(evaluation: Evaluation) -> float:
    """Mean sampled tokens; evaluations that were kept before this was measured have whole episodes only."""
    report = evaluation.report
    return float(report["tokens"] if "tokens" in report else sum(report["tokens_per_turn"]))


def _budgets(comparison: Comparison, out: Path, arm: str, planned: Budget | None) -> dict[str, Any]:
    measured = [budget for seed in comparison.seeds if (budget := measured_budget(out, arm, seed)) is not None]
    return {
        "planned": None if planned is None else asdict(planned),
        "measured": None
        if not measured
        else {
            "generated_tokens": round(fmean(budget.generated_tokens for budget in measured)),
            "optimiser_steps": round(fmean(budget.optimiser_steps for budget in measured)),
        },
    }


def _curve(comparison: Comparison, out: Path, arm: str) -> list[dict[str, float]]:
    """Held-out greedy figures over generated tokens, the mean of the seeds that got as far."""
    points: dict[int, list[dict[str, float]]] = {}
    for seed in comparison.seeds:
        steps = RunDirectory(folder_of(out, arm, seed)).read_metrics()
        tokens = list(accumulate(step.get("tokens") or 0.0 for step in steps))
        for step, so_far in zip(steps, tokens, strict=True):
            if step.get("eval_accuracy_t2") is not None:
                figures = {name: step[f"eval_{name}"] for name in ("accuracy_t1", "accuracy_t2", "delta")}
                points.setdefault(step["step"], []).append({"tokens": so_far, **figures})
    most = max(map(len, points.values()), default=0)
    return [
        {name: fmean(point[name] for point in group) for name in group[0]}
        for _, group in sorted(points.items())
        if len(group) == most
    ]


def _alarms(comparison: Comparison, out: Path, arm: str) -> dict[str, list[int]]:
    """The seeds in whose training each alarm stood at some step."""
    raised: dict[str, list[int]] = {}
    for seed in comparison.seeds:
        steps = RunDirectory(folder_of(out, arm, seed)).read_metrics()
        names = {name.removeprefix("alarm/") for step in steps for name in step if name.startswith("alarm/")}
        for name in sorted(names):
            raised.setdefault(name, []).append(seed)
    return raised


# The files of a comparison as a whole.


def write_comparison(
    comparison: Comparison, out: Path, planned: Mapping[str, Budget], *, reference: str
) -> dict[str, Any]:
    """Write compare.json and compare.html of all that is finished in `out`; returns what is in the first.

    Args:
        comparison, out: as they were given to `run_comparison`.
        planned: the budgets that it returned.
        reference: the arm that the others are tested against.
    """
    from selfcorrect.training.compare.report import compare_page

    result = comparison_result(comparison, out, planned, reference=reference)
    write_whole(out / "compare.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / "compare.html", compare_page(result))
    return result
