"""What is seen of thinking from outside: tokens with their thoughts, and the cost."""

from dataclasses import dataclass


@dataclass(slots=True)
class Cost:
    """What thinking costs, counted over all calls of a policy.

    Attributes:
        visible: tokens that were written.
        read: tokens that the model read to write them: the visible ones, thoughts and marks.
        seconds: of decoding.
    """

    visible: int = 0
    read: int = 0
    seconds: float = 0.0

    @property
    def per_visible_token(self) -> float:
        """Tokens read for each visible one; 1 without thoughts, and 0 before the first call."""
        return self.read / self.visible if self.visible else 0.0

    @property
    def milliseconds_per_visible_token(self) -> float:
        return 1000 * self.seconds / self.visible if self.visible else 0.0


@dataclass(frozen=True, slots=True)
class VisibleToken:
    """A written token, and what was thought before it.

    `weight` is the thought's share in the mixture: 0 ignores it.
    """

    text: str
    thought: str
    weight: float
