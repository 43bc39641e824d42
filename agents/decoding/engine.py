"""The decode loop: many prompts continued at once, each by its own rules, with exact log-probabilities.

Rows are padded on the left; positions and attention mask are explicit, so a row's result does not depend on what shares
its batch (up to the rounding of the matrix products). Shapes: R rows still being decoded, C columns (prompt and
completion), V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.decoding.constraints import Guide, Guides
from selfcorrect.agents.decoding.kv_cache import Rows, all_rows, keeps_rows, select_rows, take_rows
from selfcorrect.agents.decoding.prefill import Reader, Start
from selfcorrect.agents.decoding.sampling import Cursors, DrawnTree, draw, logprobs_of, widest_float
from selfcorrect.agents.policy import seed_array, uniforms

# What is asked of a decode loop, and what comes back.


@dataclass(slots=True)
class Ticket:
    """What a caller and the decode loop tell each other while a call is under way.

    Attributes:
        gone: set by a caller who no longer waits: its row leaves the batch before the next token.
        tell: told each token that is drawn, but for one that ends the completion.
    """

    gone: bool = False
    tell: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to continue it; see `Sampling`.

    `known` is how many of the ids are an earlier prompt and its completion, 0 in a first turn. `drawn` holds
    completions that are not to be drawn again; `guide` says which tokens may come.
    """

    prompt_ids: list[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    known: int = 0
    drawn: DrawnTree | None = None
    guide: Guide | None = None
    ticket: Ticket | None = None


@dataclass(slots=True)
class Decoded:
    """A continuation. `stopped` is False if the token limit cut it off."""

    ids: list[int]
    logprobs: list[float]
    stopped: bool


# The rows of a batch that are still being decoded.
#
# Shapes: R rows still being decoded, C columns (prompt and completion).


@dataclass(slots=True)
class RunningRows:
    """The rows still in the batch: which request each belongs to, and how to draw for it."""

    request_R: Tensor
    limit_R: Tensor
    temperature_R: Tensor
    top_p_R: Tensor
    seeds_R: Any  # numpy uint64
    position_R: Tensor
    mask_RC: Tensor
    done_R: Tensor

    def select(self, kept: Tensor) -> None:
        """Keep the rows whose numbers are `kept`."""
        self.seeds_R = self.seeds_R[kept.cpu().numpy()]
        for name in ("request_R", "limit_R", "temperature_R", "top_p_R", "position_R", "mask_RC", "done_R"):
            setattr(self, name, getattr(self, name).index_select(0, kept))


def begin_rows(start: Start, requests: Sequence[Request]) -> RunningRows:
    """The rows of `requests`, all of them running, row i that of request i."""
    count, device = len(requests), start.logits_RV.device
    steps = max(request.max_new_tokens for request in requests)
    written_RC = torch.ones(count, steps, dtype=torch.bool, device=device)
    return RunningRows(
        request_R=torch.arange(count, device=device),
        limit_R=torch.tensor([request.max_new_tokens for request in requests], device=device),
        temperature_R=torch.tensor([float(request.temperature) for request in requests], device=device),
        top_p_R=torch.tensor([float(request.top_p) for request in requests], device=device),
        seeds_R=seed_array([request.seed for request in requests]),
        position_R=start.position_R,
        mask_RC=torch.cat([start.mask_RC, written_RC], dim=1),
        done_R=torch.zeros(count, dtype=torch.bool, device=device),
    )


_COMPACT_BELOW = 0.75
"""Finished rows are dropped from the batch when less than this share of it is still running."""


@dataclass(slots=True)
class Remembered:
    """What the cache holds of finished rows: groups of rows, and for every request its (group, row)."""

    groups: list[Rows] = field(default_factory=list)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(group.bytes for group in self.groups)


class Decoding:
    """One batch on its way from `start` to the end of its last row. Call `run` once.

    Args:
        reader: the model.
        start: the prompts, read; row i belongs to request i. Its cache is used up.
        requests: how to continue each.
        eos_ids: tokens that end a completion.
        text_of: ids -> text, for stop strings.
        remember_bytes: keep the cache's rows for a later turn, unless they take more than this; 0 keeps nothing.
    """

    def __init__(
        self,
        reader: Reader,
        start: Start,
        requests: Sequence[Request],
        *,
        eos_ids: Sequence[int],
        text_of: Callable[[list[int]], str],
        remember_bytes: int,
    ) -> None:
        self._reader, self._cache, self._logits_RV = reader, start.cache, start.logits_RV
        self._requests, self._text_of = requests, text_of
        self._prompt_columns = start.mask_RC.shape[1]
        self._running = begin_rows(start, requests)
        self._samples = any(request.temperature > 0 for request in requests)
        self._cuts = any(request.top_p < 1 for request in requests)
        self._stops = any(request.stop for request in requests)
        self._cursors = Cursors([request.drawn for request in requests])
        self._guides = Guides([request.guide for request in requests])
        self._tickets = {number: request.ticket for number, request in enumerate(requests) if request.ticket}
        device, steps = start.logits_RV.device, max(request.max_new_tokens for request in requests)
        self._is_eos_V = torch.zeros(start.logits_RV.shape[1], dtype=torch.bool, device=device)
        self._is_eos_V[list(eos_ids)] = True
        self._tokens = torch.zeros(len(requests), steps, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(len(requests), steps, device=device)
        self._length = torch.zeros(len(requests), dtype=torch.long, device=device)
        self._stopped = torch.zeros(len(requests), dtype=torch.bool, device=device)
        self._remember_bytes = remember_bytes
        self.remembered = Remembered() if remember_bytes > 0 and keeps_rows(start.cache) else None

    def run(self) -> list[Decoded]:
        """Decode every row to its end; results in the order of the requests."""
        for step in range(self._tokens.shape[1]):
            tokens_R = self._draw(step)
            running = int((~self._running.done_R).sum())
            if running == 0:
                break
            if running < _COMPACT_BELOW * len(tokens_R):
                tokens_R = self._drop_finished(tokens_R, step)
            self._advance(tokens_R, step)
        self._remember(torch.arange(len(self._running.request_R), device=self._tokens.device), step, copy=False)
        return self._results()

    def _draw(self, step: int) -> Tensor:
        """Draw and record one token a row. Rows that are done go on drawing; nobody reads what they draw."""
        rows = self._running
        uniform_R = self._uniforms(step) if self._samples else None
        tokens_R, logprobs_R = self._draw_new(rows, uniform_R)
        self._tokens[rows.request_R, step] = tokens_R
        self._logprobs[rows.request_R, step] = logprobs_R
        stopped_R = self._is_eos_V[tokens_R]
        if self._stops:
            stopped_R = stopped_R | self._at_stop_text(step)
        ends_R = ~rows.done_R & (stopped_R | (rows.limit_R <= step + 1))
        if self._tickets:
            ends_R = ends_R | self._left(tokens_R)
        ended = rows.request_R[ends_R]
        self._length[ended] = step + 1
        self._stopped[ended] = stopped_R[ends_R]
        rows.done_R |= ends_R
        return tokens_R

    def _left(self, tokens_R: Tensor) -> Tensor:
        """The running rows whose callers are gone; the others' callers are told what was drawn."""
        rows = self._running
        tokens, eos = tokens_R.tolist(), self._is_eos_V[tokens_R].tolist()
        left = []
        for row, (request, done) in enumerate(zip(rows.request_R.tolist(), rows.done_R.tolist(), strict=True)):
            ticket = None if done else self._tickets.get(request)
            left.append(ticket is not None and ticket.gone)
            if ticket is not None and ticket.tell is not None and not ticket.gone and not eos[row]:
                ticket.tell(tokens[row])
        return torch.tensor(left, device=self._tokens.device)

    def _draw_new(self, rows: RunningRows, uniform_R: Tensor | None) -> tuple[Tensor, Tensor]:
        requests_R = rows.request_R.tolist() if self._cursors or self._guides else []
        top_p_R = rows.top_p_R if self._cuts else None
        held = Held(self._guides, self._cursors)
        return draw_held(self._logits_RV, rows.temperature_R, top_p_R, uniform_R, requests_R, held)

    def _uniforms(self, step: int) -> Tensor:
        device = self._tokens.device
        return torch.from_numpy(uniforms(self._running.seeds_R, step)).to(widest_float(device)).to(device)

    def _advance(self, tokens_R: Tensor, step: int) -> None:
        rows = self._running
        rows.position_R = rows.position_R + 1
        mask_RC = rows.mask_RC[:, : self._prompt_columns + step + 1]
        self._logits_RV = self._reader.read(tokens_R[:, None], mask_RC, rows.position_R[:, None], self._cache)

    def _drop_finished(self, tokens_R: Tensor, step: int) -> Tensor:
        """Take the finished rows out of the batch; the remaining rows' tokens."""
        done_R = self._running.done_R
        self._remember(done_R.nonzero()[:, 0], step, copy=True)
        kept = (~done_R).nonzero()[:, 0]
        select_rows(self._cache, kept)
        self._running.select(kept)
        return tokens_R[kept]

    def _remember(self, rows: Tensor, steps_read: int, *, copy: bool) -> None:
        """Note where the cache of `rows`, all of them finished, is to be found."""
        if self.remembered is None:
            return
        requests = self._running.request_R[rows]
        columns = torch.arange(steps_read, device=rows.device)
        read_RC = columns[None] < (self._length[requests] - 1)[:, None]  # the last token was drawn, not read
        valid_RC = torch.cat([self._running.mask_RC[rows, : self._prompt_columns], read_RC], dim=1)
        group = take_rows(self._cache, rows, valid_RC) if copy else all_rows(self._cache, valid_RC)
        number = len(self.remembered.groups)
        self.remembered.groups.append(group)
        self.remembered.places.update({request: (number, row) for row, request in enumerate(requests.tolist())})
        if self.remembered.bytes > self._remember_bytes:
            self.remembered = None

    def _at_stop_text(self, step: int) -> Tensor:
        """Which rows' text, with the token just drawn, holds one of their stop texts."""
        rows = self._running
        found = [
            not done
            and bool(stop := self._requests[request].stop)
            and holds_stop(self._text_of, self._tokens[request, : step + 1].tolist(), stop)
            for request, done in zip(rows.request_R.tolist(), rows.done_R.tolist(), strict=True)
        ]
        return torch.tensor(found, device=self._tokens.device)

    def _results(self) -> list[Decoded]:
        tokens, logprobs = self._tokens.tolist(), self._logprobs.tolist()
        ends = zip(self._length.tolist(), self._stopped.tolist(), strict=True)
        return [
            Decoded(tokens[row][:length], logprobs[row][:length], stopped) for row, (length, stopped) in enumerate(ends)
        ]


@dataclass(frozen=True, slots=True)
class Held:
    """What rows of a batch are held to: schemas, and completions that are not to be drawn again."""

    guides: Guides
    cursors: Cursors

    def __bool__(self) -> bool:
        return bool(self.guides) or bool(self.cursors)


def draw_held(
    logits_RV: Tensor,
    temperature_R: Tensor,
    top_p_R: Tensor | None,
    uniform_R: Tensor | None,
    requests_R: Sequence[int],
    held: Held,
) -> tuple[Tensor, Tensor]:
    """As `draw`: tokens that lead to no completion drawn before, and their log-probabilities under the model as it is,
    or as its guide leaves it. `requests_R` says which request each row belongs to; none is needed where nothing is
    held."""
    whole_RV = held.guides.masked(logits_RV, requests_R)
    free_RV = held.cursors.without_drawn(whole_RV, requests_R, temperature_R)
    tokens_R, logprobs_R = draw(free_RV, temperature_R, top_p_R, uniform_R)
    if free_RV is not whole_RV:
        logprobs_R = logprobs_of(whole_RV, temperature_R, tokens_R)
    drawn_R = tokens_R.tolist() if requests_R else []
    held.cursors.advance(requests_R, drawn_R)
    held.guides.advance(requests_R, drawn_R)
    return tokens_R, logprobs_R


def holds_stop(text_of: Callable[[list[int]], str], tokens: list[int], stop: tuple[str, ...]) -> bool:
    """Whether the text of the last tokens holds a stop text; a token is taken to write at least one character or
    part."""
    reach = 4 * max(map(len, stop)) + 4
    tail = text_of(tokens[-reach:])
    return any(text in tail for text in stop)
