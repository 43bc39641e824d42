"""Warm up, measure, train in the graph, measure again: `python -m sql_repair` in the folder `examples`."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import torch

from selfcorrect import TurnPPOConfig, train
from sql_repair.checker import SqlChecker
from sql_repair.data import SqlTask
from sql_repair.graph import Paid, build, question
from sql_repair.warm_up import tokenizer, untrained, warm_up


async def accuracy(graph: Any, count: int = 200) -> tuple[float, float]:
    """Of the first and of the last query, over held-out questions, with the graph as it is used: greedy."""
    checker, problems = SqlChecker(), SqlTask().problems("test", count)

    async def one(problem: Any) -> tuple[bool, bool]:
        first = ""
        async for update in graph.astream(question(problem), stream_mode="values"):
            first = first or update.get("sql", "")
        judged = [checker.check_sync(sql, problem.reference).correct for sql in (first, update["sql"])]
        return judged[0], judged[1]

    right = await asyncio.gather(*map(one, problems))
    return sum(first for first, _ in right) / count, sum(last for _, last in right) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/sql_repair"))
    parser.add_argument("--warm-up", type=int, default=650, help="supervised steps")
    parser.add_argument("--batches", type=int, default=60, help="batches of episodes")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.manual_seed(chosen.seed)
    policy = untrained(tokenizer())
    warm_up(policy, steps=chosen.warm_up, seed=chosen.seed)
    graph = build(policy)
    print("before: first query {:.3f}, last query {:.3f}".format(*asyncio.run(accuracy(graph))))
    config = TurnPPOConfig(
        output_dir=chosen.out, steps=chosen.batches, problems_per_step=16, episodes_per_problem=8,
        learning_rate=5e-4, minibatches=4, seed=chosen.seed,
    )  # fmt: skip
    trained = train(
        graph, SqlTask(), policy=policy, reward_fn=Paid(SqlChecker()), inputs=question, config=config, kl=0.0
    )
    for step in trained.steps[:: max(1, chosen.batches // 10)]:
        figures = {name: step[name] for name in step if name.startswith("reward/")}
        print(step["step"], " ".join(f"{name.removeprefix('reward/')} {value:.2f}" for name, value in figures.items()))
    print("after:  first query {:.3f}, last query {:.3f}".format(*asyncio.run(accuracy(graph))))


if __name__ == "__main__":
    main()
