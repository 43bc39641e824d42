"""What verifiers are worth: best-of-64 against pass@1, majority and the oracle; calibration; abstention.

    python benchmarks/verifier.py --work runs/verifier --seeds 0 1 2

Samples the embedded policy's first answers, trains the verifiers of `PLANS` on those to training problems, calibrates
them on others, and measures on 1,000 held-out problems a seed with 64 answers each. Pools, verifiers and scores that
are in the work folder are not made again. Writes benchmarks/results/verifier.json, in which it replaces the plans that
it measures, and docs/verifier.svg.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfcorrect.agents.choosing.best_of_k import best_of_k, pass_at_k, vote_accuracy
from selfcorrect.agents.choosing.calibration import threshold_for_risk
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem, read_pool, sample_pool, write_pool
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.verifiers.encoding import Wording
from selfcorrect.rewards.verifiers.folder import read_calibration
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.reporting.charts import on_any_page
from selfcorrect.training.vstar.measuring import (
    RISKS,
    draw_choosing,
    draw_reliability,
    draw_risk_coverage,
    mean_with_interval,
    scored_figures,
    with_answer_keys,
)
from selfcorrect.training.vstar.settings import HeadSettings, Kind, PreferenceSettings, VstarSettings
from selfcorrect.training.vstar.verifiers import calibrate, train_verifier

ROOT = Path(__file__).parents[1]
REVIEW = "check : {last_step} right"
TRAINING_POOLS = {"train-100": (4000, 16, 100), "train-102": (8000, 8, 102)}
"""Name: problems, samples each, seed."""


@dataclass(frozen=True)
class Plan:
    """How one verifier is made and used.

    Attributes:
        kind, settings: of the training.
        pools: of training samples.
        problems: how many problems of the pools are learnt from; None is all.
        review: see `Wording`.
        calibration: how many problems it is calibrated on.
        like: another plan whose trained weights it uses, reduced in another way.
    """

    kind: Kind
    settings: VstarSettings = field(default_factory=VstarSettings)
    pools: tuple[str, ...] = ("train-100",)
    problems: int | None = None
    review: str = ""
    calibration: int = 200
    like: str | None = None


_DPO = PreferenceSettings(optimiser="muon", learning_rate=3e-3, batch=128, beta=1.0, pairs_per_problem=2)
_PAPER = PreferenceSettings(
    optimiser="muon", learning_rate=1e-2, batch=128, beta=0.1, pairs_per_problem=8, measure="log_ratio"
)
_HEAD = HeadSettings(optimiser="muon", learning_rate=2e-2, batch=256)
PLANS = {
    "likelihood": Plan("likelihood", VstarSettings(likelihood=_DPO), review=REVIEW, calibration=1000),
    "stepwise (last)": Plan("stepwise", VstarSettings(stepwise=_HEAD), pools=("train-100", "train-102")),
    "stepwise (lowest)": Plan("stepwise", like="stepwise (last)"),
    "likelihood without review": Plan("likelihood", VstarSettings(likelihood=_PAPER), problems=1000),
    "classifier": Plan("classifier", VstarSettings(classifier=_HEAD), problems=800),
}


def pool(
    work: Path, name: str, split: Any, problems: int, per_problem: int, seed: int, temperature: float
) -> list[Sample]:
    """The pool called `name`, sampled now if it is not there."""
    path = work / f"{name}.jsonl"
    if not path.exists():
        from selfcorrect.agents.policies.transformers import TransformersPolicy

        task = CountdownTask(4)
        policy = TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=24, reuse_cache=False)
        asked = task.problems(split, problems, seed=seed)
        sampling = Sampling(temperature=temperature)
        drawn = sample_pool(
            policy, asked, task.checker, per_problem=per_problem, prompts=COUNTDOWN, sampling=sampling, seed=seed
        )
        write_pool(path, asyncio.run(drawn))
    return read_pool(path)


def trained(work: Path, name: str, seed: int) -> Path:
    """The folder of a plan's verifier, trained and calibrated now if it is not there."""
    plan, folder = PLANS[name], work / f"{name}-{seed}"
    if (folder / "calibration.json").exists():
        return folder
    learnt = {one.id for one in training_samples(work, plan)}
    drawn = pool(work, "calibration-101", "train", 1000, 64, 101, 1.0)[: 64 * plan.calibration]
    calibration = [one for one in drawn if one.id not in learnt]
    if plan.like is None:
        verifier = load_verifier(weights(work, name, seed))
    else:
        verifier = load_verifier(trained(work, plan.like, seed))
        verifier.card = replace(verifier.card, reduction="min")
    calibrate(verifier, calibration, folder, temperature=1.0)
    return folder


