"""What one of several processes runs: two batches of training on a small model, started by torch's launcher.

python -m torch.distributed.run --nproc_per_node 2 train_as_one_of_many.py MODEL OUT
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


@dataclass(frozen=True)
class LikesEven:
    """A judge that even a random policy can please: correct is an answer that begins with an even number."""

    async def check(self, response: str, reference: Any) -> Verdict:
        word = (response.split() or [""])[0]
        return Verdict(Status.CORRECT if word.isdigit() and int(word) % 2 == 0 else Status.WRONG)


def train(model: Path, out: Path) -> TurnPPOTrainer:
    policy = TransformersPolicy.from_pretrained(str(model), max_new_tokens=5, device="cpu")
    judged: Any = CheckerRewards(StageTwo(alpha=1.0, beta1=0.05), LikesEven())  # type: ignore[arg-type]
    config = TurnPPOConfig(
        output_dir=out, steps=2, problems_per_step=4, episodes_per_problem=4, learning_rate=1e-2, seed=3,
    )  # fmt: skip
    problems = CountdownTask(3).problems("train", 8)
    trainer = TurnPPOTrainer(
        policy, build_graph(policy, prompts=COUNTDOWN), problems, lambda batch: judged, config, shuffled=True
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    model_folder, out_folder = map(Path, sys.argv[1:])
    trained = train(model_folder, out_folder / "checkpoints")
    if trained.accelerator.is_main_process:
        trained.accelerator.unwrap_model(trained.model).save_pretrained(out_folder)
        (out_folder / "log.json").write_text(json.dumps(trained.state.log_history), encoding="utf-8")
