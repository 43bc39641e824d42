"""A person as the judge: the graph stops, waits however long it takes, and goes on with what the person said."""

from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.types import interrupt

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Status, Verdict


class Question(TypedDict):
    """What the person is asked; the value of LangGraph's interrupt."""

    ask: str
    answer: str
    reference: Any


def is_question(asked: Any) -> bool:
    """Whether the value of an interrupt is one of ours."""
    return isinstance(asked, dict) and set(asked) == set(Question.__annotations__)


@dataclass(frozen=True)
class AskHuman:
    """A checker that asks a person, by LangGraph's `interrupt`. The graph needs a checkpointer.

    The reply that resumes the graph is "correct", or says what is wrong in any words, or is a dict with `status` and
    `reason`.

    Args:
        ask: the words of the question.
    """

    ask: str = "Is this answer right? Say 'correct', or what is wrong with it."

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """The person's verdict on `response`."""
        return verdict_from(interrupt(Question(ask=self.ask, answer=response, reference=reference)))

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """The same, within a synchronous node."""
        return verdict_from(interrupt(Question(ask=self.ask, answer=response, reference=reference)))

    def validate_reference(self, reference: Any) -> str | None:
        """None: a person can judge against anything."""
        return None


def verdict_from(reply: Any) -> Verdict:
    """What a person said, as a verdict.

    Raises:
        CheckerError: the reply is neither text nor a dict with a known status.
    """
    if isinstance(reply, dict) and reply.get("status") in set(Status):
        return Verdict(Status(reply["status"]), reply.get("answer"), str(reply.get("reason", "")))
    if not isinstance(reply, str) or not reply.strip():
        known = ", ".join(Status)
        raise CheckerError(f"a person's verdict is a text or a dict with status ({known}) and reason, got {reply!r}")
    said = reply.strip()
    if said.lower().rstrip(".!") in ("correct", "right", "yes"):
        return Verdict(Status.CORRECT, reason=said)
    return Verdict(Status.WRONG, reason=said)
