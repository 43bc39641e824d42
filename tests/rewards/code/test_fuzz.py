"""Any text is survived: responses, and messages of a program that speaks to the tests by itself."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.code import UnitTestChecker, read_suite

TESTS = "assert f(20) == 400\nassert f(11) == 121"
RIGHT = (
    "Squares:\n```python\nimport math\n\ndef f(x):\n    '''The square.'''\n    return int(math.pow(x, 2))\n```\nDone.\n"
)
few = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(deadline=30.0, workers=1) as checker:
        yield checker


@pytest.fixture(scope="module")
def impatient() -> Iterator[UnitTestChecker]:
    """For programs that leave the tests waiting for the rest of a message."""
    with UnitTestChecker(deadline=0.5, workers=1) as checker:
        yield checker


def judged(checker: UnitTestChecker, program: str) -> Verdict:
    for _ in range(10):
        verdict = checker.check_sync(f"```python\n{program}\n```", TESTS)
        if verdict.status is not Status.UNJUDGED or not ("busy" in verdict.reason or "in time" in verdict.reason):
            break
    return verdict


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = RIGHT
    for _ in range(draw(st.integers(1, 6))):
        at, until = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        piece = draw(
            st.one_of(
                st.text(max_size=5), st.sampled_from(["`", "```\n", "\n", "x", "(", "\0", "\ud800", text[at:until]])
            )
        )
        text = text[:at] + piece + text[draw(st.sampled_from([at, until, at + 1])) :]
    return text


@pytest.mark.slow
@few
@given(st.one_of(st.text(max_size=60), mutated()))
def test_any_response_gets_a_verdict_and_the_same_one_twice(checker: UnitTestChecker, response: str) -> None:
    first, second = (checker.check_sync(response, TESTS) for _ in range(2))
    assert first.status is not Status.UNJUDGED, first.reason
    assert (first.status, first.answer, first.reason) == (second.status, second.answer, second.reason)
    if first.correct:
        assert first.answer is not None and "def f(" in first.answer


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Messages on the program's channel: well-formed, nearly so, or noise."""
    values = st.one_of(json_data, st.just(["t", [["t", []], ["d", [], 0]]]))
    shaped = st.one_of(
        st.tuples(st.just("ok"), values, values).map(list),
        st.tuples(
            st.just("raise"),
            st.lists(st.sampled_from(["ValueError", "Exception", "SystemExit", "Mine", ""])),
            values,
            values,
            values,
        ).map(list),
        st.tuples(st.sampled_from(["callback", "unfit", "loaded", "done", "back"]), values, values).map(list),
        json_data,
    )
    data = b""
    for message in draw(st.lists(shaped, min_size=1, max_size=5)):
        body = json.dumps(message).encode()
        data += struct.pack(">I", len(body) + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))) + body
    return draw(st.one_of(st.just(data), st.binary(max_size=40)))


@pytest.mark.slow
@few
@given(frames(), st.booleans())
def test_no_message_makes_a_program_right_or_its_tests_at_fault(
    impatient: UnitTestChecker, sent: bytes, leaves: bool
) -> None:
    program = f"import os\ndef f(x):\n    os.write(3, {sent!r})\n    {'os._exit(0)' if leaves else 'return 1'}"
    verdict = judged(impatient, program)
    assert verdict.status is Status.WRONG, verdict.reason


@pytest.mark.slow
@few
@given(frames())
def test_no_message_sent_while_loading_does_either(impatient: UnitTestChecker, sent: bytes) -> None:
    program = f"import os\nos.write(3, {sent!r})\nos._exit(0)"
    verdict = judged(impatient, program)
    assert verdict.status is Status.WRONG, verdict.reason


@pytest.mark.slow
@settings(max_examples=300)
@given(
    json_data
    | st.dictionaries(
        st.sampled_from(["kind", "code", "cases", "entry_point", "function", "pairs", "check", "stdin_stdout"]),
        json_data,
    )
)
def test_tests_of_any_shape_are_read_or_refused(tests: Any) -> None:
    try:
        read_suite(tests)
    except CheckerError as problem:
        assert str(problem)


@pytest.mark.slow
@few
@given(st.lists(json_data, max_size=3), json_data)
def test_a_function_that_gives_back_what_is_expected_is_right(
    checker: UnitTestChecker, args: list[Any], expected: Any
) -> None:
    """Values of any kind cross both ways; a pair's test is passed by exactly what it says."""
    text = json.dumps(expected)
    if "NaN" in text:
        return
    tests = {"pairs": [[args, expected]], "entry_point": "f"}
    right = f"import json\ndef f(*args):\n    return json.loads({text!r})"
    assert checker.check_sync(right, tests).correct
    assert not checker.check_sync("def f(*args):\n    return ['something', 'else', 90210]", tests).correct
