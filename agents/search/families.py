"""Strategies by the size of the budget: "beam" at 16 answers is a beam of 4 x 4. For comparing strategies at equal tokens."""

from selfcorrect.agents.search.names import KINDS, strategy_named
from selfcorrect.agents.search.strategies import Strategy
from selfcorrect.errors import ConfigurationError

_EXPAND = 4
"""Ways in which a beam goes on with each beginning, as in Snell et al."""
_LONGEST_CHAIN = 16
"""Answers of the longest single chain that is compared: its revisions cannot share a batch, and take longest by far."""


def sized(family: str, answers: int) -> Strategy | None:
    """The strategy of `family` that writes about `answers` answers; None where it has none so small.

    A family is the kind of a strategy with its options: "majority", "best_of_n:sure=0.95", "revise:pick=majority" (pick=verifier
    unless said otherwise), "beam", "beam:lookahead=1", "mixed:revisions=3" (1 unless said otherwise: as many revisions as attempts).

    Raises:
        ConfigurationError: there is no such family.
    """
    kind, *options = family.split(":")
    if kind not in KINDS:
        raise ConfigurationError(f"unknown strategy {family!r}; there are {', '.join(KINDS)}")
    if kind == "beam":
        expand = min(_EXPAND, answers)
        return _named(kind, f"{answers // expand}x{expand}", options)
    if kind == "mixed":
        revisions = _revisions(options)
        return _named(kind, f"{answers // (1 + revisions)}x{revisions}", options) if answers > revisions else None
    if kind == "revise":
        picks = [] if any(option.startswith("pick=") for option in options) else ["pick=verifier"]
        return _named(kind, str(answers - 1), options + picks) if 1 < answers <= _LONGEST_CHAIN else None
    return _named(kind, str(answers), options)


def _revisions(options: list[str]) -> int:
    """Takes "revisions=..." out of `options`."""
    given = next((option for option in options if option.startswith("revisions=")), None)
    if given is None:
        return 1
    options.remove(given)
    number = given.partition("=")[2]
    if not number.isdigit() or int(number) < 1:
        raise ConfigurationError(f"mixed:{given}: the revisions of a chain are a number of 1 or more")
    return int(number)


def _named(kind: str, size: str, options: list[str]) -> Strategy:
    return strategy_named(":".join([kind, size, *options]))
