"""Trying a program on the examples that its problem shows: what can be found out where nobody knows the tests."""

import re
from collections import OrderedDict
from dataclasses import replace
from functools import cache

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.code.checker import UnitTestChecker
from selfcorrect.rewards.code.examples import as_tests, shown_examples

_MOST_REMEMBERED = 4096
_FAILED = re.compile(r"test (\d+) failed")


class ExampleRunner:
    """Runs programs on the examples of their problems (see `shown_examples`), in the jail. Findings are remembered.

    Args:
        checker: runs the examples; it must pay partly right programs. None is `UnitTestChecker(partial=True)`.

    Raises:
        ConfigurationError: the checker judges programs by all or nothing.
    """

    def __init__(self, checker: UnitTestChecker | None = None) -> None:
        if checker is not None and not checker.partial:
            raise ConfigurationError("programs are tried by shares of examples: give UnitTestChecker(partial=True)")
        self.checker = checker or UnitTestChecker(partial=True)
        self._known: OrderedDict[tuple[str, str], Verdict] = OrderedDict()

    async def run(self, problem: str, response: str) -> Verdict | None:
        """What came of the program in `response` on the examples that the prompt `problem` shows; None if it shows
        none. A wrong one's score is the share of examples that hold, and the reason tells what the first other one
        should have come to: the policy has been shown that, too.

        Raises:
            SandboxError: programs cannot be jailed on this machine.
        """
        tests = as_tests(problem)
        if not tests:
            return None
        key = problem, response
        if key not in self._known:
            found = await self.checker.check(response, tests, problem=problem)
            if found.status is Status.UNJUDGED:
                return found
            self._known[key] = replace(found, reason=_with_expected(found.reason, problem))
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]


def _with_expected(reason: str, problem: str) -> str:
    failed, examples = _FAILED.search(reason), shown_examples(problem)
    if failed is None or not 0 < int(failed[1]) <= len(examples):
        return reason
    example = examples[int(failed[1]) - 1]
    return f"{reason}; by the task, {example.expression} is {example.expected}"


@cache
def shared_runner() -> ExampleRunner:
    """The one that loops and verifiers use where nobody gives another: its processes serve all of them."""
    return ExampleRunner()
