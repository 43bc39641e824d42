"""Learning from problems without answers, while they are being solved: test-time reinforcement learning on the policy's
own votes.

TTRL (Zuo et al. 2025, arXiv 2504.16084): several answers to each problem are sampled, the most frequent one stands for
the unknown right one, and answers that agree with it are paid 1, others 0. That can only sharpen what the policy
already tends to, and confirms mistakes that it makes often. So: problems whose vote is not clear are not paid at all;
training ends, and goes back to the last good state, when agreement falls or different problems begin to get one and the
same answer; and what is learnt is a low-rank adapter, which can be taken off again. The base weights are never changed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.search.answer_keys import AnswerKey, answer_key
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.files import finite, write_whole
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.agreement import AgreementGuard, AgreementSignals, BatchOfVotes, GuardSettings
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.runs.opening import lora_config
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.reinforced_run import epochs
from selfcorrect.training.settings import LoraSettings

# How to adapt to problems without answers: how much is sampled, what is paid, when it ends.


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt.

    Args:
        steps: updates, one per batch of problems.
        problems_per_step: different problems in a batch; fewer if there are not as many.
        samples: answers to each problem, which vote and then learn; 2 or more.
        min_agreement: problems whose most frequent answer has a smaller share of the samples are not paid.
        learning_rate, kl: of the update; `kl` is the weight of KL(policy || base), in reward per nat.
        lora: the adapter.
        guard: when to stop.
        temperature: of the samples.
        seed: of everything random.
    """

    steps: int = 30
    problems_per_step: int = 16
    samples: int = 16
    min_agreement: float = 0.3
    learning_rate: float = 1e-3
    kl: float = 0.02
    lora: LoraSettings = field(default_factory=LoraSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigurationError(
                f"adapt: samples must be 2 or more, got {self.samples}: one answer cannot agree with another"
            )
        if not 0 < self.min_agreement <= 1:
            raise ConfigurationError(f"adapt: min_agreement is a share in (0, 1], got {self.min_agreement}")
        if self.steps < 1 or self.problems_per_step < 1:
            raise ConfigurationError("adapt: steps and problems_per_step must be 1 or more")


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        adapter_path: the adapter and the tokenizer; `TransformersPolicy.from_pretrained` loads it on top of its base.
            Not loading it is going back.
        batches: what the votes of each batch were.
        stop_reason: "steps", or why the guard stopped: "agreement fell", "answers collapsed".
        kept_steps: how many updates the saved adapter has had.
    """

    adapter_path: Path
    batches: tuple[BatchOfVotes, ...]
    stop_reason: str
    kept_steps: int

    @property
    def held_back(self) -> float:
        """Share of the votes that were not clear enough to be paid."""
        votes = sum(batch.problems for batch in self.batches)
        return sum(batch.held_back for batch in self.batches) / votes if votes else 0.0


def adapt(
    policy: Any,
    problems: Sequence[Problem],
    *,
    prompts: Prompts,
    out: Path,
    settings: AdaptSettings | None = None,
    key: Callable[[Problem], AnswerKey] | None = None,
    progress: ProgressSink | None = None,
) -> Adapted:
    """Adapt `policy` to `problems`, whose references are never looked at. Afterwards the policy answers with the
    adapter; `revert` takes it off.

    Args:
        policy: a `TransformersPolicy` whose model has no adapter.
        problems: ids must differ.
        prompts: the words around a problem.
        out: the adapter goes to `out`/adapter, what happened to `out`/adapt.json.
        settings: see there; None is the default.
        key: of a problem, what its vote counts as equal; None is the expression (all equations) for Countdown, which is
            stricter than what search counts, and `answer_key` elsewhere.
        progress: where to show the batches.

    Raises:
        ConfigurationError: the policy cannot be trained, or has an adapter already.
        TaskError: there are no problems, or two have one id.
        KeyboardInterrupt: Ctrl-C was pressed; nothing was saved, and the policy is as before.
    """
    chosen = settings or AdaptSettings()
    _refuse_unusable(policy, problems)
    signals = AgreementSignals(chosen.samples, chosen.min_agreement, chosen.kl, key or _strict_key)
    sink = progress or SilentProgress()
    guard = AgreementGuard(signals, chosen.guard, sink)
    trainer = _trainer(policy, problems, prompts, out, chosen, signals, guard)
    guard.watch(trainer)
    sink.start(chosen.steps, "adapt")
    try:
        trainer.train()
    except BaseException:
        revert(policy)
        raise
    finally:
        sink.close()
    model = trainer.accelerator.unwrap_model(trainer.model)
    kept = guard.restore_if_stopped(model)
    policy.model = model.eval()
    adapter = out / "adapter"
    model.save_pretrained(adapter)
    policy.tokenizer.save_pretrained(adapter)
    adapted = Adapted(adapter, tuple(guard.batches), guard.stop_reason or "steps", kept)
    write_record(out, adapted, chosen)
    return adapted


def revert(policy: Any) -> None:
    """Take the adapter off: the policy is what it was before `adapt`."""
    if hasattr(policy.model, "unload") and hasattr(policy.model, "peft_config"):
        policy.model = policy.model.unload()
        policy.forget()


def write_record(out: Path, adapted: Adapted, settings: AdaptSettings, more: Mapping[str, Any] | None = None) -> None:
    """`out`/adapt.json: settings, votes of every batch, why it ended, and what else is known."""
    record = {
        "stop_reason": adapted.stop_reason,
        "kept_steps": adapted.kept_steps,
        "held_back": adapted.held_back,
        **(more or {}),
        "settings": asdict(replace(settings, lora=LoraSettings())) | {"lora": settings.lora.model_dump()},
        "batches": [asdict(batch) for batch in adapted.batches],
    }
    write_whole(out / "adapt.json", json.dumps(finite(record), indent=1) + "\n")


def _trainer(
    policy: Any,
    problems: Sequence[Problem],
    prompts: Prompts,
    out: Path,
    settings: AdaptSettings,
    signals: AgreementSignals,
    guard: AgreementGuard,
) -> Any:
    from selfcorrect.training.ppo.trainer import TurnPPOTrainer
    from selfcorrect.training.runs.callbacks import FiniteGradients

    per_step = min(settings.problems_per_step, len(problems))
    config = TurnPPOConfig(
        output_dir=out / "training",
        batches=settings.steps,
        problems_per_batch=per_step,
        episodes_per_problem=settings.samples,
        learning_rate=settings.learning_rate,
        temperature=settings.temperature,
        kl=settings.kl > 0,
        seed=settings.seed,
        trl={"shuffle_dataset": False, "save_strategy": "no"},
    )
    return TurnPPOTrainer(
        policy,
        build_graph(policy, prompts=prompts, revisions=0),
        epochs(list(problems), batches=settings.steps, per_batch=per_step, seed=settings.seed),
        lambda batch: signals,
        config,
        peft_config=lora_config(settings.lora),
        callbacks=[guard, FiniteGradients()],
    )


def _refuse_unusable(policy: Any, problems: Sequence[Problem]) -> None:
    if not hasattr(policy, "model") or not hasattr(policy, "tokenizer"):
        raise ConfigurationError(
            f"a {type(policy).__name__} cannot be adapted: it holds no model; use a TransformersPolicy"
        )
    if hasattr(policy.model, "peft_config"):
        raise ConfigurationError("the policy has an adapter already: adapt its base, or call revert(policy) first")
    ids = [problem.id for problem in problems]
    if not ids:
        raise TaskError("there are no problems to adapt to")
    if len(set(ids)) < len(ids):
        raise TaskError("two problems have one id: their answers would vote together")


def _strict_key(problem: Problem) -> AnswerKey:
    from selfcorrect.agents.search.answer_keys import expression_key

    return expression_key(problem) if problem.checker == "countdown" else answer_key(problem)
