"""Which part of a response is its answer: the last one stated. See docs/math-answers.md."""

import re

from selfcorrect.rewards.maths.boxes import last_box
from selfcorrect.rewards.maths.cleaning import MAX_ANSWER
from selfcorrect.rewards.maths.hedges import HEDGE_AFTER, hedged_value, is_value
from selfcorrect.rewards.maths.markup import BOX, FORMULA
from selfcorrect.rewards.maths.unmarked import Found, bounded, last_value, looks_like_answer, unmarked

MAX_RESPONSE = 20_000
"""Characters, counted from the end, in which an answer is looked for."""

_STATEMENT = re.compile(
    r"(?:####\s*"
    r"|<answer>\s*"
    r"|\b(?:final\s+|correct\s+|right\s+)?(?:answer|result)\b(?:\s+to\s+[^.\n:]{1,60}?)?\s*(?:\*\*)?\s*(?:(?:is|are|=|becomes|equals|should be|must be|would be)(?![a-zA-Z])(?:\s*:)?|:)\s*(?:\*\*)?"
    r")\s*(?:(?:actually|therefore|thus|simply|just|now|then|equal to|given by)\s*,?\s*)*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"[.!?](?=\s|$|\*)|\n|</answer>|<\||\bI hope\b|;\s|,\s+(?:which|so|because|since|as|where|not|but|wait)\b|\s+(?:because|since|but wait|wait)\b"
)
_THOUGHT_END = "</think>"


def find_answer(response: str, *, in_words: bool = False) -> Found:
    """The last answer that `response` states.

    Boxes (\\boxed{...}) and statements ("the answer is ...", "#### ...") count in the order in which they stand; without any,
    a short response as a whole, then the last formula or number. Text before a closing </think> does not count.

    Args:
        response: any text at all.
        in_words: the reference is a word or a choice letter; then a number in passing is no answer.
    """
    text = response[-MAX_RESPONSE:]
    if _THOUGHT_END in text:
        text = text[text.rindex(_THOUGHT_END) + len(_THOUGHT_END) :]
    box_start, box = last_box(text)
    statement = _last_statement(text, after=box_start)
    if statement is not None:
        return bounded(statement)
    if box is not None:
        return bounded(box) if box != "" else Found(None, "its last \\boxed{ is not closed")
    return unmarked(text, in_words)


def _last_statement(text: str, after: int) -> str | None:
    """The last "answer is ..." behind position `after`. Behind a box it needs a number or a formula to count."""
    for match in reversed(list(_STATEMENT.finditer(text, max(after, 0)))[-10:]):
        stated = _stated(text[match.end() : match.end() + 2 * MAX_ANSWER])
        if not stated or BOX.search(stated):
            continue
        if after >= 0 and not (is_value(stated) or FORMULA.search(stated)):
            continue
        return stated
    return None


def _stated(text: str) -> str:
    """The stated answer at the beginning of `text`, up to the end of its sentence."""
    text = text.lstrip(" \t\r\n*:")
    formula = FORMULA.match(text)
    end = formula.end() if formula else 0
    stop = _SENTENCE_END.search(text, end)
    stated = text[: stop.start() if stop else len(text)]
    if formula and not re.match(r"\s*(?:,|and\b|or\b|%|\\%|\w+(?:\s+per\s+\w+|\^\d)?\s*$)", stated[end:]):
        stated = stated[:end]
    stated = stated.strip(" \t*_`")
    if not looks_like_answer(stated) and (value := last_value(stated).text) is not None:
        stated = value  # "the answer is that n is 34"
    if stop is not None and (hedge := HEDGE_AFTER.match(text, stop.start())) is not None and is_value(hedge["other"]):
        stated += f" or {hedged_value(hedge['other'])}"
    return stated
