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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.search.state import AnswerKey
from selfcorrect.bars import no_foreign_bars
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.files import finite, write_whole
from selfcorrect.setting_groups import NonNegative, WholeSettings
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.agreement import AgreementGuard, AgreementSignals, BatchOfVotes, GuardSettings
from selfcorrect.training.ppo.config import OptimiserSettings, TurnPPOConfig
from selfcorrect.training.runs.fitting import fit, open_trainer
from selfcorrect.training.runs.opening import lora_config
from selfcorrect.training.runs.progress import ProgressSink, usual_progress
from selfcorrect.training.settings import LoraSettings

# How to adapt to problems without answers: how much is sampled, what is paid, when it ends.


class AdaptSettings(WholeSettings):
    """How to adapt."""

    steps: PositiveInt = 30
    """Updates, one per batch of problems."""
    min_agreement: float = Field(default=0.3, gt=0, le=1)
    """Problems whose most frequent answer has a smaller share of the samples are not paid."""
    kl: NonNegative = 0.02
    """Weight of KL(policy || base), in reward per nat."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    guard: GuardSettings = GuardSettings()
    """When to stop."""
    optimiser: OptimiserSettings = OptimiserSettings(learning_rate=1e-3, problems_per_step=16, episodes_per_problem=16)
    """Of the update. `episodes_per_problem` answers to each problem vote and then learn; fewer problems are taken a
    step if there are not as many."""
    seed: int = 0
    """Of everything random."""

    @model_validator(mode="after")
    def _some_vote(self) -> Self:
        if self.samples < 2:
            raise ValueError(
                f"optimiser.episodes_per_problem must be 2 or more, got {self.samples}: one answer cannot agree with "
                "another"
            )
        return self

    @property
    def samples(self) -> int:
        """Answers to each problem."""
        return self.optimiser.episodes_per_problem


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


@no_foreign_bars()
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
            stricter than what search counts, what programs do for code, and `answer_key` elsewhere.
        progress: where to show the batches.

    Raises:
        ConfigurationError: the policy cannot be trained, or has an adapter already.
        TaskError: there are no problems, or two have one id.
        KeyboardInterrupt: Ctrl-C was pressed; nothing was saved, and the policy is as before.
    """
    chosen = settings or AdaptSettings()
    _refuse_unusable(policy, problems)
    signals = AgreementSignals(chosen.samples, chosen.min_agreement, chosen.kl, key)
    sink = progress or usual_progress()
    guard = AgreementGuard(signals, chosen.guard, sink)
    trainer = _trainer(policy, problems, prompts, out, chosen, signals, guard)
    guard.watch(trainer)
    sink.start(chosen.steps, "adapt")
    try:
        fit(trainer, saves=False)
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
        "settings": settings.model_dump(mode="json"),
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
    per_step = min(settings.optimiser.problems_per_step, len(problems))
    chosen = {**dict(settings.optimiser), "problems_per_step": per_step, "kl": settings.kl > 0}
    return open_trainer(
        policy,
        build_graph(policy, prompts=prompts, revisions=0),
        problems,
        lambda batch: signals,
        TurnPPOConfig(**chosen, output_dir=out / "training", steps=settings.steps, seed=settings.seed, save_every=0),
        peft_config=lora_config(settings.lora),
        callbacks=[guard],
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
