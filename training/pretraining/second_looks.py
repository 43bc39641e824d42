"""How a document looks at an attempt again: true steps, to be compared with what the attempt says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any, Protocol

from selfcorrect.agents.prompts import COUNTDOWN as PROMPTS
from selfcorrect.agents.prompts import record_prompts
from selfcorrect.rewards.checker import Checker
from selfcorrect.tasks.countdown import LARGEST_VALUE, CountdownTask
from selfcorrect.tasks.equations import NAMES, EquationsTask
from selfcorrect.tasks.problem import Problem, Split

# The tokenizers of small policies: one token for every number up to 199, every operator and a few words.


PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SYMBOLS = ("+", "-", "*", "/", "=", ";", ":")
LOOP_WORDS = ("again", "check", "right", "wrong", "hint")
"""What the prompts of the loop and the second looks are made of, whatever the task."""
WORDS = ("get", *LOOP_WORDS)
"""The words of the embedded policy."""


def vocabulary(words: Sequence[str] = WORDS) -> list[str]:
    """Every token, in the order of its id."""
    return [PAD, EOS, UNKNOWN, *map(str, range(LARGEST_VALUE + 1)), *SYMBOLS, *words]


def make_tokenizer(words: Sequence[str] = WORDS, *, positions: int = 256) -> Any:
    """A `PreTrainedTokenizerFast` over whitespace-separated words, for texts of up to `positions` tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(vocabulary(words))}
    inner = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )


@dataclass(frozen=True, slots=True)
class SecondLook:
    """How an answer is looked at again.

    Attributes:
        recheck: true steps that test the end of an attempt, followed by a space; "" if it cannot be read.
        same_way: whether a solution goes the way of an attempt; after "wrong" comes one that does not.
    """

    recheck: Callable[[str], str]
    same_way: Callable[[str, str], bool]


def worked_out_once_more(attempt: str) -> str:
    """The last step of a Countdown attempt worked out anew, "8 * 7 = 56 "; "" if it cannot be read.

    A value that is no whole number of 1 to 199 is written as 0.
    """
    step = _last_step(attempt, "+-*/")
    if step is None:
        return ""
    left, operator, right = step
    if operator == "/":
        value = left // right if right and left % right == 0 else 0
    else:
        value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return f"{left} {operator} {right} = {value if 1 <= value <= LARGEST_VALUE else 0} "


def both_ends_worked_out(attempt: str) -> str:
    """The last subtraction of an attempt at an equation worked out anew, and its division multiplied back.

    For "... ; 63 - 28 = 36 ; 36 / 5 = 7" this is "63 - 28 = 35 ; 7 * 5 = 35 ": the two values are the same if what was
    left is what was divided. A difference below 1 is written as 0. "" if the steps cannot be read, or the product is
    not in the vocabulary.
    """
    before, _, last = attempt.rpartition(" ; ")
    difference, division = _last_step(before, "-"), _last_step(last, "/")
    quotient = last.split()[-1:]
    if difference is None or division is None or not quotient[0].isdigit():
        return ""
    product = int(quotient[0]) * division[2]
    rest = max(0, difference[0] - difference[2])
    if product > LARGEST_VALUE:
        return ""
    return f"{difference[0]} - {difference[2]} = {rest} ; {quotient[0]} * {division[2]} = {product} "


def _last_step(attempt: str, operators: str) -> tuple[int, str, int] | None:
    words = attempt.split(" ; ")[-1].split()
    if len(words) != 5 or not (words[0].isdigit() and words[1] in operators and words[2].isdigit()):
        return None
    return int(words[0]), words[1], int(words[2])


def same_first_step(attempt: str, solution: str) -> bool:
    """Whether two answers begin with the same step."""
    return attempt.split(" ; ")[0] == solution.split(" ; ")[0]


COUNTDOWN_LOOK = SecondLook(worked_out_once_more, eq)
"""Of the embedded policy: another way is any other text."""


# What a small policy can be at home in: where its problems come from, its words, and how it looks at an answer again.


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

    def tokenizer(self, positions: int = 256) -> Any:
        """Knows its words, and keeps on record which prompts the policy reads."""
        tokenizer = make_tokenizer(self.words, positions=positions)
        record_prompts(tokenizer, PROMPTS)
        return tokenizer


HOMES = {
    "countdown": Home(CountdownTask, WORDS, COUNTDOWN_LOOK),
    "equations": Home(EquationsTask, (*NAMES, *LOOP_WORDS), SecondLook(both_ends_worked_out, same_first_step)),
}
