"""From settings to the objects they name: task, policy, prompts, graph, objectives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.critiques import CRITIQUES, Loop, record_loop, refuse_without_programs
from selfcorrect.agents.graph import CorrectionGraph, build_graph
from selfcorrect.agents.policies.pretrained import parameter_count
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.whole_models import whole_location
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import (
    Prompts,
    PromptSettings,
    named_prompts,
    prompts_of,
    record_prompts,
    refuse_feedback,
)
from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.registry import called, load, shown_kind
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.engines import EngineSettings, TransformersEngine, on_engine, refuse_engine
from selfcorrect.training.ppo.config import NormaliseBy, TurnPPOConfig
from selfcorrect.training.ppo.keeping import KeepingSettings
from selfcorrect.training.ppo.objectives import Objective, Schedule, checked_objective, objective_named
from selfcorrect.training.processes import join, on_this_machine
from selfcorrect.training.runs.given import GivenGraph, GivenPolicy, GivenScore
from selfcorrect.training.settings import (
    GIVEN,
    LM,
    LM_ADAPTERS,
    PRESETS,
    GraphSettings,
    LoraSettings,
    PolicySettings,
    RunSettings,
)

_LORA_ABOVE = 500_000_000
"""Parameters of a model above which "auto" trains adapters: float32 weights, gradients and moments of all of 0.5 B
parameters take 8 GB, and the KL reference 2 GB more."""


def meet(settings: RunSettings) -> None:
    """Meet the other processes of the launcher, where there are any; see `join`.

    Raises:
        ConfigurationError: all of them would take the same accelerator.
    """
    own = settings.policy
    given = own.policy() if isinstance(own, GivenPolicy) else None
    device = choose_device(own.device) if given is None else given.training_device
    if ":" in own.device and on_this_machine() > 1:
        raise ConfigurationError(
            f"policy.device {own.device} would be taken by all {on_this_machine()} processes of this machine: name no "
            "number, and each takes its own"
        )
    join(cpu=device.type == "cpu", options=settings.optimiser.trl)


def open_policy(settings: PolicySettings, *, engine: EngineSettings | None = None) -> TransformersPolicy:
    """The policy that is to be trained, on its device: float32 weights that compute in `settings.dtype`, or under
    adapters, which are float32 themselves, weights of that dtype.

    Args:
        settings: say which; their `engine` is for those who train with it, and give it.
        engine: plays its episodes; None is transformers.

    Raises:
        PolicyError: the model or its tokenizer is unusable, or the engine.
        ConfigurationError: the device is not there, or lacks the dtype; or the engine does not go with the rest.
    """
    engine = engine or TransformersEngine()
    if isinstance(settings, GivenPolicy) and (given := settings.policy()) is not None:
        refuse_engine(engine, "a policy object")
        return given
    if settings.model == GIVEN:
        raise ConfigurationError("this run was made with a policy object: give it again as policy=...")
    device = choose_device(settings.device)
    computes = choose_dtype(settings.dtype, device)
    location = whole_location(settings.model)
    lora = chosen_lora(settings)
    weights = torch.float32 if computes is None or lora is None else computes
    limit: dict[str, Any] = {} if settings.max_new_tokens is None else {"max_new_tokens": settings.max_new_tokens}
    return on_engine(
        engine,
        location,
        lora_rank=None if lora is None else lora.rank,
        device=device,
        dtype=weights,
        attention=settings.attention,
        compute_dtype=None if computes in (None, weights) else computes,
        template=settings.template,
        decoding=settings.decoding,
        **limit,
    )


def chosen_lora(settings: PolicySettings) -> LoraSettings | None:
    """The adapters of `settings.lora`; "auto" asks for the model's size.

    Raises:
        PolicyError: the model has no config that transformers can read.
    """
    if settings.lora != "auto":
        return settings.lora
    given = settings.policy() if isinstance(settings, GivenPolicy) else None
    count = parameter_count(settings.model) if given is None else given.model.num_parameters()
    return LoraSettings() if count > _LORA_ABOVE else None


def preset_over(name: str, changed: Callable[[RunSettings], RunSettings]) -> RunSettings:
    """The preset `name`, which `changed` will change. Where what comes of "lm" trains adapters, the preset's learning
    rates are theirs.

    Raises:
        ConfigurationError: what `changed` raises.
    """
    if name != "lm":
        return PRESETS[name]
    try:
        adapts = chosen_lora(changed(LM).policy) is not None
    except PolicyError:
        return LM  # that the model cannot be read is told where it is opened
    return LM_ADAPTERS if adapts else LM


def open_run_policy(
    settings: RunSettings, model: Path | None = None, *, engine: EngineSettings | None = None
) -> TransformersPolicy:
    """The policy of a run, or what was made of it in the folder `model`, played by `engine`.

    The loop, and prompts that the settings choose, go on its record: whoever loads what is saved of it talks to it in
    the loop and the words that it was trained with.
    """
    own = settings.policy if model is None else settings.policy.model_copy(update={"model": str(model)})
    policy = open_policy(own, engine=engine)
    refuse_adapter(policy, own.model)
    if settings.prompts != PromptSettings():
        record_prompts(policy.tokenizer, prompts_for(settings, policy))
    graph = settings.for_evaluation.graph
    if not graph.is_own and graph.revisions:
        record_loop(policy.tokenizer, Loop(graph.critique, graph.revisions))
    return policy


def refuse_adapter(policy: TransformersPolicy, name: str) -> None:
    """Raise a PolicyError where transformers has put an adapter into the model by itself: nothing of it would learn.
    Those in folders are merged before; see `whole_location`."""
    if getattr(policy.model, "_hf_peft_config_loaded", False):
        raise PolicyError(
            f"the policy {name!r} is a model with an adapter in it, and training begins with one whole model: name the "
            "adapter's folder (`--model FOLDER`), which is merged into its base; copy one of the Hub into a folder "
            "first (`hf download NAME --local-dir FOLDER`); of a policy object, give the model that PEFT's "
            "merge_and_unload() makes"
        )


def prompts_for(settings: RunSettings, policy: Policy) -> Prompts:
    """The words of the loop: those of `settings.prompts`, else the policy's own if it has any on record, else the
    task's for the way to critique."""
    mode = CRITIQUES.find(settings.graph.critique)
    usual = prompts_of(policy, english=named_prompts(settings.task.prompts_name, mode))
    return settings.prompts.applied(usual, mode)


