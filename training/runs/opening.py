"""From settings to the objects they name: task, policy, prompts, graph, objectives."""

from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.graph import CorrectionGraph, build_graph
from selfcorrect.agents.policies.placement import choose_device, choose_dtype
from selfcorrect.agents.policies.pretrained import model_location, parameter_count
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import Prompts, named_prompts, prompts_of
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.ppo.config import KeepingSettings, NormaliseBy, TurnPPOConfig
from selfcorrect.training.ppo.objectives import Schedule, StageOne, StageTwo
from selfcorrect.training.settings import LoraSettings, PolicySettings, RunSettings

_LORA_ABOVE = 500_000_000
"""Parameters of a model above which "auto" trains adapters: float32 weights, gradients and moments of all of 0.5 B
parameters take 8 GB, and the KL reference 2 GB more."""


def open_policy(settings: PolicySettings) -> TransformersPolicy:
    """The policy that is to be trained, on its device: float32 weights that compute in `settings.dtype`, or under
    adapters, which are float32 themselves, weights of that dtype.

    Raises:
        PolicyError: the model or its tokenizer is unusable.
        ConfigurationError: the device is not there, or lacks the dtype.
    """
    device = choose_device(settings.device)
    computes = choose_dtype(settings.dtype, device)
    location = model_location(settings.model)
    weights = torch.float32 if computes is None or chosen_lora(settings) is None else computes
    limit: dict[str, Any] = {} if settings.max_new_tokens is None else {"max_new_tokens": settings.max_new_tokens}
    return TransformersPolicy.from_pretrained(
        location,
        device=device,
        dtype=weights,
        attention=settings.attention,
        compute_dtype=None if computes in (None, weights) else computes,
        template=settings.template,
        **limit,
    )


def chosen_lora(settings: PolicySettings) -> LoraSettings | None:
    """The adapters of `settings.lora`; "auto" asks for the model's size.

    Raises:
        PolicyError: the model has no config that transformers can read.
    """
    if settings.lora != "auto":
        return settings.lora
    return LoraSettings() if parameter_count(settings.model) > _LORA_ABOVE else None


def prompts_for(settings: RunSettings, policy: Policy) -> Prompts:
    """The words of the loop: those of `settings.prompts`, else the policy's own if it has any on record, else the
    task's for the way to critique."""
    critique = settings.graph.critique
    usual = prompts_of(policy, english=named_prompts(settings.task.prompts_name, critique))
    return settings.prompts.applied(usual, critique)


def open_graph(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    """The graph in which the policy is trained, evaluated and used. The checker is part of it only where its
    findings are."""
    mode = CRITIQUES.find(settings.graph.critique)
    return build_graph(
        policy,
        checker=checker if mode.needs_checker else None,
        prompts=prompts_for(settings, policy),
        revisions=settings.graph.revisions,
        critique=mode,
    )


def score_schedule(settings: RunSettings) -> Schedule:
    """SCoRe's two stages, one after the other in one run."""
    score = settings.score
    one = StageOne(beta1=score.beta1, beta2=score.beta2)
    two = StageTwo(alpha=score.alpha, beta1=score.beta1, beta_first=score.beta_first)
    return Schedule(((one, score.stage_one_steps), (two, score.stage_two_steps)))


def ppo_config(
    settings: RunSettings, checkpoints: Path, steps: int, *, normalise_by: NormaliseBy = "nothing"
) -> TurnPPOConfig:
    """The trainer's settings; an arm's `normalise_by` holds where the settings leave it open."""
    chosen = dict(settings.optimiser)
    if chosen["normalise_by"] is None:
        chosen["normalise_by"] = normalise_by
    kept = {name: getattr(settings, name) for name in KeepingSettings.model_fields}
    return TurnPPOConfig(**chosen, **kept, credit=settings.credit, output_dir=checkpoints, steps=steps)


def lora_config(settings: LoraSettings | None) -> Any:
    """The PEFT configuration, or None to train all weights."""
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
