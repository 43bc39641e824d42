"""From episodes to the padded tensors of one update."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.recording import PolicyCall
from selfcorrect.errors import TrainingError
from selfcorrect.training.credit.table import NAN, CallTable
from selfcorrect.training.ppo.loss import TokenBatch
from selfcorrect.training.ppo.rollouts import Episode

# The append-only record of an episode's policy calls, as rows of token ids ready for training.
#
# Calls whose prompts extend each other become one row; a call that was shown something else starts a row of its own.
# Ids are taken as they were sampled and are never rendered or tokenised again, so what is trained is what was played.


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
        """Whether a prompt begins with all that stands here, token for token."""
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
        TrainingError: a call carries no token ids (its policy cannot be trained), no tokens, or as many
            log-probabilities as it has not tokens.
    """
    rows: list[Row] = []
    for index, call in enumerate(calls):
        prompt_ids, completion_ids = call.generation["prompt_ids"], call.generation["completion_ids"]
        logprobs = call.generation["logprobs"]
        if not prompt_ids or not completion_ids or len(logprobs) != len(completion_ids):
            raise TrainingError(
                f"call {index} (node '{call.node}') came with {len(prompt_ids)} prompt ids, {len(completion_ids)} "
                f"sampled ids and {len(logprobs)} log-probabilities; training needs a policy that reports them, such "
                "as TransformersPolicy"
            )
        row = next((row for row in reversed(rows) if row.continues_into(prompt_ids)), None)
        if row is None:
            row = Row(ids=[])
            rows.append(row)
        row.append(index, (list(prompt_ids), list(completion_ids)), list(logprobs))
    return rows


def call_table(episodes: Sequence[Episode]) -> CallTable:
    """Number the calls of a batch and tell which belong together."""
    rows = [
        (number, index, episode, call, signal)
        for number, episode in enumerate(episodes)
        for index, (call, signal) in enumerate(zip(episode.calls, episode.signals, strict=True))
    ]
    counts = [len(episode.calls) for episode in episodes]
    return CallTable(
        rewards_C=_floats(signal.reward for *_, signal in rows),
        groups_C=_numbered((episode.problem.id, signal.kind) for _, _, episode, _, signal in rows),
        previous_C=_floats(signal.previous for *_, signal in rows),
        kinds_C=_numbered(signal.kind for *_, signal in rows),
        roles_C=_numbered(signal.role for *_, signal in rows),
        kl_coefficients_C=_floats(signal.kl_coefficient for *_, signal in rows),
        learns_C=_floats(float(signal.learns) for *_, signal in rows),
        offsets=[0, *accumulate(counts)][:-1],
        episodes_C=torch.tensor([number for number, *_ in rows], dtype=torch.long),
        problems_C=_numbered(episode.problem.id for _, _, episode, _, _ in rows),
        states_C=_numbered(
            (episode.problem.id, tuple(call.generation["prompt_ids"])) for _, _, episode, call, _ in rows
        ),
        unjudged_C=torch.tensor([signal.unjudged for *_, signal in rows], dtype=torch.bool),
        branchings_C=_numbered(
            (episode.trunk, index) if index < episode.shared_calls else (-1 - number, index)
            for number, index, episode, _, _ in rows
        ),
        imitated_C=torch.tensor([signal.imitates for *_, signal in rows], dtype=torch.bool),
        roles=tuple(dict.fromkeys(signal.role for *_, signal in rows)),
        kinds=tuple(dict.fromkeys(signal.kind for *_, signal in rows)),
    )


def _floats(values: Iterable[float | None]) -> Tensor:
    return torch.tensor([NAN if value is None else value for value in values])


def _numbered(values: Iterable[Hashable]) -> Tensor:
    """Equal values get equal numbers, from 0 in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values], dtype=torch.long)


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A ledger row and where its episode's calls stand in the call table."""

    row: Row
    offset: int


def placed_rows(episodes: Sequence[Episode], table: CallTable) -> list[PlacedRow]:
    """The rows of all episodes, in order."""
    return [
        PlacedRow(row, offset)
        for episode, offset in zip(episodes, table.offsets, strict=True)
        for row in rows_of(episode.calls)
    ]


