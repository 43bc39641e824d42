"""Accuracy against generated tokens: strategies of search compared on held-out problems, and plans fitted on
training problems."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.policy import Policy, RenewingPolicy, Sampling
from selfcorrect.agents.prompts import Prompts, turns_made_for
from selfcorrect.agents.search.compute_optimal import Measure, SearchPlan
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import finite, write_whole
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.tasks.problem import Problem, Split, Task
from selfcorrect.tasks.validate import FiniteTask
from selfcorrect.training.scaling.fitting import Outcome, fit_plan
from selfcorrect.training.scaling.measuring import (
    COMPUTE_OPTIMAL,
    PROBE,
    Asked,
    Experiment,
    Measured,
    OnProgress,
    mean_answer_tokens,
    measure,
)
from selfcorrect.training.scaling.summary import Point, as_rows, summarise

BUDGETS = (1, 2, 4, 8, 16, 32, 64)
SPARING = ("best_of_n:sure=0.7:wave=2", "best_of_n:sure=0.9:wave=2", "best_of_n:sure=0.97:wave=2")
"""Best of N that ends when the verifier is sure."""
SPARING_AND_NEW = tuple(f"best_of_n:distinct=true{sure}" for sure in ("", ":sure=0.9", ":sure=0.97", ":sure=0.99"))
"""The same, paying for no answer twice; what plans are mostly made of where the policy can draw so."""
_SAME_ON_RESUME = "settings.json"
_ANSWER_TOKENS = "answer_tokens.json"


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison: the problems, every outcome, and the figures."""

    asked: list[Asked]
    measured: list[Measured]
    points: list[Point]
    answer_tokens: float


SELF_JUDGED = ("self_judged", "self_judged:revisions=3")
"""What needs no verifier but the policy itself, with new answers only and with revisions."""


def families_for(
    policy: Policy, verifier: Verifier | None, step_verifier: Verifier | None, plan: SearchPlan | None
) -> tuple[str, ...]:
    """What can be compared: votes and revisions always, answers that the policy judges itself unless it was made for
    two turns, which leave no room for a verdict; the rest with a verifier, beams with one that scores steps."""
    families = ["majority", "revise:pick=majority", *(SELF_JUDGED if (turns_made_for(policy) or 3) > 2 else ())]
    if verifier is not None:
        families = ["majority", "best_of_n", "weighted", *SPARING[1:2], "revise", "mixed"]
    if isinstance(step_verifier or verifier, StepVerifier):
        families.append("beam")
    return (*families, *([] if plan is None else [COMPUTE_OPTIMAL]))


def sparing_for(policy: Policy, verifier: Verifier | None, sampling: Sampling) -> tuple[str, ...]:
    """Further families worth trying where tokens are to be saved: by a verifier that ends the search."""
    if verifier is None:
        return ()
    renews = isinstance(policy, RenewingPolicy) and sampling.temperature > 0 and sampling.top_p == 1
    return (*SPARING, *SPARING_AND_NEW) if renews else SPARING


def compare(
    policy: Policy,
    task: Task,
    *,
    prompts: Prompts,
    families: Sequence[str],
    answers: Sequence[int] = BUDGETS,
    problems: int = 1000,
    seeds: Sequence[int] = (0,),
    verifier: Verifier | None = None,
    step_verifier: Verifier | None = None,
    plan: SearchPlan | None = None,
    sampling: Sampling | None = None,
    split: str = "test",
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
    chunk: int = 50,
    samples: int = 4,
    policy_name: str = "",
    verifier_name: str = "",
) -> Comparison:
    """Play `families` at budgets of `answers` mean answers each, on problems of `split`.

    Args:
        policy, prompts, verifier, step_verifier, sampling: as in `search`.
        task: where the problems and their checker come from.
        families: see `agents.search.families`, and "compute_optimal".
        answers: budgets. Each is turned into tokens by the policy's mean answer, and no strategy may use more.
        problems: of each seed.
        seeds: each draws problems and answers of its own.
        plan: for "compute_optimal".
        split: "test", or "train" to fit a plan.
        folder: keeps what was played, so that an interrupted comparison goes on.
        on_progress: told (done, total) in searches: a problem, answered by a strategy at a budget.
        chunk: problems searched at once.
        samples: first answers by which difficulty is estimated, for a plan.
        policy_name, verifier_name: what `folder` knows them by, so that it does not go on with another one's answers or
            scores.

    Raises:
        ConfigurationError: a family or budget is unusable, or `folder` holds a comparison with other settings.
    """
    if not answers or min(answers) < 1 or not seeds:
        raise ConfigurationError(
            f"budgets are 1 or more answers, and there is at least one seed; got {list(answers)} and {list(seeds)}"
        )
    draw = sampling or Sampling()
    experiment = Experiment(
        policy, task.checker, prompts, tuple(families), tuple(sorted(set(answers))), 0.0, draw, verifier,
        step_verifier, samples=samples, plan=plan, chunk=chunk,
    )  # fmt: skip
    list(experiment.strategies())  # a family that is misspelt is told before anything is played
    if folder is not None:
        _same_settings(folder, experiment, task, problems, split, {"policy": policy_name, "verifier": verifier_name})
    experiment = replace(experiment, answer_tokens=_answer_tokens(experiment, task, folder))
    asked: list[Asked] = []
    measured: list[Measured] = []
    for number, seed in enumerate(seeds):
        drawn = task.problems("train" if split == "train" else "test", problems, seed=seed)
        tell = None if on_progress is None else _of_all(on_progress, number, len(seeds))
        chunks = None if folder is None else folder / "chunks"
        new_asked, new_measured = run_blocking(measure(experiment, drawn, seed=seed, folder=chunks, on_progress=tell))
        asked += new_asked
        measured += new_measured
    return Comparison(asked, measured, summarise(asked, measured), experiment.answer_tokens)