def training_samples(work: Path, plan: Plan) -> list[Sample]:
    """What a plan's verifier learns from."""
    samples = [one for each in plan.pools for one in pool(work, each, "train", *TRAINING_POOLS[each], 1.0)]
    return [one for group in by_problem(samples)[: plan.problems] for one in group]


def weights(work: Path, name: str, seed: int) -> Path:
    """The folder of a plan's verifier before calibration, trained now if it is not there."""
    plan, folder = PLANS[name], work / f"{name}-{seed}-uncalibrated"
    if folder.exists():
        return folder
    learnt = training_samples(work, plan)
    start = time.perf_counter()
    wording = Wording(review=plan.review)
    verifier = train_verifier(
        plan.kind, embedded_folder(), learnt, plan.settings, wording=wording, work=work / "trainer", seed=seed
    )
    print(f"{name}, seed {seed}: trained in {time.perf_counter() - start:.0f} s", flush=True)
    verifier.save(folder)
    return folder


def scores_of(work: Path, name: str, seed: int, samples: list[Sample], label: str) -> list[float | None]:
    """The scores of a held-out pool, kept in the work folder."""
    path = work / f"scores-{name}-{label}.json"
    if not path.exists():
        verifier = load_verifier(trained(work, name, seed))
        start = time.perf_counter()
        scores = verifier.score_all([(one.prompt, one.text) for one in samples])
        path.write_text(json.dumps(scores))
        print(f"{name}: {label} scored in {time.perf_counter() - start:.0f} s", flush=True)
    loaded: list[float | None] = json.loads(path.read_text())
    return loaded


def promise(folder: Path, samples: list[Sample], scores: list[float | None]) -> dict[str, Any]:
    """What thresholds chosen on the calibration answers give on the held-out ones, chosen in the same ways."""
    told: dict[str, Any] = {}
    groups, rest = by_problem(samples), iter(scores)
    scored = [[next(rest) for _ in group] for group in groups]
    for how, answers in read_calibration(folder).answers.items():
        picked = [0 if how == "attempt" else max(range(len(one)), key=lambda i: one[i] or -1.0) for one in scored]
        for risk in RISKS:
            try:
                rule = threshold_for_risk([score for score, _ in answers], [right for _, right in answers], risk)
            except ConfigurationError:
                told[f"{how}, risk {risk:.2f}"] = None
                continue
            given = [
                bool(group[i].correct)
                for group, one, i in zip(groups, scored, picked, strict=True)
                if (one[i] or 0.0) >= rule.threshold
            ]
            told[f"{how}, risk {risk:.2f}"] = {
                "threshold": rule.threshold,
                "answered": len(given) / len(groups),
                "wrong_among_answered": 1 - sum(given) / len(given) if given else None,
            }
    return told


def per_problem(samples: list[Sample], scores: list[float | None]) -> dict[str, list[float]]:
    """For every problem: pass@1, majority, weighted vote, best-of-N, oracle, with all candidates."""
    rest = iter(scores)
    columns: dict[str, list[float]] = {"pass@1": [], "majority": [], "weighted": [], "best": [], "oracle": []}
    for group in by_problem(samples):
        right, answers = [bool(one.correct) for one in group], [one.answer for one in group]
        score = [next(rest) for _ in group]
        columns["pass@1"].append(sum(right) / len(right))
        columns["majority"].append(vote_accuracy(answers, right))
        columns["weighted"].append(vote_accuracy(answers, right, score))
        columns["best"].append(best_of_k(score, right, len(right)))
        columns["oracle"].append(pass_at_k(right, len(right)))
    return columns


