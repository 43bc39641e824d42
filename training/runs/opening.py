"""From settings to the objects they name: task, policy, prompts, graph, objectives."""

from pathlib import Path
from typing import Any

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.graph import CorrectionGraph, build_graph
from selfcorrect.agents.policies.pretrained import model_location
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import Prompts, named_prompts, prompts_of
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.ppo.config import KeepingSettings, NormaliseBy, TurnPPOConfig
from selfcorrect.training.ppo.objectives import Schedule, StageOne, StageTwo
from selfcorrect.training.settings import LoraSettings, PolicySettings, RunSettings


def open_policy(settings: PolicySettings) -> TransformersPolicy:
    """The policy that is to be trained.

    Raises:
        PolicyError: the model or its tokenizer is unusable.
    """
    limit: dict[str, Any] = {} if settings.max_new_tokens is None else {"max_new_tokens": settings.max_new_tokens}
    return TransformersPolicy.from_pretrained(model_location(settings.model), template=settings.template, **limit)


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
