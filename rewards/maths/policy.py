"""What the user may decide about which answers count."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """Choices that depend on the data set, not on mathematics.

    Attributes:
        worked_out: a reference that is a plain number wants a number: "17*23" is no answer to 391, nor "84/12" to 7. Otherwise a
            policy learns to copy the exercise.
        lowest_terms: 2/4 is no answer to 1/2. For data sets whose exercises ask to simplify a fraction.
        ordered_lists: the bare list "3, 2" is no answer to "2, 3". Otherwise a policy learns to copy a list that it was
            asked to sort. Solutions joined by "or", labelled ones (x = 2, x = 3) and sets are never ordered.
    """

    worked_out: bool = True
    lowest_terms: bool = False
    ordered_lists: bool = True
