"""Settings of the critic."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """A linear value head on the policy's last hidden states.

    Args:
        learning_rate: of its own Adam.
        epochs: passes over each batch.
        discount: per token, within a turn.
        trace: lambda of GAE.
    """

    learning_rate: float = 1e-3
    epochs: int = 4
    discount: float = 1.0
    trace: float = 0.95
