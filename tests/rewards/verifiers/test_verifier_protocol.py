"""The protocols of verifiers, and the scripted one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import ScriptedVerifier, StepVerifier, Verifier, prefixes, split_steps

STEPS = st.lists(st.text(alphabet="ab 1=", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=5)


def test_a_scripted_verifier_is_a_step_verifier() -> None:
    assert isinstance(ScriptedVerifier({}), StepVerifier) and isinstance(ScriptedVerifier({}), Verifier)


def test_scores_come_in_the_order_of_the_responses() -> None:
    verifier = ScriptedVerifier({"a": 0.2, "b": None})
    assert asyncio.run(verifier.scores("p", ["b", "a", "b"])) == [None, 0.2, None]


def test_every_step_is_scored_with_all_that_was_written_before_it() -> None:
    verifier = ScriptedVerifier(lambda prompt, written: len(written) / 100)
    assert asyncio.run(verifier.step_scores("p", "aa ; bbb")) == [0.02, 0.08]


def test_an_unknown_response_is_an_error() -> None:
    with pytest.raises(CheckerError, match="no score for 'c'"):
        asyncio.run(ScriptedVerifier({"a": 0.2}).scores("p", ["c"]))


@given(STEPS)
def test_steps_joined_are_the_response_and_the_last_prefix_is_all_of_it(steps: list[str]) -> None:
    response = " ; ".join(steps)
    assert split_steps(response) == steps
    assert prefixes(response)[-1] == response and len(prefixes(response)) == len(steps)


def test_blank_steps_do_not_count() -> None:
    assert split_steps(" ; 1 + 2 = 3 ;  ; ") == ["1 + 2 = 3"] and split_steps("") == []