def summary(columns: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Over all problems of all seeds: means and differences with 95 % intervals, and the share of the gap that is
    closed."""
    joined = {name: [value for one in columns for value in one[name]] for name in columns[0]}
    found: dict[str, Any] = {name: mean_with_interval(values) for name, values in joined.items()}
    for name, other in (("majority", "best - majority"), ("pass@1", "best - pass@1")):
        differences = [best - value for best, value in zip(joined["best"], joined[name], strict=True)]
        found[other] = mean_with_interval(differences)
    single = found["pass@1"]["mean"]
    found["gap_closed"] = (found["best"]["mean"] - single) / (found["oracle"]["mean"] - single)
    found["gap_closed_by_majority"] = (found["majority"]["mean"] - single) / (found["oracle"]["mean"] - single)
    return found


def measure(work: Path, name: str, seeds: list[int], temperature: float, one_training: bool) -> dict[str, Any]:
    """All figures of one verifier."""
    suffix = "" if temperature == 1 else f"-t{temperature:g}"
    table: dict[str, Any] = {"seeds": {}}
    columns = []
    for seed in seeds:
        drawn = pool(work, f"seed-{seed}{suffix}", "test", 1000, 64, seed, temperature)
        samples = with_answer_keys(drawn, CountdownTask(4).problems("test", 1000, seed=seed))
        training_seed = 0 if one_training else seed
        scores = scores_of(work, name, training_seed, samples, f"seed-{seed}{suffix}")
        columns.append(per_problem(samples, scores))
        table["seeds"][str(seed)] = scored_figures(samples, scores) | {
            "training_seed": training_seed,
            "calibration_answers": len(read_calibration(trained(work, name, training_seed)).answers["attempt"]),
            "promises": promise(trained(work, name, training_seed), samples, scores),
        }
    return table | {"all": summary(columns)}


def plot(tables: dict[str, Any], path: Path) -> None:
    """Accuracy against candidates, reliability, and risk against coverage, of the first seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first = {name: next(iter(table["seeds"].values())) for name, table in tables.items()}
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for draw, axes in zip((draw_choosing, draw_reliability, draw_risk_coverage), panels, strict=True):
        draw(axes, first)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2
        )  # off the curves
    figure.savefig(path, metadata={"Date": None})
    path.write_text(on_any_page(path.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/verifier"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plans", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--train-once", nargs="*", default=[name for name in PLANS if name != "likelihood"])
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--calibration", type=int, help="problems, for verifiers that are not calibrated yet")
    parser.add_argument("--draw", action="store_true", help="only draw the plot, from the committed results")
    arguments = parser.parse_args()
    if arguments.calibration is not None:
        PLANS.update({plan: replace(PLANS[plan], calibration=arguments.calibration) for plan in arguments.plans})
    name = "verifier" if arguments.temperature == 1 else f"verifier-t{arguments.temperature:g}"
    results = ROOT / "benchmarks" / "results" / f"{name}.json"
    tables: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    if arguments.draw:
        plot(tables, ROOT / "docs" / f"{name}.svg")
        return
    for plan in arguments.plans:
        tables[plan] = measure(
            arguments.work, plan, arguments.seeds, arguments.temperature, plan in arguments.train_once
        )
        means = {key: value["mean"] if isinstance(value, dict) else value for key, value in tables[plan]["all"].items()}
        print(plan, {key: round(value, 3) for key, value in means.items()}, flush=True)
        results.write_text(json.dumps(tables, indent=1) + "\n")
        plot(tables, ROOT / "docs" / f"{name}.svg")


if __name__ == "__main__":
    main()
