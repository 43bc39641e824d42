"""What the fits of V-STaR share: the examples they learn from, telling of their steps, and noticing that they have gone
wrong."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from selfcorrect.agents.choosing.sample_pool import Sample
from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import ConfigurationError, DivergenceError, TrainingError
from selfcorrect.rewards.checker import STEP_SEPARATOR, prefixes, split_steps
from selfcorrect.rewards.verifiers.base import context_of
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
from selfcorrect.rewards.verifiers.weights import base_dtype
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune
from selfcorrect.training.ppo.precision import placed
from selfcorrect.training.reporting.services import Reporters
from selfcorrect.training.runs.opening import chosen_lora, lora_config, open_run_policy
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.vstar.settings import FitSettings, HeadSettings, VstarSettings

# Examples for verifiers: labelled answers, pairs of them, and how often each beginning came out right.


@dataclass(frozen=True, slots=True)
class Pair:
    """A right and a wrong answer to the same problem."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer and its targets in [0, 1]: one for the whole answer, or one for each of its steps."""

    prompt: str
    response: str
    targets: tuple[float, ...]


def preference_pairs(samples: Sequence[Sample], *, per_problem: int, seed: int) -> list[Pair]:
    """Correct x incorrect answers of each problem (V-STaR, section 3.2), in random order.

    Answers with the same text count once. Of a problem's Cartesian product at most `per_problem` pairs are drawn, so
    that problems with many answers of both kinds do not drown the others.

    Raises:
        TrainingError: no problem has both a right and a wrong answer.
    """
    rng = random.Random(seed)
    rights, wrongs = _texts(samples, correct=True), _texts(samples, correct=False)
    pairs: list[Pair] = []
    for prompt, right in rights.items():
        both = list(product(right, wrongs.get(prompt, [])))
        pairs += [Pair(prompt, chosen, rejected) for chosen, rejected in rng.sample(both, min(per_problem, len(both)))]
    if not pairs:
        raise TrainingError(
            "a verifier learns from right and wrong answers to the same problem, and none of "
            f"{len(rights.keys() | wrongs.keys())} problems has both ({_count(rights)} right and {_count(wrongs)} "
            "wrong answers): sample more of each, or choose problems that the policy solves now and then"
        )
    rng.shuffle(pairs)
    return pairs


def outcome_labels(samples: Sequence[Sample]) -> list[Labelled]:
    """Every judged answer with its outcome, 1 or 0.

    Raises:
        TrainingError: all answers are right, all are wrong, or there are none.
    """
    labelled = [Labelled(one.prompt, one.text, (float(one.correct),)) for one in samples if one.correct is not None]
    _refuse_one_sided([label.targets[0] for label in labelled])
    return labelled


def step_labels(samples: Sequence[Sample], *, separator: str = STEP_SEPARATOR) -> list[Labelled]:
    """Every judged answer with a target for each step: the share of right answers among all that begin so.

    Math-Shepherd's soft estimate (arXiv 2312.08935, Eq. 4), in which the rollouts from a beginning are the samples that
    share it. Each sample is a rollout from all of its own beginnings, so the targets are unbiased however few there
    are.

    Raises:
        TrainingError: all answers are right, all are wrong, or there are none.
    """
    judged = [one for one in samples if one.correct is not None]
    _refuse_one_sided([float(bool(one.correct)) for one in judged])
    frequency = success_frequencies(judged, separator=separator)
    return [
        Labelled(one.prompt, one.text, tuple(frequency[one.prompt, begun] for begun in prefixes(one.text, separator)))
        for one in judged
        if split_steps(one.text, separator)
    ]


def success_frequencies(samples: Sequence[Sample], *, separator: str = STEP_SEPARATOR) -> dict[tuple[str, str], float]:
    """For every (prompt, beginning up to the end of a step): the share of right answers among the samples that begin
    so."""
    passed: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for one in samples:
        for begun in prefixes(one.text, separator):
            passed[one.prompt, begun].append(bool(one.correct))
    return {begun: sum(outcomes) / len(outcomes) for begun, outcomes in passed.items()}


def _texts(samples: Sequence[Sample], *, correct: bool) -> dict[str, list[str]]:
    """The different texts of the right (or wrong) answers to each prompt, blank ones left out."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for one in samples:
        if one.correct is correct and one.text.strip():
            found[one.prompt][one.text] = None
    return {prompt: list(texts) for prompt, texts in found.items()}


def _count(texts: dict[str, list[str]]) -> int:
    return sum(map(len, texts.values()))


def _refuse_one_sided(outcomes: Sequence[float]) -> None:
    rights = sum(outcomes)
    if not 0 < rights < len(outcomes):
        raise TrainingError(
            f"a verifier learns from right and wrong answers, and of {len(outcomes)} judged ones {rights:.0f} are "
            "right: sample more, or choose problems that the policy solves now and then"
        )


def minibatches(count: int, size: int, *, epochs: int, seed: int) -> Iterator[list[int]]:
    """Numbers 0 ... count - 1 in shuffled batches, epoch after epoch; the last batch of an epoch may be smaller."""
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(f"{seed}-{epoch}").shuffle(order)
        yield from (order[begin : begin + size] for begin in range(0, count, size))


class StepLog(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Passes on what a trainer logs: loss, learning rate, and for DPO the accuracy and margin of the pairs.

    Args:
        tell: called with the numbers of every logged step.
        reporters: tells the services of the run, too.

    Raises, in training:
        DivergenceError: a loss is not finite.
    """

    def __init__(self, tell: Callable[[Mapping[str, float]], None], reporters: Reporters | None = None) -> None:
        self._tell, self._reporters = tell, reporters
        self.steps = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self._reporters is not None:
            self._reporters.on_train_begin(args, state, control, **rest)

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
        if self._reporters is not None:
            self._reporters.on_log(args, state, control, logs=logs, **kwargs)


