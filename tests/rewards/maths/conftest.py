from collections.abc import Iterator

import pytest

from selfcorrect.rewards.maths import EquivalenceRules, MathChecker


@pytest.fixture(scope="session")
def checker() -> Iterator[MathChecker]:
    """One checker for all tests: it holds no state between checks."""
    with MathChecker(workers=2, deadline=20.0) as checker:
        yield checker


@pytest.fixture(scope="session")
def lenient() -> Iterator[MathChecker]:
    """A checker for evaluation: values count in most forms, and an answer may be guessed."""
    with MathChecker(workers=1, deadline=20.0, policy=EquivalenceRules.lenient(), unmarked="guess") as checker:
        yield checker


@pytest.fixture(scope="session")
def guessing() -> Iterator[MathChecker]:
    """A checker with the rules of training that guesses where nothing marks the answer."""
    with MathChecker(workers=1, deadline=20.0, unmarked="guess") as checker:
        yield checker
