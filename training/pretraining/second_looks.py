"""How a document looks at an attempt again: one true step, to be compared with what the attempt says."""

from selfcorrect.tasks.countdown import LARGEST_VALUE


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


def divided_back(attempt: str) -> str:
    """The last step of an attempt at an equation, a division, multiplied back: "7 * 5 = 35 " for "... ; 36 / 5 = 7".

    "" if it cannot be read, or its product is not in the vocabulary.
    """
    words = attempt.split(" ; ")[-1].split()
    if _last_step(attempt, "/") is None or not words[4].isdigit():
        return ""
    quotient, divisor = int(words[4]), int(words[2])
    product = quotient * divisor
    return f"{quotient} * {divisor} = {product} " if product <= LARGEST_VALUE else ""


def _last_step(attempt: str, operators: str) -> tuple[int, str, int] | None:
    words = attempt.split(" ; ")[-1].split()
    if len(words) != 5 or not (words[0].isdigit() and words[1] in operators and words[2].isdigit()):
        return None
    return int(words[0]), words[1], int(words[2])
