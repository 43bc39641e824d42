"""A policy of search: answers come from a list by the number of the call, or step by step from a tree. No model, no
chance."""

from collections.abc import Callable, Mapping, Sequence

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, Message, Usage

Tree = Mapping[str, Sequence[str]]


def generation(text: str, tokens: int, messages: Sequence[Message] = (), *, cut_off: bool = False) -> Generation:
    return Generation(
        text=text, messages=list(messages), prompt_ids=[], completion_ids=[], logprobs=[],
        finish_reason="length" if cut_off else "stop", usage=Usage(input_tokens=0, output_tokens=tokens),
    )  # fmt: skip


class ListPolicy:
    """Attempts are `answers` one after the other, again from the beginning after the last; revisions come from
    `revise`.

    Every answer costs as many tokens as it has words, and is cut off where that is more than it may take.
    """

    def __init__(self, answers: Sequence[str], revise: Callable[[str], str] = lambda text: f"{text} again") -> None:
        self.answers, self.revise = list(answers), revise
        self.calls = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        shown = [message for message in messages if message["role"] == "assistant"]
        if after is None and not shown:
            text = self.answers[self.calls % len(self.answers)]
            self.calls += 1
        else:
            text = self.revise(after["text"] if after is not None else shown[-1]["content"])
        words, limit = text.split(), sampling.max_new_tokens
        cut_off = limit is not None and len(words) > limit
        return generation(" ".join(words[:limit]), min(len(words), limit or len(words)), messages, cut_off=cut_off)


class RenewingListPolicy(ListPolicy):
    """A `ListPolicy` that can leave out what it said: its next answer is the first of `answers` that was not drawn."""

    async def generate_new(
        self, messages: Sequence[Message], sampling: Sampling, *, drawn: Sequence[Generation]
    ) -> Generation | None:
        said = {one["text"] for one in drawn}
        left = [text for text in self.answers if text not in said]
        return generation(left[0], len(left[0].split()), messages) if left else None


class TreePolicy:
    """Writes steps from a tree: `tree[beginning]` are its continuations, in turn; one that the tree does not hold is
    finished.

    Steps are joined by " ; "; each costs one token.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.turn: dict[str, int] = {}
        self.steps = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        return self._grown("", 0)

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        return self._grown(partial["text"], partial["usage"]["output_tokens"])

    def _grown(self, beginning: str, tokens: int) -> Generation:
        children, turn = self.tree[beginning], self.turn.get(beginning, 0)
        self.turn[beginning] = turn + 1
        self.steps += 1
        step = children[turn % len(children)]
        text = f"{beginning} ; {step}" if beginning else step
        made = generation(text, tokens + 1)
        return {**made, "stop_text": " ;"} if text in self.tree else made
