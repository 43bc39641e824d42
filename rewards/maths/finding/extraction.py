"""Which part of a response is its answer: the last one stated. See docs/math-answers.md."""

import re
from dataclasses import dataclass
from typing import Literal

from selfcorrect.rewards.maths.finding.bounds import asked_in
from selfcorrect.rewards.maths.finding.boxes import EMPTY_BOX, FORMULA, last_box
from selfcorrect.rewards.maths.finding.prose import last_bold, last_number_in_words, sentences, value_of_sentence
from selfcorrect.rewards.maths.finding.statements import affirmed, concludes, last_statement, looks_like_answer
from selfcorrect.rewards.maths.text import MAX_ANSWER, clean, plain_signs

MAX_RESPONSE = 20_000
"""Characters, counted from the end, in which an answer is looked for."""

Unmarked = Literal["unreadable", "guess"]
"""What becomes of a response that does not say which of its values is its answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """The text of an answer, or why there is none (`text` is None)."""

    text: str | None
    problem: str = ""


_BROKEN_TEXT = re.compile(r"(\\text\{[^{}\n]*)\n([^{}\n]*\})")
"""Words set as text that run on in the next line."""


# Thinking aloud is not answering.

_THOUGHT_TAG = re.compile(
    r"<(?P<end>/?)(?:[\w-]+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)>"
    r"|<\|(?:begin|(?P<ended>end))_of_(?:thought|thinking)\|>|<\|(?P<last>/?)think(?:ing)?\|>"
    r"|<\|channel\|>\s*(?:analysis|(?P<spoken>final))(?:<\|message\|>)?"
    r"|◁(?P<closed>/?)think▷|\[(?P<shut>/?)THINK\]",
    re.IGNORECASE,
)


def after_thinking(response: str) -> str | None:
    """What follows the last thinking section; None if that never ends."""
    last = None
    for match in _THOUGHT_TAG.finditer(response):
        last = match
    if last is None:
        return response
    return response[last.end() :] if any(last.groups()) else None


# The answer, as far as it is marked; else a guess.


def find_answer(response: str, *, in_words: bool = False, unmarked: Unmarked = "guess") -> Found:
    """The last answer that `response` states.

    Boxes (\\boxed{...}) and statements ("the answer is ...", "#### ...") count in the order in which they stand;
    without any, bold text, a short response as a whole, the value of the only sentence or of a last one that concludes
    ("so", "= 42"). Text before a closing </think> does not count.

    Args:
        response: any text at all.
        in_words: the reference is a word or a choice letter; then a number in passing is no answer.
        unmarked: "guess" takes the last value of a response that marks none, looks into a thinking section that never
            ended, and passes over empty boxes; "unreadable" finds no answer in any of the three.
    """
    spoken = after_thinking(response)
    if spoken is None:
        if unmarked == "unreadable":
            return Found(None, "its thinking never ended")
        spoken = response
    text = _BROKEN_TEXT.sub(r"\1 \2", plain_signs(spoken[-MAX_RESPONSE:]))
    box_start, box = last_box(text, skip_empty=unmarked == "guess")
    statement = last_statement(text, after=box_start, in_words=in_words)
    if statement is not None:
        return _bounded(statement)
    if box is not None:
        return _bounded(box) if box != "" else Found(None, "its last \\boxed{ is empty or not closed")
    return _without_marks(text, in_words, unmarked)


def marked_answer(solution: str) -> Found:
    """The answer of a worked solution, as in MATH and GSM8K: its last box, else what follows its last ####."""
    _, box = last_box(solution, skip_empty=True)
    if box is not None:
        return _bounded(box) if box != "" else Found(None, "its last \\boxed{ is not closed")
    return _bounded(solution.rpartition("####")[2].strip().partition("\n")[0])


def _bounded(text: str) -> Found:
    if len(text) > MAX_ANSWER:
        return Found(None, f"its answer is longer than {MAX_ANSWER} characters")
    return Found(text.strip())


_SHORT = 120


def _without_marks(text: str, in_words: bool, unmarked: Unmarked) -> Found:
    text = EMPTY_BOX.sub("", text).strip()
    if not text:
        return Found(None, "it is empty")
    in_sentence = FORMULA.search(text) and re.search(r"[^\W\d_]", FORMULA.sub(" ", text))
    bold = last_bold(text, in_words=in_words)
    if bold is not None and affirmed(text):
        return _bounded(bold)
    if "\n" not in text and len(text) <= _SHORT and asked_in(text, ""):
        return Found(None, "it only asks")
    if not in_sentence and len(text) <= _SHORT and "\n" not in text and looks_like_answer(text, in_words):
        return Found(text) if affirmed(text) == text else Found(None, "it only denies an answer")
    if in_words:
        last = text.splitlines()[-1].strip(" *_`.")
        return Found(last) if len(last.split()) <= 3 else Found(None, "no answer is marked in it")
    return _value_of_last_sentence(text, unmarked)


_CHECKING = re.compile(r"\W*(?:to )?(?:check|verif|double[- ]check|sanity|proof|note|see)\w*\b", re.IGNORECASE)
"""A sentence that begins so tests an answer; it gives none."""


def _value_of_last_sentence(text: str, unmarked: Unmarked) -> Found:
    every = sentences(text)
    for sentence, following in zip(reversed(every), ["", *reversed(every)], strict=False):
        if _CHECKING.match(sentence) or asked_in(sentence, following):
            continue
        kept = affirmed(sentence)
        value = _in_words(kept, alone=len(every) == 1) or value_of_sentence(kept)
        if value is None:
            continue
        if unmarked == "unreadable" and len(every) > 1 and not concludes(kept):
            return Found(None, "nothing in it marks an answer, and guessing is off")
        return _bounded(value)
    return Found(None, "no answer was found in it")


def _in_words(sentence: str, *, alone: bool) -> str | None:
    """The number in words that a sentence, or what stands in it behind its last digit, comes to."""
    behind = re.split(r"\d", sentence)[-1]
    concluding = concludes(behind) or (alone and behind == sentence)
    return last_number_in_words(behind, announced=False) if concluding else None


# Multiple choice: the letter, and what stands behind it.

_CHOICE = re.compile(r'"?\s*(?:(?:option|choice|answer)\s+)?\(?\s*"?([A-J])"?\s*\)?\s*[.:)]?\s*"?', re.IGNORECASE)
_CHOICE_AND_MORE = re.compile(r'"?\s*(?:\(([A-J])\)|([A-J])\s*[):.])\s*"?\s*(?=\W{0,3}\w)(\S.*)')
_ANOTHER_CHOICE = re.compile(r"(?:\b(?:or|and|maybe)\b|[/,&;|])[\s\"]*\(?[A-J]\b|^\(?[A-J]\b\W*")


def choice_letter(text: str) -> str | None:
    """The letter of a multiple-choice answer, "(B)" or "B" or "Option B" or "B) 42" or "b", as a capital."""
    cleaned = clean(text)
    match = _CHOICE.fullmatch(cleaned)
    if match is not None:
        return match[1].upper()
    more = _CHOICE_AND_MORE.fullmatch(cleaned)
    return None if more is None or _ANOTHER_CHOICE.search(more[3]) else str(more[1] or more[2])


def without_choice_letter(text: str) -> str:
    """What stands behind a choice letter: "42" of "(B) 42"; otherwise the text itself."""
    more = _CHOICE_AND_MORE.fullmatch(clean(text))
    return text if more is None else str(more[3])
