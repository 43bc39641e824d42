"""What answers that stand side by side are together."""

from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Scalar
from selfcorrect.rewards.maths.labels import family
from selfcorrect.rewards.maths.splitting import Kind


def alternatives_of(answers: tuple[Answer, ...]) -> Answer:
    """What is joined by "or": a union of regions, several values of one label, or answers to choose from."""
    if all(map(_is_region, answers)):
        return Collection("union", tuple(a.answer if isinstance(a, Labelled) else a for a in answers))
    answers = tuple(
        item for a in answers for item in (a.items if isinstance(a, Collection) and a.kind == "list" else (a,))
    )
    labels = {family(a.label) for a in answers if isinstance(a, Labelled)}
    if len(labels) == 1 and isinstance(answers[0], Labelled):  # x = 2 or x = 3; also: x = 2 or 3
        bare = tuple(a.answer if isinstance(a, Labelled) else a for a in answers)
        return Labelled(answers[0].label, Collection("solutions", bare))
    return Collection("or", answers)


def collection_of(kind: Kind, items: tuple[Answer, ...]) -> Answer:
    """Items of one collection; several values of one label are its solutions."""
    labels = [family(item.label) for item in items if isinstance(item, Labelled)]
    if kind == "list" and len(items) > 1 and labels and len(set(labels)) == 1 and isinstance(items[0], Labelled):
        bare = tuple(item.answer if isinstance(item, Labelled) else item for item in items)
        return Labelled(labels[0], Collection("solutions", bare))  # x = 2, x = 3; also: x = 2, 3
    if kind == "list" and len(items) > 1 and all(isinstance(item, Collection) for item in items):
        kind = "solutions"  # (1, 2), (3, 4): points or intervals have no order
    return Collection(kind, items)


def _is_region(answer: Answer) -> bool:
    """A labelled interval (x < 3), or one that cannot be a point: (1, 2) may be either, and is read as a point here."""
    if isinstance(answer, Labelled):
        return isinstance(answer.answer, Collection) and answer.answer.kind in ("()", "[]", "(]", "[)")
    return isinstance(answer, Collection) and (
        answer.kind in ("[]", "(]", "[)")
        or (answer.kind == "()" and any(isinstance(i, Scalar) and "infty" in i.text for i in answer.items))
    )
