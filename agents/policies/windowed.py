"""A policy that is shown the opening of a conversation and its latest exchanges, so that episodes can go on for
ever."""

from collections.abc import Sequence

from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError


class WindowedPolicy:
    """Shows `policy` the messages up to the problem and only the last `exchanges` answers with the messages after them.

    With 1, every revision sees the problem and the last answer: what SCoRe's second turn was trained on, however often
    it is repeated. A call that nothing is cut from, and whose token ids are known, is appended to the earlier ids as
    ever; any other is shown as a new conversation (in training, a row of its own). The opening ends where the first
    answer begins, so a window is for episodes without an earlier conversation.

    Args:
        policy: writes the turns.
        exchanges: 1 or more; None shows everything.

    Raises:
        ConfigurationError: `exchanges` is below 1.
    """

    def __init__(self, policy: Policy, exchanges: int | None = None) -> None:
        if exchanges is not None and exchanges < 1:
            raise ConfigurationError(f"exchanges must be 1 or more, got {exchanges}")
        self.policy = policy
        self.exchanges = exchanges

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The policy's next message; see `Policy.generate`."""
        if after is None:
            return await self.policy.generate(messages, sampling)
        earlier = [*after["messages"], Message(role="assistant", content=after["text"])]
        shown = self._window(earlier)
        if after["prompt_ids"] and len(shown) == len(earlier):
            return await self.policy.generate(messages, sampling, after=after)
        return await self.policy.generate([*shown, *messages], sampling)

    def _window(self, conversation: list[Message]) -> list[Message]:
        """`conversation`, which ends with an answer of the policy, without the exchanges that are too old."""
        if self.exchanges is None:
            return conversation
        problem = _end_of_opening(conversation)
        answers = [place for place in range(problem, len(conversation)) if conversation[place]["role"] == "assistant"]
        return [*conversation[:problem], *conversation[answers[-self.exchanges :][0] :]]


def _end_of_opening(conversation: list[Message]) -> int:
    """Where the first answer stands."""
    return next(place for place, message in enumerate(conversation) if message["role"] == "assistant")
