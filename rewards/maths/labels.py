"""The names that a variable can have, and what else an answer can be labelled with."""

import re

from selfcorrect.rewards.maths.answers import Answer, Collection, Scalar
from selfcorrect.rewards.maths.tokens import GREEK
from selfcorrect.rewards.maths.tree import Node

NAME = rf"(?:[a-zA-Z]|\\(?:{'|'.join(GREEK)}))(?:_(?:\{{[a-zA-Z0-9]+\}}|[a-zA-Z0-9]))?'*"
LABEL = re.compile(rf"({NAME})(?:\s*\(\s*{NAME}(?:\s*,\s*{NAME})*\s*\)|\s*\^\s*\{{-1\}}\s*\(\s*{NAME}\s*\))?")
TUPLE_LABEL = re.compile(rf"\(\s*{NAME}(?:\s*,\s*{NAME})+\s*\)")
_OF_POINTS = re.compile(r"(?:[A-Z0-9_{}'|:/\s]|\\(?:frac|angle|triangle|overline|overrightarrow|widehat)(?![a-zA-Z]))+")
_TWO_POINTS = re.compile(r"[A-Z]'?\s*[:/]?\s*[A-Z]|_|\\angle")


def squeezed_label(text: str) -> str:
    return re.sub(r"[\s{}]", "", text)


def family(label: str) -> str:
    """x_1 and x_2 are both values of x."""
    return re.sub(r"_\d$", "", label)


def names_points(text: str) -> bool:
    """AB, P_1 or \\angle ABC: named after points, not a variable."""
    return bool(_OF_POINTS.fullmatch(text) and _TWO_POINTS.search(text))


def mentions(answer: Answer, name: str) -> bool:
    if isinstance(answer, Scalar):
        return answer.node is not None and _has_symbol(answer.node, re.sub(r"[{}]", "", name))
    if isinstance(answer, Collection):
        return any(mentions(item, name) for item in answer.items)
    return False


def _has_symbol(node: Node, name: str) -> bool:
    return (node.op == "symbol" and node.name == name) or any(_has_symbol(argument, name) for argument in node.args)
