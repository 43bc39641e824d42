"""The append-only record of an episode's policy calls, as rows of token ids ready for training.

Calls whose prompts extend each other become one row; a call that was shown something else starts a row of its own. Ids are
taken as they were sampled and are never rendered or tokenised again, so what is trained is what was played.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from selfcorrect.agents.recording import PolicyCall
from selfcorrect.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens one call sampled: `ids[start:stop]` of its row. `call` is the call's position in the episode."""

    call: int
    start: int
    stop: int


@dataclass(slots=True)
class Row:
    """One training sequence.

    Attributes:
        ids: every token id, prompts and completions in the order in which the policy saw them.
        spans: which of them were sampled, by which call; in order, never overlapping. All other tokens are context.
        logprobs: for each id its log-probability when it was sampled; 0.0 for context.
    """

    ids: list[int]
    spans: list[Span] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def prompt_length(self) -> int:
        """How many ids precede the first sampled one."""
        return self.spans[0].start

    def continues_into(self, prompt_ids: Sequence[int]) -> bool:
        return len(prompt_ids) >= len(self.ids) and list(prompt_ids[: len(self.ids)]) == self.ids

    def append(self, call: int, generation_ids: tuple[list[int], list[int]], logprobs: list[float]) -> None:
        """Add what `call` saw beyond this row (context) and what it sampled (a new span)."""
        prompt_ids, completion_ids = generation_ids
        context = prompt_ids[len(self.ids) :]
        start = len(prompt_ids)
        self.ids = self.ids + context + completion_ids
        self.logprobs = self.logprobs + [0.0] * len(context) + logprobs
        self.spans.append(Span(call, start, start + len(completion_ids)))


def rows_of(calls: Sequence[PolicyCall]) -> list[Row]:
    """The rows of one episode: each sampled token is in exactly one span, after exactly the context it was sampled in.

    Raises:
        TrainingError: a call carries no token ids (its policy cannot be trained), no tokens, or as many log-probabilities
            as it has not tokens.
    """
    rows: list[Row] = []
    for index, call in enumerate(calls):
        prompt_ids, completion_ids = call.generation["prompt_ids"], call.generation["completion_ids"]
        logprobs = call.generation["logprobs"]
        if not prompt_ids or not completion_ids or len(logprobs) != len(completion_ids):
            raise TrainingError(
                f"call {index} (node '{call.node}') came with {len(prompt_ids)} prompt ids, {len(completion_ids)} sampled ids and "
                f"{len(logprobs)} log-probabilities; training needs a policy that reports them, such as TransformersPolicy"
            )
        row = next((row for row in reversed(rows) if row.continues_into(prompt_ids)), None)
        if row is None:
            row = Row(ids=[])
            rows.append(row)
        row.append(index, (list(prompt_ids), list(completion_ids)), list(logprobs))
    return rows
