"""Runs that are made by one process and by several, to be compared: a supervised arm, V-STaR, SCoRe answer by answer, a
graph of one's own, and training on servers. Each is small, and gives what a process has afterwards as plain data."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from small_models import WORDS, llama, word_tokenizer
from small_trainer import trainer_of
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policies.vllm_training import VLLMServedPolicy
from selfcorrect.training import processes
from selfcorrect.training.arms.score_turns import score_turns
from selfcorrect.training.arms.star import star
from selfcorrect.training.arms.supervised import run as supervised_run
from selfcorrect.training.engines import VLLMEngine
from selfcorrect.training.own_graph import train
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import (
    EvaluationSettings,
    GeneratorSettings,
    GraphSettings,
    HeadSettings,
    OptimiserSettings,
    PolicySettings,
    PreferenceSettings,
    RunSettings,
    ScoreSettings,
    StarSettings,
    VstarSettings,
)
from selfcorrect.training.vstar.rounds import vstar

QUIET = SilentProgress()
STAR = RunSettings(
    policy=PolicySettings(max_new_tokens=40, device="cpu"),
    star=StarSettings(
        data="single+rationalised", loops=1, problems=8, samples_per_problem=4, steps=2, batch_size=4
    ),
    evaluation=EvaluationSettings(problems=6),
)  # fmt: skip
VSTAR = RunSettings(
    policy=PolicySettings(device="cpu"),
    evaluation=EvaluationSettings(problems=4),
    vstar=VstarSettings(
        rounds=1, problems=6, samples_per_problem=6, generator=GeneratorSettings(epochs=1, batch=4),
        likelihood=PreferenceSettings(pairs_per_problem=2, batch=4), stepwise=HeadSettings(batch=4),
        kinds=["likelihood", "stepwise"], calibration_problems=10, calibration_samples=8, candidates=4,
    ),
)  # fmt: skip


def checksum(model: Any) -> float:
    """Changes with every weight."""
    weights = [weight.detach().double().flatten() for weight in model.state_dict().values()]
    return float(sum((weight * torch.linspace(1, 2, len(weight), dtype=torch.double)).sum() for weight in weights))


def self_taught(out: Path) -> list[float]:
    """STaR; the checksum of what its loop has fine-tuned, in this process."""
    found: list[float] = []
    tuned = supervised_run.fine_tune

    def noted(policy: Any, *arguments: Any, **options: Any) -> dict[str, float]:
        losses = tuned(policy, *arguments, **options)
        found.append(checksum(policy.model))
        return losses

    supervised_run.fine_tune = noted
    try:
        star(STAR, out=out, progress=QUIET)
    finally:
        supervised_run.fine_tune = tuned
    return found


def verified(out: Path) -> None:
    vstar(VSTAR, out=out, progress=QUIET)


def answer_by_answer(model: Path, out: Path) -> None:
    own = OptimiserSettings(problems_per_step=2, episodes_per_problem=2, learning_rate=1e-2)
    settings = RunSettings(
        policy=PolicySettings(model=str(model), max_new_tokens=4, device="cpu"), graph=GraphSettings(revisions=2),
        score=ScoreSettings(stage_one_steps=2, stage_two_steps=1), optimiser=own,
        evaluation=EvaluationSettings(problems=4),
    )  # fmt: skip
    score_turns(settings, out=out, progress=QUIET)


def own_graph(model: Path, out: Path) -> float:
    policy = policy_from(model)
    train(
        graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question, kl=0.0,
        config=config(out, steps=2, save_every=1), held_out=problems(3), progress=QUIET,
    )  # fmt: skip
    return checksum(policy.model)


def model_of_servers() -> tuple[Any, Any]:
    tokenizer = word_tokenizer([*WORDS, *map(str, range(30, 100))], pad_token="<pad>")
    return llama(len(tokenizer)), tokenizer


def on_servers(urls: Sequence[str], out: Path, *, adapters: bool) -> dict[str, Any]:
    """Three steps played by the servers at `urls`, with an adapter ahead of learning; the steps' figures, and the
    checksum of what was trained."""
    model, tokenizer = model_of_servers()
    url, leads = VLLMEngine(url=list(urls)).asked_by(processes.rank(), processes.count())
    policy = VLLMServedPolicy(
        model, tokenizer, server=VLLMServer(url), leads=leads, processes=processes, adapters=adapters,
        max_new_tokens=3, concurrency=4,
    )  # fmt: skip
    torch.manual_seed(4)  # of the adapter's weights
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear") if adapters else None
    trainer, log = trainer_of(
        policy, out, steps=3, problems_per_step=4, episodes_per_problem=2, learning_rate=0.02, peft_config=lora,
        shuffled=True, play_ahead=adapters,
    )  # fmt: skip
    trainer.train()
    return {"steps": log.steps, "checksum": checksum(trainer.accelerator.unwrap_model(trainer.model))}


def all_of_them(model: Path, out: Path) -> dict[str, Any]:
    servers: dict[str, list[str]] = json.loads(os.environ["SERVERS"])
    star_weights = self_taught(out / "star")
    verified(out / "vstar")
    answer_by_answer(model, out / "score-turns")
    return {
        "star": star_weights,
        "own graph": own_graph(model, out / "own"),
        "adapters": on_servers(servers["shared"], out / "adapters", adapters=True),
        "weights": on_servers(servers["apart"], out / "weights", adapters=False),
    }
