"""What one of several processes runs, started by torch's launcher: two batches of training on a small model, as many
with a critic, the words by which processes agree, and the runs of `arms_of_many`, whose servers stand in the
environment variable SERVERS.

python -m torch.distributed.run --nproc_per_node 2 train_as_one_of_many.py MODEL OUT [OPTIONS]

OPTIONS are TRL's, as JSON; what became of them is written to OUT/options-RANK.json.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers.utils import logging

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import SelfCorrectError, TrainingError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training import processes
from selfcorrect.training.arms.many_turns.judge_then_act import JudgeThenAct
from selfcorrect.training.credit.baselines import leave_one_out_by_kind
from selfcorrect.training.ppo.config import CriticConfig, TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.runs.held_out import evaluate_shared


@dataclass(frozen=True)
class LikesEven:
    """A judge that even a random policy can please: correct is an answer that begins with an even number."""

    async def check(self, response: str, reference: Any) -> Verdict:
        word = (response.split() or [""])[0]
        return Verdict(Status.CORRECT if word.isdigit() and int(word) % 2 == 0 else Status.WRONG)


CRITIC = {"critic": CriticConfig(epochs=2, learning_rate=0.1), "kl": False}


def train(model: Path, out: Path, **settings: Any) -> TurnPPOTrainer:
    policy = TransformersPolicy.from_pretrained(str(model), max_new_tokens=5, device="cpu")
    judged: Any = CheckerRewards(StageTwo(alpha=1.0, beta1=0.05), LikesEven())  # type: ignore[arg-type]
    config = TurnPPOConfig(
        output_dir=out, steps=2, problems_per_step=4, episodes_per_problem=4, learning_rate=1e-2, seed=3, **settings,
    )  # fmt: skip
    problems = CountdownTask(3).problems("train", 8)
    trainer = TurnPPOTrainer(
        policy, build_graph(policy, prompts=COUNTDOWN), problems, lambda batch: judged, config, shuffled=True
    )
    trainer.train()
    return trainer


def says_odd(critique: str) -> bool | None:
    """A random policy's critique, read as a verdict: "wrong" where it begins with an odd number."""
    word = (critique.split() or [""])[0]
    return int(word) % 2 == 1 if word.isdigit() else None


def judged_and_acted(model: Path, out: Path) -> list[list[float]]:
    """Two batches in which verdicts are balanced; the weights of the last batch's verdicts that were paid, and every
    weight of the model."""
    policy = TransformersPolicy.from_pretrained(str(model), max_new_tokens=5, device="cpu")
    paid: Any = CheckerRewards(JudgeThenAct(), LikesEven(), says_odd)  # type: ignore[arg-type]
    config = TurnPPOConfig(
        output_dir=out, steps=2, problems_per_step=4, episodes_per_problem=4, learning_rate=1e-2, seed=3, kl=False,
    )  # fmt: skip
    graph, problems = build_graph(policy, prompts=COUNTDOWN, critique="self"), CountdownTask(3).problems("train", 8)
    trainer = TurnPPOTrainer(policy, graph, problems, lambda batch: paid, config, shuffled=True)
    trainer.train()
    signals = [signal for episode in trainer.last_episodes for signal in episode.signals]
    weights = {signal.reward for signal in signals if signal.kind.startswith("critique") and signal.reward}
    model_now = trainer.accelerator.unwrap_model(trainer.model)
    return [sorted(weights), *[weight.flatten().tolist() for weight in model_now.parameters()]]


def evaluated(model: Path) -> dict[str, Any]:
    """The figures of five held-out problems."""
    policy = TransformersPolicy.from_pretrained(str(model), max_new_tokens=5, device="cpu")
    problems = CountdownTask(3).problems("test", 5)
    report, episodes = evaluate_shared(build_graph(policy, prompts=COUNTDOWN), problems, CountdownTask(3).checker)
    return report.as_dict() | {"ids": [episode["problem"]["id"] for episode in episodes]}


RETURNS = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
GROUPS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
PREVIOUS = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0])


def advantages(here: slice) -> list[float]:
    """Of second answers to two problems, of which these are played here."""
    kinds = torch.zeros_like(GROUPS[here])
    found = leave_one_out_by_kind(RETURNS[here], GROUPS[here], kinds, PREVIOUS[here], names=("answer 2",))
    return list(found.tolist())


def told(action: Any, way: Any) -> str:
    try:
        return str(way(action))
    except SelfCorrectError as error:
        return f"{type(error).__name__}: {error}"


def only_the_second_fails() -> str:
    if processes.rank() == 1:
        raise TrainingError("no room on the second")
    return "well"


def became_of_options(trained: TurnPPOTrainer) -> dict[str, Any]:
    """What transformers, accelerate and torch have made of the options."""
    group, parallel = distributed.distributed_c10d._get_default_group(), trained.model_wrapped
    return {
        "ddp_backend": distributed.get_backend(),
        "ddp_timeout": group._get_backend(torch.device("cpu")).options._timeout.total_seconds(),
        "ddp_find_unused_parameters": parallel.find_unused_parameters,
        "ddp_broadcast_buffers": parallel.broadcast_buffers,
        "ddp_static_graph": parallel.static_graph,
        "ddp_bucket_cap_mb": parallel.bucket_bytes_cap // 2**20,
        "log_level": logging.get_verbosity(),
        "told": trained.args.should_log,
        "saved": sorted(path.name for path in Path(trained.args.output_dir).glob("checkpoint-*")),
    }


def everything(model: Path, out: Path) -> None:
    import arms_of_many  # whoever starts this has put its folder on the path

    trained = train(model, out / "checkpoints")
    if trained.accelerator.is_main_process:
        trained.accelerator.unwrap_model(trained.model).save_pretrained(out)
        (out / "log.json").write_text(json.dumps(trained.state.log_history), encoding="utf-8")
    rank = processes.rank()
    head: Any = train(model, out / "with critic", **CRITIC)._critic
    mine = slice(4 * rank, 4 * rank + 4)
    words = {
        "first alone": told(lambda: f"rank {rank}", processes.by_first),
        "agreed": told(only_the_second_fails, processes.agreed),
        "evaluated": evaluated(model),
        "advantages": processes.together(advantages(mine)),
        "judged and acted": judged_and_acted(model, out / "verdicts"),
        "critic": [parameter.tolist() for parameter in head._head.parameters()],
        "first to tell": processes.is_first_to_tell(),
        "arms": arms_of_many.all_of_them(model, out),
    }
    (out / f"rank-{rank}.json").write_text(json.dumps(words), encoding="utf-8")


if __name__ == "__main__":
    model_folder, out_folder, *options = sys.argv[1:]
    if options:
        rank = os.environ["RANK"]
        trained = train(Path(model_folder), Path(out_folder) / f"checkpoints-{rank}", trl=json.loads(options[0]))
        found = json.dumps(became_of_options(trained))
        (Path(out_folder) / f"options-{rank}.json").write_text(found, encoding="utf-8")
    else:
        everything(Path(model_folder), Path(out_folder))
