"""The committed comparison of the arms on the embedded policy.

    python benchmarks/compare.py --runs runs/compare --seeds 3

What is finished in the folder is not run again. Writes benchmarks/results/compare.json and docs/compare.svg. `--draw`
only draws the plot anew from the results that are there.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfcorrect.settings import combine
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.compare.comparison import Comparison, SilentComparison, plan_budgets, run_comparison
from selfcorrect.training.compare.report import difference_text, markdown_table, save_drawing
from selfcorrect.training.compare.result import write_comparison
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.settings import DEMO

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "compare.json"
DRAWING = ROOT / "docs" / "compare.svg"

MAIN = ("score", "multi-turn", "single-turn", "star", "star-plus", "pair-sft")
OTHERS = (
    "base",
    "sample-again",
    "self-refine",
    "star-single",
    "star-rationalised",
    "pair-sft-plus",
    "score-no-stage1",
    "score-no-shaping",
    "score-stage2-star",
    "pag",
)
ORDER = (
    "base", "sample-again", "self-refine", "star", "star-plus", "star-single", "star-rationalised", "pair-sft",
    "pair-sft-plus", "single-turn", "multi-turn", "score", "score-no-stage1", "score-no-shaping", "score-stage2-star",
    "pag",
)  # fmt: skip
"""Of the table, which holds those that were run."""

SETTINGS = (
    "score.stage_one_steps=24",
    "score.stage_two_steps=72",
    "optimiser.learning_rate=2.5e-4",
    "score.beta_first=0.05",
    "optimiser.problems_per_step=16",
    "evaluation.problems=500",
    "evaluation.every=24",
    "save_every=24",
    "star.loops=3",
    "optimiser.adam_beta2=0.999",
)
"""Over the preset `demo`: fewer steps of half its episodes, so half its rate; five seeds of all arms take four hours
of one core; a short Stage I; Adam as it was when the results were made, before the demo's was changed."""


class Lines(SilentComparison):
    """One line a part."""

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        print(f"{time.strftime('%H:%M:%S')} [{part}/{parts}] {arm}, seed {seed}", file=sys.stderr, flush=True)
        return SilentProgress()


def comparison_of(arms: list[str], seeds: list[int]) -> Comparison:
    return Comparison(arm_specs(arms), combine(DEMO, {}, SETTINGS), seeds, problems=2000, temperature=0.7)


def write_results(runs: Path, seeds: list[int]) -> Mapping[str, Any]:
    """Results and plot of everything that is finished in `runs`."""
    present = [arm for arm in ORDER if any((runs / arm / f"seed-{seed}" / "greedy.json").exists() for seed in seeds)]
    comparison = comparison_of(present, seeds)
    result = write_comparison(comparison, runs, plan_budgets(comparison, runs)[1], reference="score")
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_drawing(result, DRAWING)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default=",".join((*MAIN, *OTHERS)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--draw", action="store_true", help="only draw the plot, from the committed results")
    parser.add_argument("--collect", action="store_true", help="only write the results of what is finished")
    arguments = parser.parse_args()
    if arguments.draw:
        save_drawing(json.loads(RESULTS.read_text(encoding="utf-8")), DRAWING)
        return
    seeds = list(range(arguments.seeds))
    if not arguments.collect:
        run_comparison(comparison_of(arguments.arms.split(","), seeds), arguments.runs, Lines())
    result = write_results(arguments.runs, seeds)
    for way in ("greedy", "sampled"):
        print(f"{way}\n{markdown_table(result, way)}")
        for figure, tests in result[f"{way}_tests"].items():
            for arm, test in tests.items():
                print(difference_text(result["reference"], arm, figure, test))


if __name__ == "__main__":
    main()
