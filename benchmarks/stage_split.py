"""How the steps of a preset are split between SCoRe's stages: three quarters for Stage I, a short Stage I, or a
learning rate that begins anew where Stage II begins.

    python benchmarks/stage_split.py --preset demo --runs runs/stage-split --seeds 5 --processes 3
    python benchmarks/stage_split.py --preset demo --runs runs/stage-split --collect

Seed by seed, so that what is finished can be used any time; what is finished in the folder is not run again. Writes
the preset's part of benchmarks/results/stage-split.json; the other preset's stays. `--collect` only writes the results
of what is finished.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from compare_credit import run_parts

from selfcorrect.settings import combine
from selfcorrect.training import PRESETS, Comparison, arm_specs
from selfcorrect.training.compare.comparison import evaluation_of, plan_budgets
from selfcorrect.training.compare.report import difference_text, markdown_table
from selfcorrect.training.compare.result import write_comparison

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "stage-split.json"

SHORT = 6 / 32
"""Stage I's share of the steps that did best among those tried for the comparison of arms; see LOG.md."""
THREE_QUARTERS = 3 / 4

WAYS: Mapping[str, tuple[str, float, str]] = {
    "three-quarters": ("Stage I for three quarters of the steps, one falling rate", THREE_QUARTERS, "carry"),
    "short": ("a short Stage I, one falling rate", SHORT, "carry"),
    "restart": ("Stage I for three quarters of the steps, the rate begins anew", THREE_QUARTERS, "restart"),
}
"""By name: what it is, Stage I's share of the steps, and what happens to the optimiser between the stages."""
REFERENCE = "three-quarters"


def overrides_of(way: str, steps: int) -> list[str]:
    """The settings of a way for a run of `steps` steps in all."""
    _, share, switch = WAYS[way]
    first = round(share * steps)
    return [
        f"score.stage_one_steps={first}",
        f"score.stage_two_steps={steps - first}",
        f"optimiser.stage_switch={switch}",
    ]


def comparison_of(ways: Sequence[str], seeds: Sequence[int], *, preset: str, changes: Sequence[str] = ()) -> Comparison:
    """SCoRe at the preset's settings but for Adam's beta2, which was 0.999 when the results were made. The evaluations
    of the runs themselves are small ones: all ways are evaluated on the same 2,000 problems afterwards."""
    settings = combine(PRESETS[preset], {}, ["evaluation.problems=200", "optimiser.adam_beta2=0.999", *changes])
    (score,) = arm_specs(["score"])
    specs = [dataclasses.replace(score, name=way, says=WAYS[way][0]) for way in ways]
    overrides = {way: overrides_of(way, settings.score.total_steps) for way in ways}
    return Comparison(specs, settings, seeds, problems=2000, temperature=0.7, overrides=overrides)


def write_results(preset: str, runs: Path, seeds: Sequence[int]) -> Mapping[str, Any]:
    """Results of everything that is finished in `runs`."""
    present = [way for way in WAYS if any(evaluation_of(runs, way, seed, "greedy") for seed in seeds)]
    comparison = comparison_of(present, seeds, preset=preset)
    result = write_comparison(comparison, runs, plan_budgets(comparison, runs)[1], reference=REFERENCE)
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    kept[preset] = {**result, "overrides": comparison.overrides}
    RESULTS.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("demo", "full"), default="demo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as policy.device=cuda")
    parser.add_argument("--runs", type=Path, default=Path("runs/stage-split"), help="one folder a preset")
    parser.add_argument("--collect", action="store_true", help="only write the results of what is finished")
    arguments = parser.parse_args()
    seeds = list(range(arguments.seeds))
    if not arguments.collect:
        make = partial(comparison_of, preset=arguments.preset, changes=arguments.set)
        run_parts(make, list(WAYS), seeds, arguments.runs, arguments.processes)
    result = write_results(arguments.preset, arguments.runs, seeds)
    for way in ("greedy", "sampled"):
        print(f"{way}\n{markdown_table(result, way)}")
        for figure, tests in result[f"{way}_tests"].items():
            for arm, test in tests.items():
                print(difference_text(result["reference"], arm, figure, test))


if __name__ == "__main__":
    main()