def _answer_tokens(experiment: Experiment, task: Task, folder: Path | None) -> float:
    """The mean length of an answer, on training problems; where the task has none, on problems that are held out: no
    verdict is asked for. In `folder` it is measured once."""
    kept = None if folder is None else folder / _ANSWER_TOKENS
    if kept is not None and kept.exists():
        return float(json.loads(kept.read_text(encoding="utf-8")))
    asked = mean_answer_tokens(
        experiment.policy, _probe(task), prompts=experiment.prompts, sampling=experiment.sampling
    )
    tokens = run_blocking(asked)
    if kept is not None:
        write_whole(kept, json.dumps(tokens) + "\n")
    return tokens


def _probe(task: Task) -> Sequence[Problem]:
    if not isinstance(task, FiniteTask):
        return task.problems("train", PROBE, seed=0)
    split: Split = "train" if task.available("train") else "test"
    return task.problems(split, min(PROBE, task.available(split)), seed=0)


def tune(
    comparison: Comparison,
    *,
    measure_by: Measure,
    bins: int = 5,
    tolerance: float = 0.02,
    samples: int = 4,
    task: str = "",
    policy: str = "",
) -> SearchPlan:
    """A plan from a comparison on training problems.

    What a strategy costs is counted with the estimate: votes, best of N and wide chains begin with the estimate's
    answers, and take at least those; a beam does not, so it is allowed only what the estimate leaves of the budget.
    Where the policy judges itself, the estimate's answers are judged, too: for that they are counted once more, which
    is more than verdicts cost. One strategy for all problems costs what was measured.
    """
    difficulties = {one.problem: one.difficulty[measure_by] for one in comparison.asked}
    fitting = [outcome for outcome in _with_estimate(comparison, samples) if not _too_narrow(outcome, samples)]
    return fit_plan(
        fitting, difficulties, samples=samples, measure=measure_by, answer_tokens=comparison.answer_tokens,
        bins=bins, tolerance=tolerance, unestimated=comparison.measured, task=task, policy=policy,
    )  # fmt: skip


def _with_estimate(comparison: Comparison, samples: int) -> list[Outcome]:
    """The outcomes as they would be after an estimate: a smaller beam takes the place of one that would exceed the
    budget."""
    sizes, estimate = sorted({one.answers for one in comparison.measured}), round(samples * comparison.answer_tokens)
    outcomes: list[Outcome] = []
    for one in comparison.measured:
        if not one.strategy.startswith("beam:"):
            least = estimate * (2 if one.strategy.startswith("self_judged:") else 1)
            outcomes.append(replace(one, tokens=max(one.tokens, least)) if one.answers >= 2 * samples else one)
            continue
        for size in sizes:
            left = size - samples if size >= 2 * samples else size
            if one.answers == max((other for other in sizes if other <= left), default=0):
                extra = estimate if size >= 2 * samples else 0
                outcomes.append(replace(one, answers=size, tokens=one.tokens + extra))
    return outcomes


def _too_narrow(outcome: Outcome, samples: int) -> bool:
    """Whether a strategy cannot go on from the estimate's parallel answers."""
    if outcome.answers < 2 * samples:
        return False
    kind, _, numbers = outcome.strategy.partition(":")
    return kind == "revise" or (kind in ("mixed", "self_judged") and int(numbers.partition("x")[0]) < samples)


def write_comparison(folder: Path, comparison: Comparison, *, about: dict[str, Any]) -> None:
    """`scale.json` (figures) and `scale.svg` (their drawing) in `folder`."""
    from selfcorrect.training.scaling.summary import scale_svg

    folder.mkdir(parents=True, exist_ok=True)
    figures = {**about, "answer_tokens": comparison.answer_tokens, "points": as_rows(comparison.points)}
    write_whole(folder / "scale.json", json.dumps(finite(figures), indent=1) + "\n")
    write_whole(folder / "scale.svg", scale_svg(comparison.points))


def _of_all(on_progress: Callable[[int, int], None], number: int, seeds: int) -> OnProgress:
    return lambda done, total: on_progress(number * total + done, seeds * total)


def _same_settings(
    folder: Path, experiment: Experiment, task: Task, problems: int, split: str, names: dict[str, str]
) -> None:
    """Refuse to mix two comparisons in one folder."""
    settings = {
        "task": task.name,
        "split": split,
        "problems": problems,
        "families": list(experiment.families),
        "answers": list(experiment.answers),
        "sampling": asdict(experiment.sampling) | {"stop": list(experiment.sampling.stop)},
        "plan": None if experiment.plan is None else experiment.plan.model_dump(),
        "chunk": experiment.chunk,
        "samples": experiment.samples,
        "prompts": asdict(experiment.prompts),
        **names,
    }
    path = folder / _SAME_ON_RESUME
    if path.exists():
        kept, now = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
        if other := [name for name, value in kept.items() if now.get(name) != value]:
            raise ConfigurationError(
                f"{folder} holds a comparison with other settings of {', '.join(other)} ({path.name}); give another "
                "folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(settings, indent=1) + "\n")
