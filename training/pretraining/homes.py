"""What a small policy can be at home in: where its problems come from, its words, and how it looks at an answer again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from selfcorrect.agents.prompt_choice import record_prompts
from selfcorrect.agents.prompts import COUNTDOWN as PROMPTS
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.equations import NAMES, EquationsTask
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.training.pretraining.second_looks import (
    COUNTDOWN_LOOK,
    SecondLook,
    both_ends_worked_out,
    same_first_step,
)
from selfcorrect.training.pretraining.vocabulary import LOOP_WORDS, WORDS, make_tokenizer


class EndlessTask(Protocol):
    """A procedural task."""

    @property
    def checker(self) -> Checker: ...

    def stream(self, split: Split, *, seed: int = 0) -> Iterator[Problem]:
        """Problems of `split` without end."""
        ...

    def problems(self, split: Split, count: int, *, seed: int = 0) -> list[Problem]: ...


@dataclass(frozen=True, slots=True)
class Home:
    """One task a policy can be pre-trained for.

    Attributes:
        open: the task with so many numbers or unknowns.
        words: the vocabulary, besides numbers and operators.
        look: how an answer is looked at again.
    """

    open: Callable[[int], EndlessTask]
    words: tuple[str, ...]
    look: SecondLook

    def tokenizer(self) -> Any:
        """Knows its words, and keeps on record which prompts the policy reads."""
        tokenizer = make_tokenizer(self.words)
        record_prompts(tokenizer, PROMPTS)
        return tokenizer


HOMES = {
    "countdown": Home(CountdownTask, WORDS, COUNTDOWN_LOOK),
    "equations": Home(EquationsTask, (*NAMES, *LOOP_WORDS), SecondLook(both_ends_worked_out, same_first_step)),
}
