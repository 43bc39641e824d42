"""Templates replace what they should, and critiques are read as they were meant."""

from dataclasses import replace

import pytest

from selfcorrect.agents.prompts import COUNTDOWN, PAG_MATH, SCORE_CODE, SCORE_MATH
from selfcorrect.errors import ConfigurationError


@pytest.mark.parametrize(
    ("critique", "wrong"),
    [
        ("Step 2 adds badly. The answer is wrong", True),
        ("All fine. The answer is correct.", False),
        ("the ANSWER is wrong", True),
        ("It seems the answer is wrong. No: checked again, the answer is correct", False),
        ("I cannot tell", None),
        ("The answer is wrongly rounded", None),
        ("", None),
    ],
)
def test_the_last_verdict_in_a_critique_counts(critique: str, wrong: bool | None) -> None:
    assert PAG_MATH.calls_wrong(critique) is wrong


def test_the_embedded_policy_says_right_or_wrong() -> None:
    assert COUNTDOWN.calls_wrong("wrong") is True
    assert COUNTDOWN.calls_wrong("right") is False
    assert COUNTDOWN.calls_wrong("3 + 5 = 8") is None


@pytest.mark.parametrize("prompts", [SCORE_MATH, SCORE_CODE, COUNTDOWN], ids=["math", "code", "countdown"])
def test_the_intrinsic_revision_never_says_whether_the_answer_was_wrong(prompts: object) -> None:
    words = prompts.revise.lower()  # type: ignore[attr-defined]
    assert "wrong" not in words and "incorrect" not in words


def test_the_code_instruction_keeps_its_leading_hash() -> None:
    assert SCORE_CODE.revise.startswith("# There might be an error in the code above")


@pytest.mark.parametrize(("field", "missing"), [("attempt", "problem"), ("feedback", "reason")])
def test_a_template_without_its_placeholder_is_refused(field: str, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        replace(COUNTDOWN, **{field: "no placeholder"})
