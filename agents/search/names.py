"""Strategies by name, as the command line and plans write them: KIND[:NUMBERS][:OPTION=VALUE ...]."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from selfcorrect.agents.search.strategies import Beam, BestOfN, Majority, Mixed, Revise, Strategy, WeightedBestOfN
from selfcorrect.errors import ConfigurationError

_PICKS = ("last", "majority", "verifier", "weighted")
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "sure": float,
    "wave": int,
    "window": int,
    "lookahead": int,
    "max_steps": int,
    "early": lambda text: {"true": True, "false": False}[text],
    "distinct": lambda text: {"true": True, "false": False}[text],
    "pick": lambda text: _PICKS[_PICKS.index(text)],
}
_KINDS: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "majority": (Majority, ("n",)),
    "best_of_n": (BestOfN, ("n",)),
    "weighted": (WeightedBestOfN, ("n",)),
    "revise": (Revise, ("n",)),
    "beam": (Beam, ("width", "expand")),
    "mixed": (Mixed, ("parallel", "revisions")),
}
KINDS = tuple(_KINDS)


def strategy_named(name: str) -> Strategy:
    """The strategy called `name`, such as "majority:16", "beam:4x4" or "mixed:4x3:pick=majority".

    Raises:
        ConfigurationError: there is none of that name, or its numbers are of another kind.
    """
    kind, *parts = name.strip().split(":")
    if kind not in _KINDS:
        raise ConfigurationError(
            f"unknown strategy {name!r}; there are {', '.join(_KINDS)}, as in majority:16 or beam:4x4"
        )
    made, numbers = _KINDS[kind]
    given: dict[str, Any] = {}
    if parts and "=" not in parts[0]:
        given |= _numbers(name, parts.pop(0), numbers)
    for part in parts:
        option, _, value = part.partition("=")
        if option not in _OPTIONS or option not in made.__dataclass_fields__:
            raise ConfigurationError(f"strategy {name!r}: {kind} has no option {option!r}")
        try:
            given[option] = _OPTIONS[option](value)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"strategy {name!r}: {option} cannot be {value!r}") from error
    strategy: Strategy = made(**given)
    return strategy


def _numbers(name: str, text: str, fields: tuple[str, ...]) -> dict[str, int]:
    if not re.fullmatch(r"\d+(x\d+)*", text) or text.count("x") + 1 != len(fields):
        raise ConfigurationError(
            f"strategy {name!r}: after the first ':' come {' x '.join(fields)}, as in {_example(fields)}"
        )
    return dict(zip(fields, map(int, text.split("x")), strict=True))


def _example(fields: tuple[str, ...]) -> str:
    return "16" if len(fields) == 1 else "4x4"
