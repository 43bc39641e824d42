"""Inequalities in one variable, as intervals."""

import re

from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Relation, Scalar
from selfcorrect.rewards.maths.labels import LABEL, squeezed_label
from selfcorrect.rewards.maths.scalars import Unreadable, read_scalar
from selfcorrect.rewards.maths.splitting import Kind
from selfcorrect.rewards.maths.tree import Node

ORDER = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<|>")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}


def read_inequality(text: str) -> Answer:
    signs = tuple(sign.strip() for sign in ORDER.findall(text))
    sides = [side.strip() for side in ORDER.split(text)]
    if any("=" in side or not side for side in sides):
        raise Unreadable("it mixes equations and inequalities")
    if len(sides) == 2 and signs[0] != r"\ne":
        if LABEL.fullmatch(sides[0]):
            return _interval(sides[0], "", "", sides[1], signs[0])
        if LABEL.fullmatch(sides[1]):
            return _interval(sides[1], "", "", sides[0], _FLIPPED[signs[0]])
    if len(sides) == 3 and LABEL.fullmatch(sides[1]):
        if set(signs) <= {"<", r"\le"}:
            return _interval(sides[1], sides[0], signs[0], sides[2], signs[1])
        if set(signs) <= {">", r"\ge"}:
            return _interval(sides[1], sides[2], _FLIPPED[signs[1]], sides[0], _FLIPPED[signs[0]])
    return Relation(signs, tuple(read_scalar(side) for side in sides))


def _interval(label: str, low: str, low_sign: str, high: str, high_sign: str) -> Answer:
    """low < x < high as an interval with the label x; one side may be missing ("")."""
    infinity, minus_infinity = (
        Scalar(r"\infty", None, Node("infinity")),
        Scalar(r"-\infty", None, _minus(Node("infinity"))),
    )
    if high_sign in (">", r"\ge"):
        low, low_sign, high, high_sign = high, _FLIPPED[high_sign], "", ""
    opening = "[" if low_sign == r"\le" else "("
    closing = "]" if high_sign == r"\le" else ")"
    kinds: dict[str, Kind] = {"()": "()", "[]": "[]", "(]": "(]", "[)": "[)"}
    ends = (read_scalar(low) if low else minus_infinity, read_scalar(high) if high else infinity)
    return Labelled(squeezed_label(label), Collection(kinds[opening + closing], ends))


def _minus(node: Node) -> Node:
    return Node("neg", (node,))
