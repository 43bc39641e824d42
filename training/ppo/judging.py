"""Judging beside playing: answers are judged from the moment they are drawn, and how long the policy waits for that.

A judge that runs tests takes longer than a GPU takes to write the next answers. Its processes are others than the
policy's, so both work at once: a first answer is judged while the second is being written. What is found stays here
until the episode is over, so that no verdict can reach the policy; which of the answers are waiting does not matter to
it either. At most the answers of a step wait in the judge's queue.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextvars import copy_context

from selfcorrect.agents.recording import OpenCall
from selfcorrect.rewards.checker import Checker, Verdict, judged
from selfcorrect.tasks.problem import Problem

Span = tuple[float, float]
"""Begin and end, by `time.perf_counter`."""

_ANSWERS = frozenset({"attempt", "attempt anew", "revise"})
"""The nodes of `build_graph` that write answers."""


class EarlyVerdicts:
    """What a checker says of the answers of one episode, asked as soon as they are drawn; of equal answers once.

    Args:
        checker, problem: who judges (None is nobody), and what was asked.
        begins: judge what is drawn (`heard`); False waits until somebody asks.
    """

    def __init__(self, checker: Checker | None, problem: Problem, *, begins: bool) -> None:
        self._checker, self._problem, self._begins = checker, problem, begins
        self._asked: dict[str, asyncio.Task[Verdict]] = {}
        self._context = (
            copy_context()
        )  # not that of the node that draws: a judge's own calls of a policy are no episode's

    def heard(self, call: OpenCall) -> None:
        """A call of the policy is finished."""
        if self._begins and call.generation is not None and call.site.node in _ANSWERS:
            self._task(call.generation["text"])

    async def verdict(self, text: str) -> Verdict:
        """Of the answer `text`; raises what the checker raises."""
        return await self._task(text)

    def abandon(self) -> None:
        """The episode failed: nobody will ask."""
        for task in self._asked.values():
            task.cancel()

    def _task(self, text: str) -> asyncio.Task[Verdict]:
        if text not in self._asked:
            assert self._checker is not None
            asking = judged(self._checker, text, self._problem.reference, self._problem.prompt)
            self._asked[text] = asyncio.get_running_loop().create_task(asking, context=self._context.copy())
            self._asked[text].add_done_callback(_seen)
        return self._asked[text]


def _seen(task: asyncio.Task[Verdict]) -> None:
    """Whoever asks is told of an error; where nobody does, asyncio need not complain."""
    if not task.cancelled():
        task.exception()


def alone(judging: Iterable[Span], drawing: Iterable[Span]) -> float:
    """Seconds in which something was judged, and nothing drawn."""
    both = _merged([*judging, *(drawing := list(drawing))])
    return _length(both) - _length(_merged(drawing))


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _length(spans: Sequence[Span]) -> float:
    return sum(end - begin for begin, end in spans)
