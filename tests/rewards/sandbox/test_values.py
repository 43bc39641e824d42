"""What crosses between program and tests comes out as it went in, or not at all."""

import collections
import datetime
import decimal
import enum
import fractions
import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.sandbox.inside.values import NotPlain, Reader, Writer


def refused(value: Any) -> NoReturn:
    raise NotPlain("no plain data")


def crossed(value: Any) -> Any:
    return Reader(refused).read(json.loads(json.dumps(Writer(refused).write(value))))


hashable = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**200), 2**200),
        st.floats(allow_nan=False),
        st.text(max_size=5),
        st.binary(max_size=5),
        st.complex_numbers(allow_nan=False),
        st.fractions(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.datetimes(),
        st.timedeltas(),
        st.builds(range, st.integers(-9, 9), st.integers(-9, 9)),
    ),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=6,
)
plain = st.recursive(
    hashable,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
        st.builds(collections.deque, st.lists(inner, max_size=3)),
        st.builds(collections.OrderedDict, st.dictionaries(hashable, inner, max_size=2)),
        st.builds(collections.Counter, st.lists(hashable, max_size=3)),
        st.builds(bytearray, st.binary(max_size=4)),
    ),
    max_leaves=12,
)
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from("ltdsirqBzbNeCODRFMTcofgn")
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=15,
)


@given(plain)
def test_plain_values_come_out_equal_and_of_the_same_types(value: Any) -> None:
    result = crossed(value)
    assert result == value
    assert repr(type(result)) == repr(type(value))


@given(any_json)
def test_whatever_a_program_sends_is_a_value_or_refused(message: Any) -> None:
    try:
        Reader(refused).read(message)
    except NotPlain:
        pass


@given(any_json, plain)
def test_no_message_changes_what_an_argument_is(content: Any, argument: Any) -> None:
    kind = type(argument)
    reader = Reader(refused, [argument])
    try:
        reader.refill(argument, content)
    except NotPlain:
        pass
    assert type(argument) is kind


def test_a_list_that_holds_itself_keeps_its_shape() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    result = crossed(ring)
    assert result[0] == 1 and result[1] is result
    shared: list[int] = []
    first, second = crossed([shared, shared])
    assert first is second


class Equal(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class Everything(list[int]):
    def __eq__(self, other: object) -> bool:
        return True


class Pretender:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        return int


@pytest.mark.parametrize(
    "value",
    [
        Equal(3),
        Everything(),
        Pretender(),
        object(),
        int,
        len,
        (x for x in "a"),
        iter([]),
        type("S", (str,), {})("a"),
        [Equal(1)],
        {Equal(1): 2},
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_exact_types_cross(value: Any) -> None:
    with pytest.raises(NotPlain):
        crossed(value)


def test_enumerations_and_named_tuples_cross_as_their_content() -> None:
    class Colour(enum.IntEnum):
        RED = 3

    Point = collections.namedtuple("Point", "x y")
    assert crossed(Colour.RED) == 3 and type(crossed(Colour.RED)) is int
    point = crossed(Point(1, 2))
    assert point == (1, 2) and (point.x, point.y) == (1, 2)
    assert not hasattr(point, "z")


@pytest.mark.parametrize(
    "message",
    [
        ["i", "f" * 400_001],
        ["M", "1" * 2001],
        ["d", [[["l", [], 1], 2]], 0],
        ["r", 5],
        ["l", [], -1],
        ["l", [["l", [], 0]], 0],
        ["F", 1, 0],
        ["T", "datetime", "yesterday"],
        ["b", "xyz"],
        ["x"],
        [],
        {},
        ["t"],
        ["D", [], "eval", 0, 0, 0],
    ],
)
def test_malformed_messages_are_refused_or_harmless(message: Any) -> None:
    try:
        value = Reader(refused).read(message)
    except NotPlain:
        return
    assert type(value) in (list, collections.defaultdict) and not value


def test_depth_is_bounded_on_both_sides() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotPlain, match="nested deeper"):
        Writer(refused).write(deep)
    written: list[Any] = ["l", [], 0]
    for number in range(1, 300):
        written = ["l", [written], number]
    with pytest.raises(NotPlain, match="nested deeper"):
        Reader(refused).read(written)


def test_scalars_keep_their_precision() -> None:
    for value in (
        10**400,
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        datetime.timedelta(microseconds=1),
        0.1,
        1e308,
        -0.0,
    ):
        assert repr(crossed(value)) == repr(value)
