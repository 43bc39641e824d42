"""Learned judges: how likely is it that a response is right? Unlike a checker, a verifier needs no reference.

A score is probability-like, in [0, 1]; None abstains (the response is unreadable, the score was not a number, the judge
failed). Whoever ranks by scores puts abstentions last; whoever averages leaves them out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.shaping import Score

Script = Mapping[str, Score] | Callable[[str, str], Score]

STEP_SEPARATOR = " ; "
"""What stands between the steps of a Countdown answer."""


@runtime_checkable
class Verifier(Protocol):
    """Scores responses to one prompt."""

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """One score in [0, 1] for each of `responses`, in their order; None abstains.

        Args:
            prompt: the problem's prompt, as `Problem.prompt` has it.
            responses: complete responses; a `StepVerifier` also takes unfinished ones, that end after a step.
        """
        ...


@runtime_checkable
class StepVerifier(Verifier, Protocol):
    """Also scores every step. Its `scores` are those of the last step written, so unfinished responses can be ranked
    in batches."""

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """One score for each step of `response`: how likely a right answer is after this step, given all before it."""
        ...


def split_steps(response: str, separator: str = STEP_SEPARATOR) -> list[str]:
    """The steps of a response, without the separators; blank ones are left out.

    Joined with `separator` they are the response again, up to blank steps and white space at the ends.
    """
    return [step for part in response.split(separator.strip() or separator) if (step := part.strip())]


def prefixes(response: str, separator: str = STEP_SEPARATOR) -> list[str]:
    """What had been written after each step: the first step, the first two, ... the whole response."""
    steps = split_steps(response, separator)
    return [separator.join(steps[: end + 1]) for end in range(len(steps))]


class ScriptedVerifier:
    """Says what it is told, for tests and documentation: no model, no chance.

    Args:
        script: a mapping from response (or the beginning of one, up to the end of a step) to its score; or a function
            of (prompt, response).
        separator: what stands between steps.
    """

    def __init__(self, script: Script, *, separator: str = STEP_SEPARATOR) -> None:
        self.script = script
        self.separator = separator

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """See `Verifier.scores`.

        Raises:
            CheckerError: the script is a mapping that does not hold one of `responses`.
        """
        return [self._score(prompt, response) for response in responses]

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """The script's scores of `response` as far as it had been written after each step."""
        return [self._score(prompt, written) for written in prefixes(response, self.separator)]

    def _score(self, prompt: str, response: str) -> Score:
        if callable(self.script):
            return self.script(prompt, response)
        if response not in self.script:
            raise CheckerError(f"the scripted verifier holds no score for {response!r}; it knows {sorted(self.script)}")
        return self.script[response]
