"""What the LangGraph machine costs: milliseconds per episode, with a policy and a checker that cost nothing.

    python benchmarks/graph_overhead.py [--rounds 20] [--json FILE]

An episode is an attempt and one revision: two nodes, or four where both answers are judged. At a concurrency of C, C
episodes share one event loop, as in training. "Per episode" is the time of a round of C divided by C: what an episode
adds to a batch. "Latency" is how long an episode takes from its own beginning to its own end, while the others take
their turns.
"""

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from selfcorrect.agents.episodes import Graph, initial_state, rare_garbage_collection
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.problem import Problem

CONCURRENCY = (1, 32, 256)
PROBLEM = Problem(id="p", prompt="3 5 7 get 56 :", reference=None, checker="none")


class Free:
    """A checker that costs nothing."""

    async def check(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.CORRECT)

    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.CORRECT)

    def validate_reference(self, reference: Any) -> str | None:
        return None


def graphs() -> dict[str, Graph]:
    policy = ScriptedPolicy(["3 + 5 = 8", "8 * 7 = 56"])
    return {
        "two turns": build_graph(policy),
        "two turns, judged": build_graph(policy, checker=Free()),
        "two turns, judged, checkpoints in memory": build_graph(policy, checker=Free(), checkpointer=InMemorySaver()),
    }


async def without_graph(number: int) -> None:
    """The same two policy calls, one after the other, without LangGraph."""
    policy = ScriptedPolicy(["3 + 5 = 8", "8 * 7 = 56"])
    first = await policy.generate([{"role": "user", "content": PROBLEM.prompt}], Sampling())
    await policy.generate([{"role": "user", "content": "again :"}], Sampling(), after=first)


def measure(one: Callable[[int], Any], concurrency: int, rounds: int) -> dict[str, float]:
    """Milliseconds, p50 and p95 over rounds (per episode) and over episodes (latency)."""
    shares: list[float] = []
    latencies: list[float] = []

    async def timed(number: int) -> None:
        began = time.perf_counter()
        await one(number)
        latencies.append(time.perf_counter() - began)

    async def all_rounds() -> None:
        for number in range(rounds):
            began = time.perf_counter()
            await asyncio.gather(*(timed(number * concurrency + index) for index in range(concurrency)))
            shares.append((time.perf_counter() - began) / concurrency)

    asyncio.run(all_rounds())  # warm caches
    shares.clear()
    latencies.clear()
    with rare_garbage_collection():
        asyncio.run(all_rounds())
    return {
        "per_episode_p50": 1000 * quantile(shares, 0.5),
        "per_episode_p95": 1000 * quantile(shares, 0.95),
        "latency_p50": 1000 * quantile(latencies, 0.5),
        "latency_p95": 1000 * quantile(latencies, 0.95),
    }


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def player(graph: Graph) -> Callable[[int], Any]:
    stored = graph.checkpointer is not None
    names = iter(range(10**9))

    def play_one(number: int) -> Any:
        config: Any = {"configurable": {"thread_id": str(next(names))}} if stored else None
        return graph.ainvoke(initial_state(PROBLEM, number), config)

    return play_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=20, help="of each concurrency; ten times as many of single episodes"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kinds = {"no graph": without_graph, **{name: player(graph) for name, graph in graphs().items()}}
    rows = [
        {
            "graph": name,
            "concurrent": concurrency,
            **measure(one, concurrency, options.rounds * (10 if concurrency == 1 else 1)),
        }
        for name, one in kinds.items()
        for concurrency in CONCURRENCY
    ]
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {options.rounds} rounds "
        "each; ms"
    )
    print(f"{'':42} {'concurrent':>10} {'per episode p50':>16} {'p95':>7} {'latency p50':>12} {'p95':>7}")
    for row in rows:
        print(
            f"{row['graph']:42} {row['concurrent']:>10} {row['per_episode_p50']:>16.2f} {row['per_episode_p95']:>7.2f} "
            f"{row['latency_p50']:>12.2f} {row['latency_p95']:>7.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
