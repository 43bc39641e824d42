"""Thinking longer against a larger policy: policies of several sizes that judge their own answers, at equal
floating-point operations.

    python -m selfcorrect.training.pretraining.pretrain --recipe looks --begins-with "" --hidden 64 \\
        --intermediate 176 --solution-steps 2200 --learning-rate 0.02 --mixed-steps 2500 --looks 2 --chain-rows 64 \\
        --beside-rows 64 --chain-gaps 0 --grows-over 0 --chain-verdicts 0.5 --attempts 40000 --out runs/larger/64
    python benchmarks/larger.py --policies runs/larger/32 runs/larger/64 embedded-looks --work runs/larger

Every policy plays each of `FAMILIES` at every budget on the same held-out problems, and gives one greedy answer. The
largest comes last; its pass rates make the bins of difficulty. A policy's operations are 2 for each weight and token
(Kaplan et al. 2020): the problem, read once, and everything generated, verdicts too; the words that ask for a verdict
are left out. Resumable; writes benchmarks/results/larger.json.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from selfcorrect.agents.evaluation import share, wilson
from selfcorrect.agents.policies.pretrained import model_location
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.files import write_whole
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.scaling.measuring import Measured
from selfcorrect.training.scaling.run import Comparison, compare
from selfcorrect.training.scaling.summary import oracle_bins

RESULTS = Path(__file__).parent / "results" / "larger.json"
TASK = CountdownTask(4)
FAMILIES = ("self_judged", "majority")
BUDGETS = (1, 4, 16, 64, 256)
GREEDY = "one greedy answer"
PROMPT_TOKENS = 7
ANSWER_TOKENS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", required=True, help="names or folders, the largest last")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=334, help="of each seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="in mean answers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    played = {name: _played(name, arguments) for name in arguments.policies}
    largest = arguments.policies[-1]
    bins = oracle_bins(played[largest][1].asked, 5)
    result = {
        "task": TASK.name,
        "problems": len(bins),
        "seeds": arguments.seeds,
        "weights": {Path(name).name: weights for name, (weights, *_) in played.items()},
        "rows": [
            row for name, (weights, *parts) in played.items() for row in _rows(Path(name).name, weights, parts, bins)
        ],
    }
    write_whole(RESULTS, json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        print(_line(row))


def _played(name: str, arguments: argparse.Namespace) -> tuple[int, Comparison, Comparison]:
    """The policy's weights, its searches at temperature 1, and its one greedy answer to the same problems."""
    policy = TransformersPolicy.from_pretrained(model_location(name), max_new_tokens=ANSWER_TOKENS)
    fixed: dict[str, Any] = {
        "prompts": COUNTDOWN, "problems": arguments.problems, "seeds": range(arguments.seeds), "policy_name": name,
        "chunk": 167, "on_progress": lambda done, total: print(f"{name}: {done}/{total}", flush=True),
    }  # fmt: skip
    folder = arguments.work / "played" / Path(name).name
    searches = compare(
        policy,
        TASK,
        families=FAMILIES,
        answers=arguments.budgets,
        sampling=Sampling(max_new_tokens=ANSWER_TOKENS),
        folder=folder / "searches",
        **fixed,
    )
    greedy = compare(
        policy,
        TASK,
        families=("majority",),
        answers=(1,),
        sampling=Sampling(temperature=0.0, max_new_tokens=ANSWER_TOKENS),
        folder=folder / "greedy",
        **fixed,
    )
    return sum(parameter.numel() for parameter in policy.model.parameters()), searches, greedy


def _rows(name: str, weights: int, parts: Sequence[Comparison], bins: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row for each family and budget."""
    searches, greedy = parts
    by_strategy: dict[tuple[str, int], list[Measured]] = {(GREEDY, 1): list(greedy.measured)}
    for one in searches.measured:
        by_strategy.setdefault((one.family, one.answers), []).append(one)
    return [
        {"policy": name, "family": family, "answers": answers, **_figures(weights, found, bins)}
        for (family, answers), found in by_strategy.items()
    ]


def _figures(weights: int, found: Sequence[Measured], bins: Mapping[str, int]) -> dict[str, Any]:
    judged = [one for one in found if one.correct is not None]
    right = sum(one.correct == 1 for one in judged)
    tokens = fmean(one.tokens for one in found)
    by_bin = {bin_: [one for one in judged if bins[one.problem] == bin_] for bin_ in sorted(set(bins.values()))}
    return {
        "n": len(judged),
        "accuracy": share(right, len(judged)),
        "ci95": list(wilson(right, len(judged))),
        "tokens": tokens,
        "mflop": 2e-6 * weights * (PROMPT_TOKENS + tokens),
        "by_difficulty": [
            {
                "n": len(some),
                "accuracy": share(sum(one.correct == 1 for one in some), len(some)),
                "mflop": 2e-6 * weights * (PROMPT_TOKENS + fmean(one.tokens for one in some)),
            }
            for some in by_bin.values()
        ],
    }


def _line(row: Mapping[str, Any]) -> str:
    bins = " ".join(f"{one['accuracy']:.3f}@{one['mflop']:.0f}" for one in row["by_difficulty"])
    return (
        f"{row['policy']:16} {row['family']:18} {row['answers']:4}  {row['accuracy']:.3f} "
        f"[{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]  {row['tokens']:.0f} tokens, {row['mflop']:.1f} MFLOP  {bins}"
    )


if __name__ == "__main__":
    main()
