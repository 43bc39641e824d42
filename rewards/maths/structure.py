"""One structure seen as another: points, equations, alternatives; and what to call each."""

from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Relation, Scalar, Words
from selfcorrect.rewards.maths.equality import variables
from selfcorrect.rewards.maths.tree import Node

_NAMES = {"()": "a tuple or open interval", "[]": "a closed interval", "(]": "a half-open interval", "[)": "a half-open interval",
          "{}": "a set", "list": "a list", "solutions": "several solutions", "or": "several answers", "union": "a union",
          "matrix": "a matrix", "row": "a row", ":": "a ratio or time"}  # fmt: skip


def both_functions(first: str, second: str) -> bool:
    """y = 2x and f(x) = 2x name one function in two ways."""
    return "y" in (first, second) and "(" in first + second


def write_points_differently(reference: Collection, answer: Collection) -> bool:
    kinds = {reference.kind, answer.kind}
    if len(kinds) < 2:
        return False
    return ("matrix" in kinds and kinds <= {"()", "[]", "matrix"}) or (
        "()" in kinds and kinds <= {"()", "list", "solutions"}
    )


def as_tuple(collection: Collection) -> Collection:
    """A one-column matrix as a point, and x = 5, y = 6 as (5, 6): coordinates go by the names' alphabetical order."""
    if collection.kind == "matrix":
        rows = [row.items for row in collection.items if isinstance(row, Collection)]
        if all(len(row) == 1 for row in rows):
            return Collection("()", tuple(row[0] for row in rows))
        return Collection("()", rows[0]) if len(rows) == 1 else collection
    if collection.kind == "[]":
        return Collection("()", collection.items)
    labelled = [item for item in collection.items if isinstance(item, Labelled)]
    names = {item.label for item in labelled}
    if collection.kind not in ("list", "solutions") or len(names) < len(collection.items):
        return collection
    return Collection("()", tuple(item.answer for item in sorted(labelled, key=lambda item: item.label)))


def has_alternatives(answer: Answer) -> bool:
    if isinstance(answer, Labelled):
        return has_alternatives(answer.answer)
    return isinstance(answer, Collection) and answer.kind in ("or", "solutions", "list", "{}", "union")


def as_equation(answer: Answer) -> Relation | None:
    """An equation between variables: as it is, or y = 2x + 1 as one. A mere value (x = 4) is none: x^2 = 16 does not say it."""
    if isinstance(answer, Relation):
        return answer if answer.signs == ("=",) else None
    if not isinstance(answer, Labelled) or not isinstance(answer.answer, Scalar) or answer.answer.node is None:
        return None
    if not variables(answer.answer.node) or not answer.label.isalpha() or len(answer.label) > 1:
        return None
    return Relation(("=",), (Scalar(answer.label, None, Node("symbol", name=answer.label)), answer.answer))


def describe(answer: Answer) -> str:
    if isinstance(answer, Collection):
        return _NAMES[answer.kind]
    if isinstance(answer, Words):
        return "words"
    if isinstance(answer, Relation):
        return "a relation"
    return "one value"
