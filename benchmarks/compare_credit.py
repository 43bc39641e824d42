"""The committed comparison of ways to give credit: direct multi-turn RL that differs in its credit alone.

    python benchmarks/compare_credit.py --runs runs/compare-credit --seeds 5 --processes 8

Seed by seed, so that what is finished can be used any time; what is finished in the folder is not run again. Writes
benchmarks/results/compare-credit.json. `--collect` only writes the results of what is finished. Of a run the results
need metrics.json, metrics.jsonl, greedy.json and sampled.json alone.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from compare import SETTINGS

from selfcorrect.settings import combine
from selfcorrect.training import DEMO, Comparison, arm_specs, run_comparison
from selfcorrect.training.compare.comparison import SilentComparison, evaluation_of, plan_budgets
from selfcorrect.training.compare.report import difference_text, markdown_table
from selfcorrect.training.compare.result import write_comparison
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "compare-credit.json"

CREDITS: Mapping[str, tuple[str, Sequence[str]]] = {
    "own-given-previous": ("own reward, leave-one-out given the previous score", ["credit={kind: own}"]),
    "return-0.8": ("return across turns, gamma 0.8", ["credit={kind: return_to_go, gamma: 0.8}"]),
    "return-1": ("return across turns, gamma 1", ["credit={kind: return_to_go, gamma: 1.0}"]),
    "own-leave-one-out": ("own reward, leave-one-out", ["credit.kind=own", "optimiser.baseline=leave_one_out"]),
    "outcome": ("last reward to both turns", ["credit.kind=outcome", "optimiser.baseline=leave_one_out"]),
    "progress": ("difference rewards, telescoped", ["credit={kind: progress, gamma: 1.0}"]),
    "gigpo": ("GiGPO", ["credit={kind: anchor_groups}", "optimiser.baseline=leave_one_out"]),
    "mt-grpo": ("MT-GRPO", ["credit={kind: mt_grpo}", "optimiser.baseline=leave_one_out"]),
}
"""By name: what it is, and the settings it takes over those of all."""
REFERENCE = "own-given-previous"


class Lines(SilentComparison):
    """One line a part."""

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        print(f"{time.strftime('%H:%M:%S')} [{part}/{parts}] {arm}, seed {seed}", file=sys.stderr, flush=True)
        return SilentProgress()


def comparison_of(names: Sequence[str], seeds: Sequence[int], changes: Sequence[str] = ()) -> Comparison:
    (multi_turn,) = arm_specs(["multi-turn"])
    specs = [dataclasses.replace(multi_turn, name=name, says=CREDITS[name][0]) for name in names]
    overrides = {name: CREDITS[name][1] for name in names}
    settings = combine(DEMO, {}, [*SETTINGS, *changes])
    return Comparison(specs, settings, seeds, problems=2000, temperature=0.7, overrides=overrides)


def run_parts(
    make: Callable[[Sequence[str], Sequence[int]], Comparison],
    names: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    processes: int,
) -> None:
    """Every name with every seed, seed by seed, so many at once; each in a process of its own.

    Raises:
        Exception: of the first part that failed, when the others are done.
    """
    runs.mkdir(parents=True, exist_ok=True)
    plan_budgets(make(names, seeds), runs)  # measured once, before the processes would each do so
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(_run_part, make, name, seed, runs) for seed in seeds for name in names]
        for part in as_completed(parts):
            if part.exception() is not None:
                print(f"failed: {part.exception()}", file=sys.stderr, flush=True)
    for part in parts:
        part.result()


def _run_part(make: Callable[[Sequence[str], Sequence[int]], Comparison], name: str, seed: int, runs: Path) -> None:
    run_comparison(make([name], [seed]), runs, Lines())


def write_results(runs: Path, seeds: Sequence[int]) -> Mapping[str, Any]:
    """Results of everything that is finished in `runs`."""
    present = [name for name in CREDITS if any(evaluation_of(runs, name, seed, "greedy") for seed in seeds)]
    comparison = comparison_of(present, seeds)
    result = write_comparison(comparison, runs, plan_budgets(comparison, runs)[1], reference=REFERENCE)
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default=",".join(CREDITS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--from-seed", type=int, default=0, help="train no earlier ones")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare-credit"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of all; not in the results")
    parser.add_argument("--collect", action="store_true", help="only write the results of what is finished")
    arguments = parser.parse_args()
    seeds = list(range(arguments.seeds))
    if not arguments.collect:
        make = partial(comparison_of, changes=arguments.set)
        run_parts(make, arguments.arms.split(","), seeds[arguments.from_seed :], arguments.runs, arguments.processes)
    result = write_results(arguments.runs, seeds)
    for way in ("greedy", "sampled"):
        print(f"{way}\n{markdown_table(result, way)}")
        for figure, tests in result[f"{way}_tests"].items():
            for arm, test in tests.items():
                print(difference_text(result["reference"], arm, figure, test))


if __name__ == "__main__":
    main()
