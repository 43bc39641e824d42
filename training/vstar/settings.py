"""Settings of V-STaR: how much is sampled, how generator and verifiers are trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.verifiers.encoding import Reads
from selfcorrect.setting_groups import Count, Positive, Settings

Kind = Literal["likelihood", "classifier", "stepwise"]
Optimiser = Literal["adamw", "muon"]
Body = Literal["with_head", "after_head", "frozen"]


class GeneratorSettings(Settings):
    """Fine-tuning of a round's generator."""

    learning_rate: Positive = 5e-4
    """Of AdamW; falls linearly to 0."""
    epochs: PositiveInt = 2
    """Passes over the right answers."""
    batch: PositiveInt = 64
    """Answers of one optimiser step."""
    micro_batch: PositiveInt | None = None
    """Answers of one forward and backward pass, at most, for memory: a step is made of several, and stays what it is.
    None: all of a step's."""


class FitSettings(Settings):
    """One model fitted to a list of examples, with a learning rate that falls linearly to 0."""

    optimiser: Optimiser = "adamw"
    """Muon (AdamW for what is no matrix) is faster where small models learn all their weights."""
    learning_rate: Positive = 1e-3
    """Of the optimiser, at its highest."""
    epochs: PositiveInt = 1
    """Passes over the examples."""
    batch: PositiveInt = 128
    """Examples (for DPO: pairs) of one optimiser step."""
    micro_batch: PositiveInt | None = None
    """Of those, in one forward and backward pass, at most, for memory: a step is made of several, and stays what it is.
    None: all of a step's."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps in which the learning rate rises."""


class PreferenceSettings(FitSettings):
    """DPO (Rafailov et al. 2023) of the verifier on correct x incorrect pairs."""

    optimiser: Optimiser = "muon"
    learning_rate: Positive = 3e-3
    beta: Positive = 1.0
    """0.1, which lets the verifier far from the supervised model whose knowledge it still needs, did worse here."""
    pairs_per_problem: PositiveInt = 4
    """At most this many pairs of a problem's correct x incorrect product."""
    measure: Literal["log_ratio", "log_likelihood"] = "log_likelihood"
    """What the verifier's raw score is; see `LikelihoodVerifier`."""


class HeadSettings(FitSettings):
    """A head on the body of the policy: one per answer (classifier) or per step (stepwise)."""

    body: Body = "with_head"
    """How the body learns. "with_head": at the same time as the head, which begins at 0. "after_head": under a head
    that was fitted to it as it was, and stays. "frozen": not at all; the head is fitted in one reading of the answers,
    and of this group only `reduction` matters."""
    optimiser: Optimiser = "muon"
    learning_rate: Positive = 2e-2
    head_learning_rate: Positive | None = None
    """Of a head that learns with the body, by AdamW; None is 0.15 of the learning rate with Muon, and all of it with
    AdamW. The head begins at 0, and the body learns nothing before it: beside a language model's small rate it wants
    one of its own."""
    batch: PositiveInt = 256
    """Answers of one optimiser step."""
    reduction: Literal["last", "min", "product"] = "last"
    """Of the stepwise kind: the score of an answer from those of its steps."""

    @model_validator(mode="after")
    def _a_fitted_head_makes_no_steps(self) -> Self:
        if self.body != "with_head" and self.head_learning_rate is not None:
            raise ValueError(
                f"head_learning_rate is of a head that learns with the body, and with body={self.body} it is fitted "
                "before: leave head_learning_rate away"
            )
        return self


_OF_STEPS = tuple(FitSettings.model_fields)
"""What a head that is fitted does not read."""


class VstarSettings(Settings):
    """V-STaR (Hosseini et al. 2024, arXiv 2402.06457). The paper: 3 rounds, 16 samples a problem."""

    rounds: Count = 3
    """How often a generator is sampled and made anew; 0 leaves the policy as it is, and trains verifiers alone."""
    asked: str | None = Field(default=None, min_length=1)
    """Who answers instead of the policy, by any name that plays: "openai:MODEL", "vllm:MODEL@URL". Its answers are
    what the verifiers learn to judge; what becomes the verifiers, `policy.model`, is another model or the same. Needs
    rounds 0, since nothing is trained elsewhere."""
    problems: PositiveInt = 2000
    """Training problems; every round samples all of them."""
    samples_per_problem: PositiveInt = 16
    """Answers to each problem of a round."""
    temperature: Positive = 1.0
    """Of the sampling."""
    review: str | None = None
    """A second look that is read after an answer; see `Wording`. None is the embedded policy's own ("check :
    {last_step} right") where it is asked in its own words, else nothing; "" is nothing, as in the paper."""
    reads: Reads = "answer"
    """What of an answer the verifiers read: all of it, or "program", the program in it alone, as the checkers of code
    find it. What a chat model says around its program is long, and says nothing about whether it is right."""
    kinds: list[Kind] = Field(default=["likelihood", "classifier", "stepwise"], min_length=1)
    """Which verifiers are trained on the labelled answers of all rounds."""
    generator: GeneratorSettings = GeneratorSettings()
    likelihood: PreferenceSettings = PreferenceSettings()
    classifier: HeadSettings = HeadSettings()
    stepwise: HeadSettings = HeadSettings()
    calibration_problems: PositiveInt = 500
    """Training problems that are kept from the generator and the verifiers, for calibration and thresholds."""
    calibration_samples: PositiveInt = 16
    """Answers to each of those."""
    candidates: PositiveInt = 16
    """Samples of a held-out problem from which the verifiers choose in the evaluation."""

    @model_validator(mode="after")
    def _elsewhere_nothing_is_trained(self) -> Self:
        if self.asked is not None and self.rounds:
            raise ValueError(
                f"vstar.asked is {self.asked!r}, of which no new generator can be made here: set vstar.rounds=0"
            )
        return self

    @model_validator(mode="after")
    def _steps_are_seen(self) -> Self:
        if self.reads == "program" and "stepwise" in self.kinds:
            raise ValueError(
                "vstar.reads is program, which is found in whole answers, and the stepwise verifier reads them as they "
                "grow: leave stepwise out of vstar.kinds"
            )
        return self


def refuse_idle_steps(before: VstarSettings, after: VstarSettings) -> None:
    """Raise a ConfigurationError if `after` changes, of what `before` had, how a body learns that does not learn."""
    for kind in ("classifier", "stepwise"):
        was: HeadSettings = getattr(before, kind)
        now: HeadSettings = getattr(after, kind)
        changed = [name for name in _OF_STEPS if getattr(was, name) != getattr(now, name)]
        if now.body == "frozen" and changed:
            raise ConfigurationError(
                f"vstar.{kind}.{changed[0]} has no effect: with vstar.{kind}.body=frozen the head is fitted in one "
                f"reading and nothing else learns; leave it away, or set vstar.{kind}.body=with_head or after_head"
            )
