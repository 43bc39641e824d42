"""The protocol every judge follows."""

from typing import Any, Protocol, runtime_checkable

from selfcorrect.rewards.verdict import Verdict


@runtime_checkable
class Checker(Protocol):
    """Judges one response against one reference.

    Implementations are picklable, hold no state between calls, never raise because of a response, and never hang: what
    they cannot judge within their deadline becomes a `Verdict` by rule.
    """

    def check_sync(self, response: str, reference: Any) -> Verdict:
        """Judge `response`. Blocks the calling thread for at most the checker's deadline."""
        ...

    async def check(self, response: str, reference: Any) -> Verdict:
        """Judge `response` without blocking the event loop for longer than a millisecond or so."""
        ...

    def validate_reference(self, reference: Any) -> str | None:
        """Why this checker cannot use `reference`, or None if it can. Called when a data set is loaded."""
        ...
