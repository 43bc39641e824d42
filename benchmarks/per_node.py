"""Does a reward for each node teach faster than one reward for all, at equal tokens? The SQL example, five seeds.

Two ways to pay the same graph (write, run, check, rewrite), which start from the same warmed-up model of a seed: each
call for its own work (`per-node`), or every call for whether the last query is right (`broadcast`). Both are measured
by what `broadcast` pays, greedily, on the same held-out questions, whenever training has drawn another 10,000 tokens.

    python benchmarks/per_node.py --out runs/per-node                       # all ten runs, one after the other
    python benchmarks/per_node.py --out runs/per-node --only per-node:3     # one of them
    python benchmarks/per_node.py --out runs/per-node --table               # what the finished marks say

A run is done again from its beginning if it was killed; a finished one is left alone. The marks it has passed are kept.
"""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfcorrect import TransformersPolicy
from selfcorrect.training import SilentProgress
from selfcorrect.training.compare.statistics import mean_over_seeds, paired_difference

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from gallery import Example, mean, trained
from sql_repair.checker import SqlChecker
from sql_repair.traces import example

ARMS = ("per-node", "broadcast")
MARK = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/per-node"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=11, help="of 128 episodes")
    parser.add_argument("--warm-up", type=int, default=300, help="supervised steps")
    parser.add_argument("--held-out", type=int, default=200, help="questions")
    parser.add_argument("--only", metavar="ARM:SEED", help="one run")
    parser.add_argument("--table", action="store_true", help="read what is there, run nothing")
    chosen = parser.parse_args()
    if not chosen.table:
        every = [f"{arm}:{seed}" for seed in range(chosen.seeds) for arm in ARMS]
        for name in [chosen.only] if chosen.only else every:
            arm, _, seed = name.partition(":")
            if arm not in ARMS:
                parser.error(f"--only {name}: the arms are {' and '.join(ARMS)}")
            run(arm, int(seed), chosen)
    if not chosen.only:
        print(table(chosen.out))


def run(arm: str, seed: int, chosen: argparse.Namespace) -> None:
    """One run, to its end, unless it is there already."""
    folder = chosen.out / f"{arm}-{seed}"
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asked = example(chosen.held_out)
    policy = warmed_up(asked, seed, chosen)
    marks = Marks(asked, asked.build(policy), folder / "marks.jsonl")
    marks.measure(0)
    trained(
        asked, policy, folder / "run", seed=seed, batches=chosen.batches, broadcast=arm == "broadcast",
        progress=marks, held_out=[],
    )  # fmt: skip
    shutil.rmtree(folder / "run")  # what is needed of it stands in the marks
    (folder / "done").touch()


def warmed_up(asked: Example, seed: int, chosen: argparse.Namespace) -> TransformersPolicy:
    """The model that both arms of a seed begin with; whoever comes first leaves it for the other."""
    kept = chosen.out / f"warm-{seed}"
    if not kept.exists():
        policy = asked.warmed_up(seed=seed, steps=chosen.warm_up)
        part = chosen.out / f"warm-{seed}-by-{chosen.only or 'all'}"
        policy.model.save_pretrained(part)
        policy.tokenizer.save_pretrained(part)
        if not kept.exists():
            part.rename(kept)
    return TransformersPolicy.from_pretrained(str(kept), template="plain", max_new_tokens=asked.max_new_tokens)


@dataclass
class Marks(SilentProgress):
    """Measures the policy whenever another `MARK` tokens were drawn for training."""

    asked: Example
    graph: Any
    path: Path
    tokens: float = 0.0
    passed: int = 0
    paid: dict[str, float] = field(default_factory=dict)

    def step(self, metrics: Mapping[str, float]) -> None:
        self.tokens += metrics["tokens"]
        while self.tokens >= (self.passed + 1) * MARK:
            self.passed += 1
            self.measure(self.passed * MARK)

    def measure(self, mark: int) -> None:
        """One line: whether the first query of each held-out question is right, and the last."""
        first, last = asyncio.run(played(self.asked, self.graph))
        line = {"mark": mark, "tokens": self.tokens, "first": first, "last": last}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


async def played(asked: Example, graph: Any) -> tuple[list[float], list[float]]:
    """What the first and the last query of every held-out question are worth, greedily."""

    async def one(problem: Any) -> tuple[float, float]:
        queries = {}  # by how often the query was written again
        async for update in graph.astream(asked.inputs(problem), stream_mode="values"):
            if "sql" in update:
                queries[update["rewrites"]] = update["sql"]
        first, *later = (float(SqlChecker().check_sync(sql, problem.reference).correct) for sql in queries.values())
        return first, (later or [first])[-1]

    first, last = zip(*await asyncio.gather(*map(one, asked.held_out)), strict=True)
    return list(first), list(last)


Curve = dict[int, dict[str, Any]]


def table(out: Path) -> str:
    """Rows of marks, of the seeds that both arms have; differences are paired over seeds and questions."""
    curves = {arm: _curves(out, arm) for arm in ARMS}
    seeds = sorted(set.intersection(*(set(found) for found in curves.values())))
    if not seeds:
        return f"no seed in {out} has both arms yet"
    shared = [[curves[arm][seed] for seed in seeds] for arm in ARMS]
    marks = sorted(set.intersection(*(set(curve) for found in shared for curve in found)))
    lines = [f"seeds {seeds}, last query right; first query right", "", *_head()]
    lines += [_row(mark, shared) for mark in marks]
    return "\n".join([*lines, "", _speed(marks, shared)])


def _curves(out: Path, arm: str) -> dict[int, Curve]:
    found = {}
    for path in sorted(out.glob(f"{arm}-*/marks.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        found[int(path.parent.name.rpartition("-")[2])] = {row["mark"]: row for row in rows}
    return found


def _head() -> list[str]:
    names = ["tokens", *ARMS, "difference", "p", "difference of first queries"]
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _row(mark: int, shared: Sequence[Sequence[Curve]]) -> str:
    cells = []
    for found in shared:
        told = mean_over_seeds([mean(curve[mark]["last"]) for curve in found], is_share=True)
        cells.append(f"{told.mean:.3f} [{told.interval[0]:.3f}, {told.interval[1]:.3f}]")
    last, first = (
        paired_difference(*([curve[mark][what] for curve in found] for found in shared)) for what in ("last", "first")
    )
    cells += [f"{last.mean:+.3f} [{last.interval[0]:+.3f}, {last.interval[1]:+.3f}]", f"{last.p:.3f}"]
    cells.append(f"{first.mean:+.3f} [{first.interval[0]:+.3f}, {first.interval[1]:+.3f}]")
    return f"| {mark:,} | {' | '.join(cells)} |"


def _speed(marks: Sequence[int], shared: Sequence[Sequence[Curve]]) -> str:
    """The mean over all marks after the first, a curve's area: how fast, in one number."""
    areas = [[mean([mean(curve[mark]["last"]) for mark in marks[1:]]) for curve in found] for found in shared]
    told = mean_over_seeds([one - other for one, other in zip(*areas, strict=True)])
    shown = ", ".join(f"{arm} {mean(area):.3f}" for arm, area in zip(ARMS, areas, strict=True))
    return (
        f"mean over the marks {MARK:,} to {marks[-1]:,}: {shown}; difference {told.mean:+.3f} "
        f"[{told.interval[0]:+.3f}, {told.interval[1]:+.3f}] (paired by seed, t)"
    )


if __name__ == "__main__":
    main()