def open_graph(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    """The graph in which the policy is trained; with `settings.for_evaluation` that in which it is evaluated and
    used. The checker is part of it only where its findings are."""
    if settings.graph.is_own:
        return _own_graph(settings.graph, policy)
    mode = CRITIQUES.find(settings.graph.critique)
    refuse_feedback(policy, mode, name=settings.policy.model)
    refuse_without_programs(mode, checker)
    return build_graph(
        policy,
        checker=checker if mode.needs_checker else None,
        prompts=prompts_for(settings, policy),
        revisions=settings.graph.revisions,
        fewest_revisions=settings.graph.fewest_revisions,
        critique=mode,
    )


def _own_graph(settings: GraphSettings, policy: Any) -> CorrectionGraph:
    if isinstance(settings, GivenGraph):
        return settings.for_policy(policy)
    if settings.build is None or settings.build == GIVEN:
        raise ConfigurationError("this run was made with a graph object: give it again as graph=...")
    build = load(settings.build)
    if not callable(build):
        raise ConfigurationError(f"graph.build {settings.build}: expected {_BUILD}, got {shown_kind(build)}")
    graph: CorrectionGraph = called(f"graph.build {settings.build}", build, policy, expected=_BUILD)
    if not hasattr(graph, "ainvoke"):
        raise ConfigurationError(f"graph.build {settings.build}: expected {_BUILD}, which returned {shown_kind(graph)}")
    return graph


_BUILD = "a function from a policy to its compiled graph"


def score_schedule(settings: RunSettings) -> Schedule:
    """SCoRe's two stages, one after the other in one run. What Stage II pays may be a user's own."""
    score = settings.score
    two = own_objective(settings) or objective_named("stage-2", score)
    return Schedule(((objective_named("stage-1", score), score.stage_one_steps), (two, score.stage_two_steps)))


def own_objective(settings: RunSettings) -> Objective | None:
    """The objective that `score.objective` names, or that was given in Python."""
    score = settings.score
    if isinstance(score, GivenScore):
        return checked_objective(score.given_objective(), "objective")
    if score.objective == GIVEN:
        raise ConfigurationError("this run was made with an objective object: give it again as objective=...")
    return None if score.objective is None else objective_named(score.objective, score)


def refuse_objective(settings: RunSettings, arm: str) -> None:
    """Raise a ConfigurationError if an objective, or first answers for Stage II, are chosen for an arm without."""
    if settings.score.objective is not None:
        raise ConfigurationError(
            f"{arm} pays by its own objective; score.objective is for `train score` (with --no-stage1, for all steps)"
        )
    if settings.score.offline_attempts is not None:
        raise ConfigurationError(f"{arm} has no Stage II: score.offline_attempts is for `train score` and score-turns")


def refuse_best(settings: RunSettings, arm: str) -> None:
    """Raise a ConfigurationError if a best checkpoint, an end by the clock, or an engine to play, is asked of an arm
    whose steps are whole fits."""
    refuse_engine(settings.policy.engine, arm)
    if settings.stop_after_minutes is not None:
        raise ConfigurationError(
            f"{arm} cannot end before its fits are done: leave stop_after_minutes away, it is for reinforced arms"
        )
    if settings.best is not None:
        raise ConfigurationError(
            f"{arm} has no checkpoints to choose from: leave `best` away, it is for reinforced arms"
        )


def ppo_config(
    settings: RunSettings,
    checkpoints: Path,
    steps: int,
    *,
    normalise_by: NormaliseBy = "nothing",
    stages: Sequence[int] = (),
) -> TurnPPOConfig:
    """The trainer's settings; an arm's `normalise_by` holds where the settings leave it open. `stages` are the steps of
    each stage, where there are several."""
    chosen = dict(settings.optimiser)
    if chosen["normalise_by"] is None:
        chosen["normalise_by"] = normalise_by
    kept = {name: getattr(settings, name) for name in KeepingSettings.model_fields}
    return TurnPPOConfig(
        **chosen,
        **kept,
        credit=settings.credit,
        credit_by_role=settings.credit_by_role,
        output_dir=checkpoints,
        steps=steps,
        stages=list(stages),
        evaluate_every=settings.evaluation.every,
    )


def lora_config(settings: LoraSettings | None, *, task: str | None = "CAUSAL_LM") -> Any:
    """The PEFT configuration, or None to train all weights. `task` is what PEFT calls the kind of model; None is a body
    without a language-model head."""
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        task_type=task,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
