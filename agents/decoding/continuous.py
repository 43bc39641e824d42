"""A batch that goes on: rows join it and leave it between two steps, so that nobody waits for the slowest of others.

What a row draws depends on its prompt and its seed alone (up to the rounding of the matrix products), whoever shares
the batch and whenever it joined. Shapes: G rows that join together, R rows of a step, V vocabulary.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.decoding.constraints import Guides
from selfcorrect.agents.decoding.engine import Decoded, Held, Request, draw_held, holds_stop
from selfcorrect.agents.decoding.fixed_step import CapturedSteps, FixedStep, SlotRows
from selfcorrect.agents.decoding.prefill import Reader, read_once
from selfcorrect.agents.decoding.sampling import Cursors
from selfcorrect.agents.decoding.slots import SlotStore
from selfcorrect.agents.decoding.turn_cache import Shelf
from selfcorrect.agents.policy import seed_array

_JOIN_AFTER = 0.5
"""Rows join when as many steps were lost to those who wait as this share of the running rows: each join reads prompts
by a call of the model of its own, while all others stand still."""
_MOST_STEPS = 16
"""They wait at most for so many steps."""
_MOST_HOLES = 0.25
"""Slots are moved together when more than this share of those that are decoded belongs to nobody."""
_FEWEST_SLOTS = 8
TOKENS_AT_ONCE = 65_536
"""Of prompts that are read by one call of the model, padding counted: what a call needs for them, caches and
activations, is gone after it, and would be 60 GB for 256 prompts of which one has 3,000 tokens (1.5 B parameters)."""


@dataclass(slots=True, eq=False)
class Row:
    """A request on its way. `length` is how many columns its slot holds on the device, at most `last`."""

    number: int
    request: Request
    slot: int = -1
    length: int = 0
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def last(self) -> int:
        return len(self.request.prompt_ids) + self.request.max_new_tokens - 1

    @property
    def left(self) -> int:
        """How many more tokens may be drawn."""
        return self.request.max_new_tokens - len(self.ids)

    @property
    def gone(self) -> bool:
        return self.request.ticket is not None and self.request.ticket.gone

    @property
    def tells(self) -> bool:
        return self.request.ticket is not None and self.request.ticket.tell is not None


class ContinuousDecoding:
    """Decodes what is added until it ends. Not for several threads at once.

    Args:
        reader: the model; one for which `why_not_fixed` has no reason.
        eos_ids: tokens that end a completion.
        text_of: ids -> text, for stop strings.
        max_rows: at most so many rows are decoded at a time; the others wait.
        shelf: where conversations are kept for their next turn; None keeps none.
        capture: decode by CUDA graphs, and let the device go on while the host sees to those who ended.
        steps_a_look: steps between two looks of the host at what was drawn. A row that ended is decoded on until then.
        room_bytes: slots are made as long as their rows may become where that takes no more; else they grow.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        eos_ids: Sequence[int],
        text_of: Callable[[list[int]], str],
        max_rows: int,
        shelf: Shelf | None,
        capture: bool = False,
        steps_a_look: int = 1,
        room_bytes: int = 0,
    ) -> None:
        self._reader, self._text_of, self._eos_ids = reader, text_of, set(eos_ids)
        self._goes_ahead, self._room_bytes = capture, room_bytes
        self._ahead: tuple[int, int] | None = None  # steps and rows that were launched and not looked at yet
        self._max_rows, self._shelf, self._steps_a_look = max_rows, shelf, steps_a_look
        self._store, self._slots = SlotStore(), SlotRows(reader.device, steps_a_look)
        self._step = FixedStep(reader, self._store, self._slots, capture=capture)
        self._waiting: deque[Row] = deque()
        self._running: dict[int, Row] = {}
        self._resting: list[Row] = []  # ended, still in their slots
        self._held = Held(Guides([]), Cursors([]))
        self._lost = self._waited = 0
        self._peak = self._peak_before = 0
        self.steps = 0
        """Steps made so far."""

    @property
    def captured(self) -> CapturedSteps | None:
        """The CUDA graphs; None where none are made."""
        return self._step.captured

    @property
    def slot_bytes(self) -> int:
        """Memory of the slots."""
        return self._store.bytes

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    @property
    def rows(self) -> int:
        """How many requests have neither ended nor left."""
        return len(self._waiting) + len(self._running)

    def add(self, number: int, request: Request) -> None:
        """`request` waits from now on; `number` is what the caller knows it by."""
        self._waiting.append(Row(number, request))

    def advance(self) -> list[tuple[int, Decoded]]:
        """Let rows leave and join, and draw until one ends or the others should be heard again; who ended."""
        ended = self._look_back()
        self._leave()
        self._peak = max(self._peak, self.rows)
        if self._should_join():
            ended += self._join()
        for _ in range(_MOST_STEPS // 2):
            if ended or not self._running or self._should_join():
                break
            self._launch()
            ended = self._look_back()
            self._leave()
        if self._goes_ahead and self._running and not self._held:
            self._launch()
        if not self.busy:
            self._vacate()
            self._peak, self._peak_before = 0, self._peak
        return [(row.number, Decoded(row.ids, row.logprobs, row.stopped)) for row in ended]

    # Joining and leaving.

    def _leave(self) -> None:
        """Take out those whose callers are gone."""
        self._waiting = deque(row for row in self._waiting if not row.gone)
        for row in [row for row in self._running.values() if row.gone]:
            self._rest(row)

    def _rest(self, row: Row) -> None:
        del self._running[row.slot]
        self._resting.append(row)
        self._held.guides.drop(row.number)
        self._held.cursors.drop(row.number)

    def _should_join(self) -> bool:
        if not self._waiting or len(self._running) >= self._max_rows:
            return False
        return self._lost >= _JOIN_AFTER * len(self._running) or self._waited >= _MOST_STEPS

    def _join(self) -> list[Row]:
        """Read the prompts of those who wait, as many as there is room for, and draw their first tokens; who ended by
        that."""
        self._vacate()
        self._lost = self._waited = 0
        group = self._next(self._max_rows - len(self._running))
        free = [slot for slot in range(self._max_rows) if slot not in self._running][: len(group)]
        for row, slot in zip(group, free, strict=True):
            row.slot, row.length = slot, len(row.request.prompt_ids)
            self._running[slot] = row
        logits_GV = self._read(group)
        self._enter(group)
        self._close_up()
        return self._note_first(group, *self._first(group, logits_GV))

    def _next(self, most: int) -> list[Row]:
        """Who joins now: conversations that go on first, since their caches are kept until they do."""
        order = sorted(self._waiting, key=lambda row: row.request.known == 0)  # stable: else in the order of arrival
        group = order[:most]
        chosen = set(map(id, group))
        self._waiting = deque(row for row in self._waiting if id(row) not in chosen)
        return group

    def _read(self, group: list[Row]) -> Tensor:
        """Fill the slots of `group`; the logits (G, V) after their prompts. `group` is put in the order of these."""
        known = [row for row in group if self._shelf is not None and self._shelf.knows(row.request)]
        fresh = [row for row in group if row not in known]
        parts = [*_parts(known), *_parts(fresh)]
        group[:] = [row for part in parts for row in part]
        logits = []
        for part in parts:
            requests = [row.request for row in part]
            if part[0] in known:
                assert self._shelf is not None
                start, rows = self._shelf.recall(self._reader, requests), list(range(len(part)))
            else:
                start, rows = read_once(self._reader, [request.prompt_ids for request in requests])
            logits.append(self._fill(start, rows, part, group))
        return torch.cat(logits)

    def _fill(self, start: Any, rows: list[int], part: list[Row], group: list[Row]) -> Tensor:
        """Put what was read of `part` into its slots; there are enough of them for all of `group`."""
        slots = max(row.slot for row in group) + 1
        if slots > self._store.rows:
            slots = min(self._max_rows, max(_FEWEST_SLOTS, 1 << (slots - 1).bit_length()))
        columns = max(row.length for row in group) + self._steps_a_look + 1
        longest = max(row.last for row in group) + self._steps_a_look + 1
        # slots that grow move, and graphs of moved slots are captured anew
        fits = self._store.bytes_of(max(slots, self._store.rows), longest, start.cache) <= self._room_bytes
        self._reserve(slots, longest if fits else columns, start.cache, exactly=fits)
        numbers = torch.tensor(rows, device=self._reader.device)
        self._store.fill(start.cache, start.mask_RC, numbers, self._tensor([row.slot for row in part]))
        return start.logits_RV[numbers]  # type: ignore[no-any-return]

    def _reserve(self, slots: int, columns: int, like: Any, *, exactly: bool = False) -> None:
        self._store.reserve(slots, columns, like, exactly=exactly)
        if self._store.rows > len(self._slots.token_S):
            self._slots.grow(self._store.rows)

    def _enter(self, group: list[Row]) -> None:
        """Tell the device how each of `group` draws."""
        slots_G, requests, rows = self._tensor([row.slot for row in group]), [row.request for row in group], self._slots
        rows.length_S[slots_G] = self._tensor([row.length for row in group])
        rows.last_S[slots_G] = self._tensor([row.last for row in group])
        rows.place_S[slots_G] = 0
        seeds = torch.from_numpy(seed_array([request.seed for request in requests]).view("int64"))
        rows.seed_S[slots_G] = seeds.to(rows.seed_S.device)
        for to, given in (
            (rows.temperature_S, [float(request.temperature) for request in requests]),
            (rows.top_p_S, [float(request.top_p) for request in requests]),
        ):
            to[slots_G] = torch.tensor(given, device=to.device)
        for row in group:
            if row.request.guide is not None:
                self._held.guides.add(row.number, row.request.guide)
            if row.request.drawn is not None:
                self._held.cursors.add(row.number, row.request.drawn)

    def _first(self, group: list[Row], logits_GV: Tensor) -> tuple[list[int], list[float]]:
        """Draw what follows the prompts."""
        slots_G, rows = self._tensor([row.slot for row in group]), self._slots
        samples, cuts = _wants(group)
        uniform_G = rows.uniforms(len(rows.seed_S))[slots_G] if samples else None
        top_p_G = rows.top_p_S[slots_G] if cuts else None
        numbers = [row.number for row in group] if self._held else []
        tokens_G, logprobs_G = draw_held(
            logits_GV, rows.temperature_S[slots_G], top_p_G, uniform_G, numbers, self._held
        )
        rows.token_S[slots_G] = tokens_G
        rows.place_S[slots_G] = 1
        return tokens_G.tolist(), logprobs_G.tolist()

    def _note_first(self, group: list[Row], tokens: list[int], logprobs: list[float]) -> list[Row]:
        return [
            row
            for row, token, logprob in zip(group, tokens, logprobs, strict=True)
            if self._note(row, [token], [logprob])
        ]

    def _vacate(self) -> None:
        """Free the slots of those who ended, and keep what was read of them for their next turn."""
        resting, self._resting = self._resting, []
        kept = [row for row in resting if not row.gone and row.ids]
        if self._shelf is not None and self._shelf.limit_bytes > 0 and kept:
            # the last token of a completion was drawn but never read
            lengths = [len(row.request.prompt_ids) + len(row.ids) - 1 for row in kept]
            # episodes that are under way: each may come back; most of what ended long ago will not
            self._shelf.limit_rows = 2 * max(self._peak, self._peak_before)
            conversations = [(*row.request.prompt_ids, *row.ids) for row in kept]
            self._shelf.put(conversations, self._store.take(self._tensor([row.slot for row in kept]), lengths))
        if resting:
            slots = self._tensor([row.slot for row in resting])
            self._slots.length_S[slots] = 0
            self._slots.last_S[slots] = 0

    def _close_up(self) -> None:
        """Move the running rows to the first slots, if too many of these belong to nobody."""
        count, decoded = len(self._running), max(self._running, default=-1) + 1
        if decoded - count <= _MOST_HOLES * decoded:
            return
        moving = [row for slot, row in self._running.items() if slot >= count]
        free = [slot for slot in range(count) if slot not in self._running]
        origins, targets = self._tensor([row.slot for row in moving]), self._tensor(free)
        self._store.move(origins, targets, max(row.length for row in moving))
        self._slots.move(origins, targets)
        self._slots.length_S[origins] = 0
        self._slots.last_S[origins] = 0
        for row, slot in zip(moving, free, strict=True):
            del self._running[row.slot]
            row.slot = slot
            self._running[slot] = row

    # Steps.

    def _launch(self) -> None:
        """Let the device make one look's steps of every running row."""
        if len(self._resting) > _MOST_HOLES * (len(self._running) + len(self._resting)):
            self._vacate()
            self._close_up()
        present = [*self._running.values(), *self._resting]
        one_by_one = self._held or any(row.tells for row in self._running.values())
        count = 1 if one_by_one else min(self._steps_a_look, max(row.left for row in self._running.values()))
        rows = max(row.slot for row in present) + 1
        columns = max(row.length for row in present) + count
        if columns > self._store.columns:
            self._reserve(self._store.rows, columns, self._store.cache)
        self._steps(count, rows, columns)
        self._ahead = count, rows
        for row in present:
            row.length = min(row.length + count, row.last)
        self.steps += count
        if self._waiting:
            self._lost += count * min(len(self._waiting), self._max_rows - len(self._running))
            self._waited += count

    def _look_back(self) -> list[Row]:
        """Take note of what was drawn since the last look; who ended. Waits for the device."""
        if self._ahead is None:
            return []
        (count, rows), self._ahead = self._ahead, None
        tokens = self._slots.drawn_NS[:count, :rows].T.tolist()
        logprobs = self._slots.logprob_NS[:count, :rows].T.tolist()
        drawn = [(row, tokens[row.slot], logprobs[row.slot]) for row in self._running.values()]
        return [row for row, ids, values in drawn if self._note(row, ids, values)]

    def _steps(self, count: int, rows: int, columns: int) -> None:
        slots, (samples, cuts) = self._slots, _wants(self._running.values())
        slots.at_1.zero_()
        if self._held:
            self._step_held(rows, columns, samples=samples, cuts=cuts)
        else:
            shape = self._step.shape(rows, columns, samples=samples, cuts=cuts)
            for _ in range(count):
                self._step.run(shape)

    def _step_held(self, rows: int, columns: int, *, samples: bool, cuts: bool) -> None:
        slots = self._slots
        logits_RV = self._step.read(rows, columns)
        numbers = [row.number if (row := self._running.get(slot)) else -1 for slot in range(rows)]
        uniform_R = slots.uniforms(rows) if samples else None
        top_p_R = slots.top_p_S[:rows] if cuts else None
        slots.note(*draw_held(logits_RV, slots.temperature_S[:rows], top_p_R, uniform_R, numbers, self._held))

    def _note(self, row: Row, tokens: Sequence[int], logprobs: Sequence[float]) -> bool:
        """Add what was drawn to `row`, up to its end, and tell it; whether it ended."""
        request = row.request
        for token, logprob in zip(tokens, logprobs, strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)
            if token in self._eos_ids:
                row.stopped = True
            else:
                if row.tells and not row.gone:
                    request.ticket.tell(token)  # type: ignore[union-attr, misc]
                row.stopped = bool(request.stop) and holds_stop(self._text_of, row.ids, request.stop)
            if row.stopped or len(row.ids) >= request.max_new_tokens:
                self._rest(row)
                return True
        return False

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._reader.device)


def _wants(rows: Any) -> tuple[bool, bool]:
    """Whether any of `rows` samples, and whether any cuts by top-p."""
    requests = [row.request for row in rows]
    return any(one.temperature > 0 for one in requests), any(one.top_p < 1 for one in requests)


def _parts(rows: list[Row]) -> list[list[Row]]:
    """`rows` in parts of at most `TOKENS_AT_ONCE`, or of one row; rows of like lengths lie together, equal prompts side
    by side. All rows as they are where they are one part."""
    if len(rows) * max((len(row.request.prompt_ids) for row in rows), default=0) <= TOKENS_AT_ONCE:
        return [rows] if rows else []
    parts: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: (-len(row.request.prompt_ids), row.request.prompt_ids)):
        longest = len(parts[-1][0].request.prompt_ids) if parts else 0
        if not parts or (len(parts[-1]) + 1) * longest > TOKENS_AT_ONCE:
            parts.append([])
        parts[-1].append(row)
    return parts