@dataclass(frozen=True, slots=True)
class RowTensors:
    """R rows, padded. P prompt positions (left-padded), T completion positions (right-padded); see `ppo_loss` for the
    rest.

    `calls_RT` is the index of the sampling call in the call table, -1 for context and padding.
    """

    prompt_ids_RP: Tensor
    prompt_mask_RP: Tensor
    completion_ids_RT: Tensor
    completion_mask_RT: Tensor
    calls_RT: Tensor
    old_logprobs_RT: Tensor

    def spread(self, values_C: Tensor) -> Tensor:
        """(R, T): every sampled token gets its call's value, every other position 0."""
        if not len(values_C):
            return torch.zeros_like(self.old_logprobs_RT)
        spread_RT = values_C[self.calls_RT.clamp(min=0)]
        return torch.where(self.calls_RT >= 0, spread_RT, torch.zeros_like(spread_RT))

    def by_call(self, values_RT: Tensor, calls: int) -> list[list[float]]:
        """For each of `calls` calls the values of its tokens, in order; [] for a call that has none here."""
        values: list[list[float]] = [[] for _ in range(calls)]
        sampled_RT = self.calls_RT >= 0
        for call, value in zip(self.calls_RT[sampled_RT].tolist(), values_RT[sampled_RT].tolist(), strict=True):
            values[call].append(value)
        return values


def row_tensors(rows: Sequence[PlacedRow], *, pad_id: int, multiple_of: int = 1, at_least: int = 0) -> RowTensors:
    """Pad rows to tensors; rows without any token that learns are added until there are `at_least` so many, and their
    number divides by `multiple_of`.

    (TRL cuts off silently what does not divide into minibatches.)
    """
    prompt_length = max(placed.row.prompt_length for placed in rows)
    completion_length = max(len(placed.row.ids) - placed.row.prompt_length for placed in rows)
    size = -(-max(len(rows), at_least) // multiple_of) * multiple_of
    tensors = RowTensors(
        prompt_ids_RP=torch.full((size, prompt_length), pad_id),
        prompt_mask_RP=torch.zeros(size, prompt_length, dtype=torch.long),
        completion_ids_RT=torch.full((size, completion_length), pad_id),
        completion_mask_RT=torch.zeros(size, completion_length, dtype=torch.long),
        calls_RT=torch.full((size, completion_length), -1),
        old_logprobs_RT=torch.zeros(size, completion_length),
    )
    for index in range(size):
        _fill(tensors, index, rows[min(index, len(rows) - 1)], learns=index < len(rows))
    return tensors


def _fill(tensors: RowTensors, index: int, placed: PlacedRow, *, learns: bool) -> None:
    row = placed.row
    prompt, completion = row.ids[: row.prompt_length], row.ids[row.prompt_length :]
    tensors.prompt_ids_RP[index, -len(prompt) :] = torch.tensor(prompt)
    tensors.prompt_mask_RP[index, -len(prompt) :] = 1
    tensors.completion_ids_RT[index, : len(completion)] = torch.tensor(completion)
    tensors.completion_mask_RT[index, : len(completion)] = 1
    if not learns:
        return
    tensors.old_logprobs_RT[index, : len(completion)] = torch.tensor(row.logprobs[row.prompt_length :])
    for span in row.spans:
        start, stop = span.start - row.prompt_length, span.stop - row.prompt_length
        tensors.calls_RT[index, start:stop] = placed.offset + span.call


# What TRL's loop carries from the episodes to the loss: tensors by the names that TRL gives them.


def text_of(rows: RowTensors) -> dict[str, Tensor]:
    """Prompts and completions: all that scoring needs."""
    return {
        "prompt_ids": rows.prompt_ids_RP,
        "prompt_mask": rows.prompt_mask_RP,
        "completion_ids": rows.completion_ids_RT,
        "completion_mask": rows.completion_mask_RT,
    }


def trl_batch(rows: RowTensors, table: CallTable, advantages_RT: Tensor, betas_RT: Tensor) -> dict[str, Tensor]:
    """All that the loss needs, as far as no model must be asked for it."""
    return {
        **text_of(rows),
        "tool_mask": rows.spread(table.learns_C),
        "advantages": advantages_RT,
        "kl_coefficients": betas_RT,
        "calls": rows.calls_RT,
        "kinds": torch.where(rows.calls_RT >= 0, table.kinds_C[rows.calls_RT.clamp(min=0)], -1),
        "old_per_token_logps": rows.old_logprobs_RT,
    }


def whole_rows(batch: dict[str, Any]) -> tuple[Tensor, Tensor, int]:
    """Ids and mask of prompts with their completions, and how many positions at the end are completion."""
    return (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].size(1),
    )


def token_batch(inputs: dict[str, Any], normaliser: Tensor) -> TokenBatch:
    """A minibatch as `ppo_loss` takes it."""
    return TokenBatch(
        old_logprobs_BT=inputs["old_per_token_logps"],
        reference_logprobs_BT=inputs.get("ref_per_token_logps"),
        advantages_BT=inputs["advantages"],
        kl_coefficients_BT=inputs["kl_coefficients"],
        mask_BT=inputs["tool_mask"],
        normaliser=normaliser,
        weights_BT=inputs["weights"],
        turns_BT=inputs["calls"],
    )
