"""Our update step (per-turn PPO) against TRL's own GRPO step, on the same tokens, in turn.

    python benchmarks/update_step.py [--looks] [--rounds 20] [--json]

Both compute log-probabilities, entropy, KL to a reference and the gradient for one batch of 256 played episodes of the
embedded policy; sampling and the optimiser are left out, they are the same code for both. With `--looks` they are 128
episodes of `embedded-looks`, which differ in length: it ends them by its own word after one to nine answers.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from trl import GRPOTrainer

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


def measure(rounds: int, *, looks: bool) -> dict[str, Any]:
    """Seconds of one step of each, and the ratio pair by pair."""
    task, problems = CountdownTask(4), 16 if looks else 32
    policy = TransformersPolicy.from_pretrained(str(embedded_folder("embedded-looks" if looks else "embedded")))
    loop: dict[str, Any] = {"critique": "self", "revisions": 8} if looks else {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = TurnPPOTrainer(
            policy,
            build_graph(policy, prompts=COUNTDOWN, **loop),
            task.problems("train", problems),
            lambda batch: CheckerRewards(StageTwo(alpha=2.0), task.checker),
            TurnPPOConfig(output_dir=Path(folder), steps=1, problems_per_step=problems),
        )
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        inputs = trainer._generate_and_score_completions(
            [{"problem": index, "prompt": ""} for index in range(problems) for _ in range(8)]
        )
        trainer.beta = 0.01  # TRL's own step then has its KL term too
        ours = lambda: trainer._compute_loss(trainer.model, inputs).backward()
        trls = lambda: GRPOTrainer._compute_loss(trainer, trainer.model, inputs).backward()
        ours(), trls()
        pairs = [(_seconds(ours), _seconds(trls)) for _ in range(rounds)]
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    return {
        "tokens": int(inputs["num_items_in_batch"]),
        "padded": 1 - float(inputs["completion_mask"].float().mean()),
        "rounds": rounds,
        "selfcorrect_seconds": statistics.median(mine for mine, _ in pairs),
        "trl_seconds": statistics.median(theirs for _, theirs in pairs),
        "ratio_median": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
    }


def _seconds(step: Any) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--looks", action="store_true", help="episodes of one to nine answers")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, looks=arguments.looks)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{result['tokens']} learning tokens, {result['padded']:.0%} of the positions padding, "
            f"{result['rounds']} rounds, alternating"
        )
        print(f"selfcorrect {result['selfcorrect_seconds']:.3f} s   TRL GRPO {result['trl_seconds']:.3f} s")
        print(
            f"ratio median {result['ratio_median']:.3f} (min {result['ratio_min']:.3f}, max {result['ratio_max']:.3f})"
        )
