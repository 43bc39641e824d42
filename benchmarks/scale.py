"""What test-time compute is worth on Countdown: accuracy against tokens, compute-optimal search, small against large,
adaptation.

    python -m selfcorrect.training.pretraining ...                                  # only for --small, a policy of a
    quarter of the size python benchmarks/scale.py --verifier DIR [--step-verifier DIR] [--small DIR] --work runs/scale
    --parts tune test beam small adapt report

Parts, each resumable; `report` writes benchmarks/results/scale.json and docs/scale.svg from what is there:

- tune    a plan from 800 training problems;
- test    every strategy and the plan, three seeds of 334 held-out problems;
- beam    beam search with the step verifier, on the same problems;
- small   the small policy with search against the embedded policy, at equal floating-point operations, on the same
problems;
- greedy  the embedded policy's one greedy answer to these;
- adapt   334 held-out problems, their answers unknown to the policy; another 334 to see what carries over; three seeds.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.evaluation import paired_interval
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.search.compute_optimal import SearchPlan
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.settings import combine
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.adapt import AdaptSettings, adapt
from selfcorrect.training.agreement import measured_accuracy
from selfcorrect.training.scaling.run import BUDGETS, Comparison, compare, tune
from selfcorrect.training.scaling.summary import as_rows, oracle_bins, scale_svg, summarise, tokens_to_reach

TASK = CountdownTask(4)
DRAW = Sampling(max_new_tokens=24)
SURE = tuple(f"best_of_n:sure={score}:wave=1" for score in (0.9, 0.97))
NEW = "best_of_n:distinct=true"
DISTINCT = (f"{NEW}:wave=1", *(f"{NEW}:sure={score}:wave=1" for score in (0.9, 0.97, 0.99)))
FAMILIES = ("majority", "best_of_n", *SURE, *DISTINCT, "weighted", "mixed")
PROBLEMS, SEEDS = 334, (0, 1, 2)
ROOT = Path(__file__).parents[1]


class Bench:
    """The policy, the verifiers, and the folder in which everything is kept."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.policy = TransformersPolicy.from_pretrained(embedded_folder())
        self.verifier = load_verifier(arguments.verifier, policy_tokenizer=self.policy.tokenizer)
        self.started = time.perf_counter()

    def tell(self, done: int, total: int) -> None:
        print(f"{done}/{total}, {time.perf_counter() - self.started:.0f} s", flush=True)

    def played(self, part: str, families: Any, **options: Any) -> Comparison:
        fixed: dict[str, Any] = {
            "prompts": COUNTDOWN, "families": families, "problems": PROBLEMS, "seeds": SEEDS, "verifier": self.verifier,
            "sampling": DRAW, "samples": 2, "folder": self.work / part, "on_progress": self.tell, "chunk": 167,
        }  # fmt: skip
        policy = options.pop("policy", self.policy)
        return compare(policy, TASK, **(fixed | options))

    @property
    def plan_path(self) -> Path:
        return self.work / "plan.json"

    def tune(self) -> None:
        """All strategies on one set of training problems; how sure to be, and whether to repeat, on that and
        another."""
        options: dict[str, Any] = {"split": "train", "chunk": 200, "problems": 400}
        first = self.played("tune", ("majority", "weighted", "revise", "mixed"), seeds=(201,), **options)
        second = self.played("tune-sure", ("best_of_n", *SURE, *DISTINCT), seeds=(201, 202), **options)
        both = Comparison(second.asked, first.measured + second.measured, [], first.answer_tokens)
        tune(both, measure_by="verifier", samples=2, task=TASK.name, policy="embedded").save(self.plan_path)
        print(self.plan_path.read_text())

    def test(self) -> Comparison:
        return self.played("test", (*FAMILIES, "compute_optimal"), plan=SearchPlan.load(self.plan_path))

    def beam(self) -> Comparison:
        steps = load_verifier(self.arguments.step_verifier, policy_tokenizer=self.policy.tokenizer)
        return self.played(
            "beam",
            ("beam", "best_of_n", "revise"),
            step_verifier=steps,
            answers=(4, 16, 64),
        )

    def small(self) -> Comparison:
        small = TransformersPolicy.from_pretrained(self.arguments.small)
        return self.played("small", ("majority", "best_of_n"), policy=small)

    def greedy(self) -> Comparison:
        """The embedded policy's one greedy answer to the problems of `small`."""
        draw = Sampling(temperature=0.0, max_new_tokens=24)
        return self.played("greedy", ("majority",), answers=(1,), sampling=draw)

    def adapt(self) -> dict[str, Any]:
        """Three seeds of 334 + 334 problems; every seed begins with the base again."""
        path = self.work / "adapt.json"
        rows = json.loads(path.read_text()) if path.exists() else []
        for seed in SEEDS[len(rows) :]:
            problems = TASK.problems("test", 2 * PROBLEMS, seed=seed)
            mine, others = problems[:PROBLEMS], problems[PROBLEMS:]
            policy = TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=24)
            rates = {"adapted": mine, "others": others}
            before = {
                name: measured_accuracy(policy, some, TASK.checker, COUNTDOWN, 16, seed) for name, some in rates.items()
            }
            changes = {"steps": 40, "min_agreement": 0.25, "seed": seed, "optimiser": {"problems_per_step": 32}}
            settings = combine(AdaptSettings(), changes, [])
            adapted = adapt(policy, mine, prompts=COUNTDOWN, out=self.work / f"adapt-{seed}", settings=settings)
            after = {
                name: measured_accuracy(policy, some, TASK.checker, COUNTDOWN, 16, seed) for name, some in rates.items()
            }
            rows.append({
                "seed": seed, "before": before, "after": after, "held_back": adapted.held_back,
                "stop_reason": adapted.stop_reason, "agreement": [batch.agreement for batch in adapted.batches],
            })  # fmt: skip
            path.write_text(json.dumps(rows, indent=1))
            print(json.dumps(rows[-1], indent=1), flush=True)
        return rows

    def report(self) -> None:
        played = self.test()
        measured, asked = list(played.measured), played.asked
        points = summarise(asked, measured)
        best = next(
            point for point in points if point.family == "best_of_n" and point.answers == 64 and point.bin is None
        )
        families = sorted({one.family for one in measured})
        result: dict[str, Any] = {
            "problems": len(asked), "seeds": list(SEEDS), "answer_tokens": played.answer_tokens,
            "by_seed": _by_seed(played), "points": as_rows(points),
            "best_of_64": {
                "accuracy": best.accuracy,
                "tokens": best.tokens,
                "share_of_its_tokens_to_reach_it": _shares(points, families, best.accuracy, best.tokens),
                "share_of_its_tokens_to_come_within_a_point": _shares(
                    points, families, best.accuracy - 0.01, best.tokens
                ),
                "others_at_64_less_it": {family: _paired(measured, family, "best_of_n", 64) for family in families},
            },
            "plan": SearchPlan.load(self.plan_path).model_dump(),
        }  # fmt: skip
        if (self.work / "beam").exists():
            result["beam"] = as_rows(point for point in self.beam().points if point.bin is None)
        if (self.work / "small").exists():
            result["small"] = self._small_against_large(played)
        if (self.work / "adapt.json").exists():
            result["adapt"] = json.loads((self.work / "adapt.json").read_text())
        (ROOT / "benchmarks/results/scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        shown = [point for point in points if point.family not in (SURE[0], *DISTINCT[::3])]
        (ROOT / "docs/scale.svg").write_text(scale_svg(shown), encoding="utf-8")
        print(json.dumps({name: result[name] for name in ("by_seed", "best_of_64")}, indent=1))

    def _small_against_large(self, large: Comparison) -> dict[str, Any]:
        """Equal floating-point operations per answer: 2 for each weight and token, read or written (Kaplan et al.
        2020); the small policy's include its verifier's, which reads prompt, answer and review."""
        small, greedy = self.small(), self.greedy()
        mine = {one.problem for one in small.asked}
        weights = {
            "large": _weights(self.policy.model),
            "small": _weights(TransformersPolicy.from_pretrained(self.arguments.small).model),
            "verifier": sum(_weights(model) for model in self.verifier._models()),
        }
        bins = {name: bin_ for name, bin_ in oracle_bins(large.asked, 5).items() if name in mine}
        prompt, answer, read = 7, large.answer_tokens, 7 + 2 * large.answer_tokens
        rows = []
        for family, per_answer in (("majority", 0.0), ("best_of_n", weights["verifier"] * read)):
            for answers in BUDGETS:
                flops = 2 * (weights["small"] * (prompt + answers * answer) + answers * per_answer)
                rows.append(
                    {
                        "policy": "small",
                        "family": family,
                        "answers": answers,
                        "flops": flops,
                        **_accuracy(small, family, answers, bins),
                    }
                )
        one = {
            "policy": "large",
            "family": "one greedy answer",
            "answers": 1,
            "flops": 2 * weights["large"] * (prompt + answer),
        }
        rows.append({**one, **_accuracy(greedy, "majority", 1, bins)})
        for answers in BUDGETS:
            flops = 2 * weights["large"] * (prompt + answers * answer)
            rows.append(
                {
                    "policy": "large",
                    "family": "majority",
                    "answers": answers,
                    "flops": flops,
                    **_accuracy(large, "majority", answers, bins),
                }
            )
            rows.append({
                "policy": "large", "family": "best_of_n", "answers": answers,
                "flops": flops + 2 * answers * weights["verifier"] * read,
                **_accuracy(large, "best_of_n", answers, bins),
            })  # fmt: skip
        return {"weights": weights, "rows": rows}


def _accuracy(played: Comparison, family: str, answers: int, bins: dict[str, int]) -> dict[str, Any]:
    rows = [
        one
        for one in played.measured
        if (one.family, one.answers) == (family, answers) and one.problem in bins and one.correct is not None
    ]
    by_bin: dict[int, list[float]] = {}
    for one in rows:
        by_bin.setdefault(bins[one.problem], []).append(one.correct or 0.0)
    whole = [score for scores in by_bin.values() for score in scores]
    return {
        "n": len(whole),
        "accuracy": sum(whole) / len(whole),
        "by_difficulty": {bin_: sum(by_bin[bin_]) / len(by_bin[bin_]) for bin_ in sorted(by_bin)},
    }


def _shares(points: Any, families: list[str], accuracy: float, tokens: float) -> dict[str, float | None]:
    """Of `tokens`, what each family takes to reach `accuracy`; None if it does not."""
    reached = {family: tokens_to_reach(points, family, accuracy) for family in families}
    return {family: None if value is None else value / tokens for family, value in reached.items()}


def _paired(measured: Any, family: str, other: str, answers: int) -> dict[str, Any]:
    """Difference of two strategies on the same problems, with its paired 95 % interval."""
    scores = {
        name: {one.problem: one.correct for one in measured if (one.family, one.answers) == (name, answers)}
        for name in (family, other)
    }
    shared = [problem for problem in scores[family] if problem in scores[other]]
    fixed = sum(scores[family][problem] == 1 and scores[other][problem] == 0 for problem in shared)
    broken = sum(scores[family][problem] == 0 and scores[other][problem] == 1 for problem in shared)
    difference = (fixed - broken) / len(shared) if shared else None
    return {
        "difference": difference,
        "ci95": paired_interval(fixed, broken, len(shared)),
        "fixed": fixed,
        "broken": broken,
    }


def _by_seed(played: Comparison) -> dict[str, dict[str, list[float]]]:
    """Accuracy of each family and budget for each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        mine = [one for one in played.measured if one.problem.startswith(f"{seed}/")]
        for family, answers in sorted({(one.family, one.answers) for one in mine}):
            scores = [one.correct or 0.0 for one in mine if (one.family, one.answers) == (family, answers)]
            found.setdefault(family, {}).setdefault(str(answers), []).append(round(sum(scores) / len(scores), 4))
    return found


def _weights(model: Any) -> int:
    """Weights that a token passes through: all but the embedding, which is looked up, plus the output layer it is
    tied to."""
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verifier", type=Path, required=True)
    parser.add_argument("--step-verifier", type=Path)
    parser.add_argument("--small", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["tune", "test", "report"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    for part in arguments.parts:
        print(f"== {part}", flush=True)
        getattr(bench, part)()


if __name__ == "__main__":
    main()
