"""A policy that tells how far it is, for a progress bar."""

from collections.abc import Callable, Sequence

from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.state import Generation, Message


class CountedPolicy:
    """Passes every call on to `policy` and tells, after each, how many turns of `total` are written."""

    def __init__(self, policy: Policy, tell: Callable[[int, int], None], total: int) -> None:
        self._policy, self._tell, self._total = policy, tell, total
        self._written = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        generation = await self._policy.generate(messages, sampling, after=after)
        self._written += 1
        self._tell(self._written, self._total)
        return generation
