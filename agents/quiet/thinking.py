"""How a model thinks: what is decided before any training, and saved with the model."""

from dataclasses import dataclass
from typing import Literal

from selfcorrect.agents.quiet.marks import END, PAUSE, START
from selfcorrect.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks.

    Attributes:
        tokens: of a thought, without its marks.
        kind: "thought" writes tokens of its own; "pause" reads as many pause tokens instead (Goyal et al. 2023, arXiv
            2310.02226), the marks' places included: the same computation, with nothing to say.
        names: of the start and end tokens, or of the pause token; None are the usual ones.
        like: texts whose embeddings the marks start from; None takes a dash (see `marks.like`).
        never: tokens that a thought does not hold, besides marks and the end of text; such as what its end mark starts from.
        gradient_weight: of the marks' embeddings; see `Marks`.
        initial_weight: of every thought in the mixture, before training; in (0, 1).
    """

    tokens: int = 8
    kind: Literal["thought", "pause"] = "thought"
    names: tuple[str, ...] | None = None
    like: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    gradient_weight: float = 1.0
    initial_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigurationError(f"a thought has at least 1 token, got {self.tokens}")
        if not 0 < self.initial_weight < 1:
            raise ConfigurationError(f"initial_weight must lie between 0 and 1, got {self.initial_weight}")
        if not self.gradient_weight > 0:
            raise ConfigurationError(f"gradient_weight must be more than 0, got {self.gradient_weight}")
        for what, given in (("names", self.names), ("like", self.like)):
            if given is not None and len(given) != self.marks:
                raise ConfigurationError(f"{what} of a {self.kind} are {self.marks}, got {given}")

    @property
    def marks(self) -> int:
        return 2 if self.kind == "thought" else 1

    @property
    def overhead(self) -> int:
        """Tokens that a stream reads before it predicts: the thought and its marks."""
        return self.tokens + 2

    @property
    def mark_names(self) -> tuple[str, ...]:
        return self.names or ((START, END) if self.kind == "thought" else (PAUSE,))
