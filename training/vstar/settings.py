"""Settings of V-STaR: how much is sampled, how generator and verifiers are trained."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Kind = Literal["likelihood", "classifier", "stepwise"]
Optimiser = Literal["adamw", "muon"]


class _Group(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class GeneratorSettings(_Group):
    """Fine-tuning of a round's generator."""

    learning_rate: Positive = 5e-4
    """Of AdamW; falls linearly to 0."""
    epochs: PositiveInt = 2
    """Passes over the right answers."""
    batch: PositiveInt = 64
    """Answers of one optimiser step."""


class FitSettings(_Group):
    """One model fitted to a list of examples, with a learning rate that falls linearly to 0."""

    optimiser: Optimiser = "adamw"
    """Muon (for the weight matrices, AdamW for the rest) learns faster where small models learn all their weights; it needs torch 2.9."""
    learning_rate: Positive = 1e-3
    epochs: PositiveInt = 1
    batch: PositiveInt = 128
    """Examples (for DPO: pairs) of one optimiser step."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises."""


class PreferenceSettings(FitSettings):
    """DPO (Rafailov et al. 2023) of the verifier on correct x incorrect pairs."""

    optimiser: Optimiser = "muon"
    learning_rate: Positive = 3e-3
    beta: Positive = 1.0
    """Small values move the verifier far from the supervised model, whose knowledge the likelihood still needs: 0.1 did worse here."""
    pairs_per_problem: PositiveInt = 4
    """At most this many pairs of a problem's correct x incorrect product."""
    measure: Literal["log_ratio", "log_likelihood"] = "log_likelihood"
    """What the verifier's raw score is; see `LikelihoodVerifier`."""


class HeadSettings(FitSettings):
    """A head on the body of the policy: one per answer (classifier) or per step (stepwise)."""

    optimiser: Optimiser = "muon"
    learning_rate: Positive = 2e-2
    batch: PositiveInt = 256
    """Answers of one optimiser step."""
    reduction: Literal["last", "min", "product"] = "last"
    """Of the stepwise kind: the score of an answer from those of its steps."""


class VstarSettings(_Group):
    """V-STaR (Hosseini et al. 2024, arXiv 2402.06457). The paper: 3 rounds, 16 samples a problem."""

    rounds: PositiveInt = 3
    problems: PositiveInt = 2000
    """Training problems; every round samples all of them."""
    samples_per_problem: PositiveInt = 16
    temperature: Positive = 1.0
    review: str | None = None
    """A second look that is read after an answer; see `Wording`. None is the embedded policy's own ("check : {last_step} right") where
    it is asked in its own words, else nothing; "" is nothing, as in the paper."""
    kinds: list[Kind] = Field(default=["likelihood", "classifier", "stepwise"], min_length=1)
    """Which verifiers are trained on the labelled answers of all rounds."""
    generator: GeneratorSettings = GeneratorSettings()
    likelihood: PreferenceSettings = PreferenceSettings()
    classifier: HeadSettings = HeadSettings()
    stepwise: HeadSettings = HeadSettings()
    calibration_problems: PositiveInt = 500
    """Training problems that are kept from the generator and the verifiers, for calibration and thresholds."""
    calibration_samples: PositiveInt = 16
    candidates: PositiveInt = 16
    """Samples of a held-out problem from which the verifiers choose in the evaluation."""
