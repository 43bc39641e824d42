from collections.abc import Iterator

import pytest

from selfcorrect.rewards.maths import MathChecker


@pytest.fixture(scope="session")
def checker() -> Iterator[MathChecker]:
    """One checker for all tests: it holds no state between checks."""
    with MathChecker(workers=2, deadline=20.0) as checker:
        yield checker
