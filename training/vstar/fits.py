"""What the fits of V-STaR share: telling of their steps, and noticing that they have gone wrong."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from selfcorrect.agents.choosing.sample_pool import Sample
from selfcorrect.errors import ConfigurationError, DivergenceError, TrainingError
from selfcorrect.rewards.verifiers.base import context_of
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune
from selfcorrect.training.runs.opening import chosen_lora, lora_config, open_policy
from selfcorrect.training.settings import FitSettings, GeneratorSettings, PolicySettings


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Passes on what a trainer logs: loss, learning rate, and for DPO the accuracy and margin of the pairs.

    Args:
        tell: called with the numbers of every logged step.

    Raises, in training:
        DivergenceError: a loss is not finite.
    """

    def __init__(self, tell: Callable[[Mapping[str, float]], None]) -> None:
        self._tell = tell
        self.steps = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.steps = int(state.global_step)
        if not logs or "loss" not in logs:
            return
        figures = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        if not math.isfinite(figures["loss"]):
            raise DivergenceError(
                f"the verifier's loss is {figures['loss']} at step {self.steps}; lower its learning_rate and resume "
                "the run"
            )
        self._tell(figures)


def refuse_divergence(model: Any) -> None:
    """Raise a DivergenceError if a weight is not finite: such a model would score every answer nan."""
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise DivergenceError(
                f"the verifier's weight {name} is no longer finite; lower its learning_rate and resume the run"
            )


def optimiser_for(model: Any, settings: FitSettings) -> torch.optim.Optimizer | None:
    """The optimiser that the settings name; None leaves AdamW to the trainer, which knows how to shard it.

    Raises:
        ConfigurationError: this torch has no Muon.
    """
    if settings.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        raise ConfigurationError(
            f"optimiser 'muon' needs torch 2.9 or later, this is {torch.__version__}; set it to adamw"
        )
    return Both(model, settings.learning_rate) if settings.optimiser == "muon" else None


class Both(torch.optim.Optimizer):
    """Muon for the weight matrices and AdamW for embeddings, head and norms, as one optimiser that a trainer can drive.

    Args:
        model: what is trained.
        learning_rate: of Muon; AdamW has 0.15 of it, as in pre-training.
    """

    def __init__(self, model: Any, learning_rate: float) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if _is_matrix(name, weight)]
        others = [weight for name, weight in named if not _is_matrix(name, weight)]
        self._inner: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        ]
        if matrices:
            self._inner.append(torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, momentum=0.95))
        super().__init__([weight for _, weight in named], {"lr": learning_rate})
        self.param_groups = [group for one in self._inner for group in one.param_groups]

    def step(self, closure: Any = None) -> Any:
        for one in self._inner:
            one.step()
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        for one in self._inner:
            one.zero_grad(set_to_none=set_to_none)


def _is_matrix(name: str, weight: Any) -> bool:
    return weight.ndim == 2 and "embed" not in name and "head" not in name


# The next generator: the base, fine-tuned on the right answers of all rounds so far.


def train_generator(
    base: PolicySettings,
    samples: Sequence[Sample],
    settings: GeneratorSettings,
    *,
    wording: Wording,
    out: Path,
    seed: int,
) -> dict[str, float]:
    """Fine-tune the base (never the last round's generator: STaR and V-STaR start over every round) and save it to
    `out`.

    Args:
        base: the model to start from.
        samples: of all rounds; the different right answers among them are learnt, the tokens of the problems are not.
        settings: of the fit.
        wording: how problems are shown.
        out: the generator's folder.
        seed: of the order and of dropout.

    Returns:
        The losses as `fine_tune` gives them, and `optimiser_steps`.

    Raises:
        TrainingError: no sample is right, or none can be read by the model.
        DivergenceError: a gradient was not finite.
    """
    policy = open_policy(base)
    encoder = ResponseEncoder(policy.tokenizer, replace(wording, review=""), longest=context_of(policy.model))
    examples = solutions(samples, encoder)
    steps = math.ceil(len(examples) / settings.batch) * settings.epochs
    tuning = Tuning(steps=steps, batch_size=settings.batch, learning_rate=settings.learning_rate)
    losses = fine_tune(policy, examples, tuning, seed=seed, folder=out, peft_config=lora_config(chosen_lora(base)))
    return {**losses, "optimiser_steps": steps}


def solutions(samples: Sequence[Sample], encoder: ResponseEncoder) -> list[Example]:
    """The different right answers that the policy ended itself.

    Raises:
        TrainingError: there is none.
    """
    right = {(one.prompt, one.text): one.id for one in samples if one.correct and one.finish_reason == "stop"}
    encoded = [(name, pair, encoder.whole(*pair)) for pair, name in right.items()]
    examples = [
        Example(name, "correct", tuple(one.ids[: one.begin]), tuple(one.ids[one.begin :]), None, text)
        for name, (_, text), one in encoded
        if one is not None
    ]
    if not examples:
        raise TrainingError(
            f"none of {len(samples)} sampled answers is right, so the next generator has nothing to learn from: sample "
            "more, or choose problems that the policy solves now and then"
        )
    return examples
