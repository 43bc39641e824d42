"""Adds the seeds of later runs to committed results, whose own runs are gone.

    python benchmarks/more_seeds.py benchmarks/results/looks.json runs/looks/compare.json
    python benchmarks/more_seeds.py benchmarks/results/stage-split.json runs/split/compare.json --part demo

Both files must be of one task, policy, temperature and number of problems, and no arm may have a seed in both. The
answers to single problems are not in such files, so tests of joined seeds are paired by seed: their intervals are about
other seeds on the same problems, as those of the means are. Arms and tests that gain no seed stay as they are, and so
do budgets, curves and further exams, which are those of the first runs.
"""

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfcorrect.files import finite, write_whole
from selfcorrect.training.compare.result import verdict
from selfcorrect.training.compare.statistics import Difference, holm, mean_over_seeds, paired_difference

SAME = ("task", "policy", "problems", "temperature", "reference")
AVERAGED = ("tokens_per_episode", "truncated", "unjudged")
WAYS = ("greedy", "sampled")

Row = Mapping[str, Any]
"""The figures of an arm, as `comparison_result` writes them."""


def joined(kept: Row, more: Row) -> dict[str, Any]:
    """The results `kept`, with the seeds of `more`.

    Raises:
        SystemExit: the two are no parts of one comparison.
    """
    for name in SAME:
        if kept[name] != more[name]:
            raise SystemExit(f"{name}: {kept[name]!r} in the results and {more[name]!r} in those to be added")
    result = {**kept, "arms": {**kept["arms"], **more["arms"]}}
    result["seeds"] = sorted({*kept["seeds"], *more["seeds"]})
    result["budgets"] = {**more["budgets"], **kept["budgets"]}
    result["alarms"] = _alarms(kept["alarms"], more["alarms"])
    for way in WAYS:
        result[way] = {arm: _row(arm, kept[way].get(arm), more[way].get(arm)) for arm in _names(kept[way], more[way])}
        grown = {arm for arm in result[way] if result[way][arm] != kept[way].get(arm)}
        result[f"{way}_tests"] = _tests(result[way], kept["reference"], grown, kept[f"{way}_tests"], kept["problems"])
    plain: dict[str, Any] = finite(result)
    return plain


def _names(*mappings: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(name for mapping in mappings for name in mapping)


def _alarms(kept: Row, more: Row) -> dict[str, dict[str, list[int]]]:
    """By arm and alarm: the seeds in whose training it stood."""
    both = {arm: (kept.get(arm, {}), more.get(arm, {})) for arm in _names(kept, more)}
    return {
        arm: {alarm: sorted({*old.get(alarm, []), *new.get(alarm, [])}) for alarm in _names(old, new)}
        for arm, (old, new) in both.items()
    }


def _row(arm: str, kept: Row | None, more: Row | None) -> Row:
    if kept is None or more is None:
        return kept or more or {}
    if len(kept["seeds"]) == 1 and all(kept[name] == more[name] for name in ("accuracy_t1", "accuracy_t2")):
        return kept  # greedy answers of what was not trained, which are the same for every seed
    if both := sorted({*kept["seeds"]} & {*more["seeds"]}):
        raise SystemExit(f"{arm}: seeds {both} are in both files")
    if kept["longest"] != more["longest"]:
        raise SystemExit(f"{arm}: episodes of {kept['longest']} answers, and of {more['longest']}")
    row: dict[str, Any] = {"seeds": [*kept["seeds"], *more["seeds"]], "longest": kept["longest"]}
    for figure in (name for name, value in kept.items() if isinstance(value, dict)):
        row[figure] = _mean(figure, [*kept[figure]["by_seed"], *more[figure]["by_seed"]])
    counts = len(kept["seeds"]), len(more["seeds"])
    for figure in AVERAGED:
        row[figure] = (kept[figure] * counts[0] + more[figure] * counts[1]) / sum(counts)
    return row


def _mean(figure: str, by_seed: list[float | None]) -> dict[str, Any]:
    known = [value for value in by_seed if value is not None]
    mean = mean_over_seeds(known, is_share=not figure.startswith(("delta", "answers", "tokens")))
    return {"mean": mean.mean, "interval": list(mean.interval), "by_seed": by_seed}


def _tests(
    rows: Mapping[str, Row], reference: str, grown: set[str], kept: Mapping[str, Mapping[str, Any]], problems: int
) -> dict[str, dict[str, Any]]:
    """The tests against the reference: those of arms that gained seeds, or all if the reference did, made anew."""
    tests: dict[str, dict[str, Any]] = {}
    for figure in kept:
        made = dict(kept[figure])
        for arm in rows:
            if arm != reference and (arm in grown or reference in grown):
                known = made[arm]["seeds"] if arm in made else 1
                made |= _difference(arm, rows[reference], rows[arm], figure, problems, more_than=known)
        adjusted = holm({arm: test["p"] if test["p"] is not None else math.nan for arm, test in made.items()})
        tests[figure] = {
            arm: {**test, "p_holm": adjusted[arm], "verdict": verdict(_as_difference(test), adjusted[arm])}
            for arm, test in made.items()
        }
    return tests


def _difference(
    arm: str, one: Row, other: Row, figure: str, problems: int, *, more_than: int
) -> dict[str, dict[str, Any]]:
    """The test of an arm, paired by seed; nothing where the two have no more seeds in common than so many."""
    a, b = _by_seed(one, figure), _by_seed(other, figure)
    common = [seed for seed in a if seed in b]
    if len(common) <= more_than:
        return {}
    difference = paired_difference([[a[seed]] for seed in common], [[b[seed]] for seed in common])
    return {arm: {**asdict(difference), "problems": problems, "paired": "by seed"}}


def _by_seed(row: Row, figure: str) -> dict[int, float]:
    name = f"accuracy_t{row['longest']}" if figure == "accuracy_final" else figure
    return dict(zip(row["seeds"], row[name]["by_seed"], strict=True))


def _as_difference(test: Row) -> Difference:
    low, high = test["interval"]
    p = math.nan if test["p"] is None else test["p"]
    return Difference(test["mean"], (low, high), p, test["seeds"], test["problems"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="is written anew")
    parser.add_argument("more", type=Path, help="compare.json of the later runs")
    parser.add_argument("--part", help="where the results hold several comparisons: the one to add to")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    more = json.loads(arguments.more.read_text(encoding="utf-8"))
    if arguments.part is None:
        results = joined(results, more)
    else:
        results[arguments.part] = joined(results[arguments.part], more)
    write_whole(arguments.results, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
