"""A verifier of programs that was never trained: it tries them on the examples that their problem shows."""

import asyncio
from collections.abc import Sequence

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code.checker import UnitTestChecker
from selfcorrect.rewards.code.example_runner import ExampleRunner, shared_runner
from selfcorrect.rewards.shaping import Score


class ExampleVerifier:
    """Scores a program by the share of its problem's examples that hold (see `shown_examples`), in the jail.

    This is what can be had of tests where nobody knows any: filtering samples by the examples of a contest problem (Li
    et al. 2022, arXiv 2203.07814, section 4.5). A prompt that shows all its tests, as MBPP's do, makes it an oracle.

    It abstains where the prompt shows no examples, no program is found, or the examples cannot be run.

    Args:
        checker: runs the examples; it must pay partly right programs. None is `UnitTestChecker(partial=True)`.

    Raises:
        ConfigurationError: the checker judges programs by all or nothing.
    """

    def __init__(self, checker: UnitTestChecker | None = None) -> None:
        self.runner = shared_runner() if checker is None else ExampleRunner(checker)

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """See `Verifier.scores`.

        Raises:
            SandboxError: programs cannot be jailed on this machine.
        """
        found = await asyncio.gather(*(self.runner.run(prompt, text) for text in responses))
        return [None if one is None or one.status is Status.UNREADABLE else one.score for one in found]