def placed_arguments(make: Callable[..., Any], device: str, dtype: str) -> Any:
    """What `make` makes of `use_cpu` and `bf16`: the arguments of a trainer that loads a float32 model itself, and lets
    it learn on the `device` and compute in the `dtype` of `policy`.

    Raises:
        ConfigurationError: the device is not there, or lacks the dtype.
    """
    chosen = choose_device(device)
    return placed(make(use_cpu=chosen.type == "cpu", bf16=choose_dtype(dtype, chosen) is torch.bfloat16), chosen)


def weights_dtype(frozen: bool, device: str, dtype: str) -> torch.dtype:
    """What a verifier's base is loaded in: float32 where its weights learn, whatever it was saved in (see `precision`);
    where it is `frozen`, under adapters or a head, what it computes in."""
    return base_dtype(dtype, choose_device(device)) if frozen else torch.float32


def refuse_muon(settings: VstarSettings) -> None:
    """Raise a ConfigurationError for verifiers that adapters are to learn by Muon: it makes the update of a matrix
    orthogonal, and an adapter's two matrices are not the one that changes."""
    for kind in settings.kinds:
        fit: FitSettings = getattr(settings, kind)
        if fit.optimiser == "muon" and getattr(fit, "body", "") != "frozen":
            raise ConfigurationError(
                f"vstar.{kind}.optimiser is muon, which is for whole matrices, and this model learns by adapters: set "
                f"vstar.{kind}.optimiser=adamw and a learning_rate of its own (--preset lm has both), or "
                "policy.lora=null"
            )


def refuse_divergence(model: Any) -> None:
    """Raise a DivergenceError if a weight is not finite: such a model would score every answer nan."""
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise DivergenceError(
                f"the verifier's weight {name} is no longer finite; lower its learning_rate and resume the run"
            )


def optimiser_for(
    model: Any, settings: FitSettings, head: Sequence[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer | None:
    """The optimiser that the settings name; None leaves AdamW to the trainer, which knows how to shard it.

    `head` are the parameters that learn at `HeadSettings.head_learning_rate`, where that is set.
    """
    rate = settings.head_learning_rate if isinstance(settings, HeadSettings) else None
    if settings.optimiser == "muon":
        return Both(model, settings.learning_rate, head if rate is not None else (), rate or 0.0)
    if rate is None:
        return None
    aside = set(map(id, head))
    body = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in aside]
    groups: list[dict[str, Any]] = [{"params": body}, {"params": list(head), "lr": rate}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0)


class Both(torch.optim.Optimizer):
    """Muon for the weight matrices and AdamW for embeddings, head and norms, as one optimiser that a trainer can drive.

    Args:
        model: what is trained.
        learning_rate: of Muon; AdamW has 0.15 of it, as in pre-training.
        head, head_rate: parameters that AdamW trains at a rate of their own, and that rate.
    """

    def __init__(
        self, model: Any, learning_rate: float, head: Sequence[torch.nn.Parameter] = (), head_rate: float = 0.0
    ) -> None:
        aside = set(map(id, head))
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if _is_matrix(name, weight) and id(weight) not in aside]
        others = [weight for name, weight in named if not _is_matrix(name, weight) and id(weight) not in aside]
        groups: list[dict[str, Any]] = [{"params": others}]
        if aside:
            groups.append({"params": list(head), "lr": head_rate})
        self._inner: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
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
    settings: RunSettings,
    samples: Sequence[Sample],
    *,
    wording: Wording,
    out: Path,
    seed: int,
    reporters: Reporters | None = None,
) -> dict[str, float]:
    """Fine-tune the base (never the last round's generator: STaR and V-STaR start over every round) and save it to
    `out`, with the words and the loop of the run on its record.

    Args:
        settings: say which model to start from, and of `vstar.generator` how.
        samples: of all rounds; the different right answers among them are learnt, the tokens of the problems are not.
        wording: how problems are shown.
        out: the generator's folder.
        seed: of the order and of dropout.
        reporters: tells the services of the run.

    Returns:
        The losses as `fine_tune` gives them, and `optimiser_steps`.

    Raises:
        TrainingError: no sample is right, or none can be read by the model.
        DivergenceError: a gradient was not finite.
    """
    fit, policy = settings.vstar.generator, open_run_policy(settings)
    encoder = ResponseEncoder(policy.tokenizer, replace(wording, review=""), longest=context_of(policy.model))
    examples = solutions(samples, encoder)
    steps = math.ceil(len(examples) / fit.batch) * fit.epochs
    tuning = Tuning(steps, fit.batch, fit.learning_rate, micro_batch=fit.micro_batch)
    peft_config = lora_config(chosen_lora(settings.policy))
    losses = fine_tune(policy, examples, tuning, seed=seed, folder=out, peft_config=peft_config, reporters=reporters)
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
