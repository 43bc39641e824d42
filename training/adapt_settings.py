"""How to adapt to problems without answers: how much is sampled, what is paid, when it ends."""

from dataclasses import dataclass, field

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.agreement_guard import GuardSettings
from selfcorrect.training.settings import LoraSettings


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
