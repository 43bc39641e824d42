"""What is offered behind an answer as another one: "12, or maybe 13"."""

import re

from selfcorrect.rewards.maths.markup import BOX

HEDGE_AFTER = re.compile(
    r"[\s$.,;)*]*\(?\s*(?:or|and/or)\b[\s,]*(?:(?:maybe|perhaps|possibly|also|even|it is|is it|could be|it could be)\s+)*(?P<other>[$\\]?[^\s,;)$]+)",
    re.IGNORECASE,
)


def hedged_value(text: str) -> str:
    box = BOX.match(text)
    return text[box.end() :].strip("{}$ .") if box else text.strip("$ .")


def is_value(text: str) -> bool:
    return any(character.isdigit() for character in text) or text.startswith(("$", "\\"))
