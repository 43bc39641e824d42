"""How a call and its outcome are told, in one bounded line, to a person or to a policy that shall correct itself."""

import collections
import datetime
import decimal
import fractions
import reprlib
from typing import Any

from selfcorrect.rewards.sandbox.inside.proxies import Remote, label_of, name_of
from selfcorrect.rewards.sandbox.inside.values import NamedTuple, NotPlain, Reader

_MAX_LINE = 300


class _Named:
    """Stands for a function or object in the wording of a call."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __repr__(self) -> str:
        return f"<{self._what}>" if isinstance(self._what, str) else "<function>"


_SHOWN = (
    bool,
    type(None),
    float,
    complex,
    bytes,
    bytearray,
    range,
    fractions.Fraction,
    decimal.Decimal,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    collections.Counter,
    collections.OrderedDict,
    collections.defaultdict,
    NamedTuple,
    _Named,
)


class _Brief(reprlib.Repr):
    """`repr`, bounded in length and depth, that asks no object of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 4, 12, 12, 8, 12
        self.maxstring = self.maxother = self.maxlong = 100

    def repr1(self, x: Any, level: int) -> str:
        if issubclass(type(x), Remote):
            return f"<{name_of(x)} object>"
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"<integer of {x.bit_length()} bits>"

    def repr_instance(self, x: Any, level: int) -> str:
        # Other objects show their address, and a reason must be the same every time.
        return super().repr_instance(x, level) if type(x) in _SHOWN else f"<{type(x).__name__}>"


_brief = _Brief()


def brief(value: Any) -> str:
    """A value in at most 300 characters."""
    return one_line(_brief.repr(value))


def one_line(text: str) -> str:
    """Text without line breaks, cut to 300 characters."""
    flat = " ".join(text[: 4 * _MAX_LINE].split())
    return flat if len(flat) <= _MAX_LINE else flat[: _MAX_LINE - 3] + "..."


class Exchange:
    """One question to the program and what came of it. Nothing is formatted until somebody asks."""

    def __init__(self, operation: str, written: Any, target: Any, label: str) -> None:
        self._operation, self._written, self._target, self._label = operation, written, target, label
        self._outcome: tuple[str, Any] | None = None

    @property
    def label(self) -> str:
        return self._label

    @property
    def may_stop(self) -> bool:
        """Whether StopIteration is a proper end of it."""
        return self._operation in ("next", "await special")

    @property
    def ended(self) -> bool:
        return self._outcome is not None

    def returned(self, value: Any) -> None:
        self._outcome = "returned", value

    def raised(self, text: str) -> None:
        self._outcome = "raised", text

    def asked(self) -> str:
        """What was asked: "f(3)". Read from the message, because the call may have changed its arguments since."""
        if self._operation != "call" or not issubclass(type(self._target), Remote):
            return self._label or self._operation
        try:
            _, args, kwargs = Reader(lambda written: _Named(written[-1])).read(self._written)
        except NotPlain:
            return self._label
        parts = [brief(value) for value in args] + [f"{name}={brief(value)}" for name, value in kwargs.items()]
        return one_line(f"{label_of(self._target)}({', '.join(parts)})")

    def told(self) -> str:
        """What was asked and what came of it: "f(3) returned 8"."""
        if self._outcome is None:
            return f"{self.asked()} did not return"
        how, what = self._outcome
        return one_line(f"{self.asked()} {how} {brief(what) if how == 'returned' else what}")
