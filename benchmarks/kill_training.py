"""kill -9 at random moments of a run of one's own graph: it resumes, and ends bit-equal to one that nobody killed.

    python benchmarks/kill_training.py --kills 50

Every run is a process of its own; what it trains is the embedded policy in a small graph.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

STEPS = 12


class Game(TypedDict, total=False):
    """The state of the graph."""

    question: str
    answer: str


def run(out: Path) -> None:
    """Train to the end, from the last checkpoint if there is one."""
    from langgraph.graph import END, START, StateGraph

    from selfcorrect.agents.policies.pretrained import embedded_folder
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.state import Message
    from selfcorrect.tasks.countdown import CountdownTask
    from selfcorrect.training.own_graph import train
    from selfcorrect.training.ppo.config import TurnPPOConfig

    policy = TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=24)

    async def write(state: Game) -> Game:
        generation = await policy.generate([Message(role="user", content=state["question"])], Sampling())
        return {"answer": generation["text"]}

    graph = StateGraph(Game).add_node("write", write).add_edge(START, "write").add_edge("write", END).compile()
    train(
        graph,
        CountdownTask(3),
        policy=policy,
        reward_fn=lambda state, calls: [float("=" in call.text) + len(call.text) / 100 for call in calls],
        inputs=lambda problem: {"question": problem.prompt},
        config=TurnPPOConfig(
            output_dir=out, steps=STEPS, save_every=1, problems_per_step=4, episodes_per_problem=4, learning_rate=1e-4
        ),
        held_out=[],
        resume=(out / "config.yaml").is_file(),
    )


def outcome(out: Path) -> dict[str, Any]:
    """What must not depend on kills: the weights, and the figures but for times."""
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in step.items() if "second" not in name} for step in steps]
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    return {"weights": weights, "steps": [(step["step"], step["tokens"], step["calls"]) for step in kept]}


def killed_until_done(out: Path, dice: random.Random, seconds: float, left: int) -> int:
    """Run and kill, until a run ends by itself; how many were killed."""
    command = [sys.executable, __file__, "--run", str(out)]
    kills = 0
    while True:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                _, said = process.communicate(timeout=dice.uniform(0.3, 1.0) * seconds if kills < left else None)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
            if process.returncode != 0:
                raise RuntimeError(f"a resumed run failed after {kills} kills: {said[-2000:]}")
            return kills


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, help="be one run (for the processes that are killed)")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.run is not None:
        run(chosen.run)
        return
    dice = random.Random(chosen.seed)
    with TemporaryDirectory() as made:
        folder, began = Path(made), time.monotonic()
        killed_until_done(folder / "whole", dice, 0.0, 0)
        seconds, kills, runs = time.monotonic() - began, 0, 0
        expected = outcome(folder / "whole")
        while kills < chosen.kills:
            out = folder / str(runs)
            kills += killed_until_done(out, dice, seconds, min(4, chosen.kills - kills))
            runs += 1
            if outcome(out) != expected:
                raise RuntimeError(f"run {runs} ended otherwise than the one that nobody killed")
        print(json.dumps({"kills": kills, "runs": runs, "bit_equal": True, "seconds_undisturbed": round(seconds, 1)}))


if __name__ == "__main__":
    main()
