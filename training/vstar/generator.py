"""The next generator: the base, fine-tuned on the right answers of all rounds so far."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfcorrect.agents.sample_pool import Sample
from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
from selfcorrect.rewards.verifiers.model_verifier import context_of
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune
from selfcorrect.training.opening import lora_config, open_policy
from selfcorrect.training.settings import PolicySettings
from selfcorrect.training.vstar.settings import GeneratorSettings


def train_generator(
    base: PolicySettings,
    samples: Sequence[Sample],
    settings: GeneratorSettings,
    *,
    wording: Wording,
    out: Path,
    seed: int,
) -> dict[str, float]:
    """Fine-tune the base (never the last round's generator: STaR and V-STaR start over every round) and save it to `out`.

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
    losses = fine_tune(policy, examples, tuning, seed=seed, folder=out, peft_config=lora_config(base.lora))
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
            f"none of {len(samples)} sampled answers is right, so the next generator has nothing to learn from: sample more, or choose "
            "problems that the policy solves now and then"
        )
    return examples
