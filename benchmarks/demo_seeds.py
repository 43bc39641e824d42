"""A preset over several seeds: figures of every seed, their mean, and a plot.

    python benchmarks/demo_seeds.py --preset demo --seeds 0 1 2 --runs runs/seeds

Runs that are finished are not run again. Writes benchmarks/results/PRESET.json and docs/PRESET.svg.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.reporting.charts import on_any_page
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import PRESETS

ROOT = Path(__file__).parents[1]
FIGURES = ("accuracy_t1", "accuracy_t2", "delta", "i_to_c", "c_to_i", "unchanged")


def run(preset: str, seed: int, runs: Path) -> RunDirectory:
    """The finished run of one seed, trained now if it is not there."""
    directory = RunDirectory(runs / f"{preset}-{seed}")
    if directory.read_final() is None:
        started = directory.config_path.exists()
        train_score(PRESETS[preset].model_copy(update={"seed": seed}), out=directory.path, resume=started)
    return directory


def summary(directories: list[RunDirectory]) -> dict[str, Any]:
    """Per seed, and mean and standard deviation over seeds, before and after."""
    finals = [directory.read_final() or {} for directory in directories]
    table: dict[str, Any] = {"seeds": finals, "mean": {}, "sd": {}}
    for when in ("before", "after"):
        for name in FIGURES:
            values = [final[when][name] for final in finals]
            table["mean"].setdefault(when, {})[name] = statistics.fmean(values)
            table["sd"].setdefault(when, {})[name] = statistics.stdev(values) if len(values) > 1 else None
    return table


def plot(directories: list[RunDirectory], table: dict[str, Any], path: Path) -> None:
    """Sampled accuracy of both turns while training, and greedy accuracy before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(2, 1))
    for turn, colour in ((1, "#7a869a"), (2, "#2da44e")):
        curves = [[step[f"accuracy_t{turn}"] for step in directory.read_metrics()] for directory in directories]
        for number, curve in enumerate(curves):
            left.plot(_smooth(curve), color=colour, alpha=0.7, label=f"turn {turn}" if number == 0 else None)
        for position, when in enumerate(("before", "after")):
            mean, sd = table["mean"][when][f"accuracy_t{turn}"], table["sd"][when][f"accuracy_t{turn}"]
            right.bar(position + 0.36 * (turn - 1), mean, 0.34, yerr=sd or 0, color=colour, capsize=3)
            right.text(position + 0.36 * (turn - 1), mean + (sd or 0) + 0.015, f"{mean:.3f}", ha="center", fontsize=8)
    left.set(
        xlabel="step (256 sampled episodes each)", ylabel="accuracy", title=f"while training, {len(directories)} seeds"
    )
    left.legend(frameon=False)
    right.set(xticks=(0.18, 1.18), xticklabels=("before", "after"), ylim=(0, 0.7))
    right.set_title("greedy, 2,000 held-out problems", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    path.write_text(on_any_page(path.read_text(encoding="utf-8")), encoding="utf-8")


def _smooth(values: list[float], window: int = 10) -> list[float]:
    return [statistics.fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    directories = [run(arguments.preset, seed, arguments.runs) for seed in arguments.seeds]
    table = summary(directories)
    (ROOT / "benchmarks" / "results" / f"{arguments.preset}.json").write_text(json.dumps(table, indent=2) + "\n")
    plot(directories, table, ROOT / "docs" / f"{arguments.preset}.svg")
    for when in ("before", "after"):
        figures = (f"{name} {table['mean'][when][name]:.3f} ± {table['sd'][when][name] or 0:.3f}" for name in FIGURES)
        print(when, "  ".join(figures))


if __name__ == "__main__":
    main()
