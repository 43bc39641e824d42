"""Texts continued by a model that thinks before every token it writes. One row, one thought: S is 1 here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfcorrect.agents.decoding.engine import Request
from selfcorrect.agents.decoding.prefill import left_padded
from selfcorrect.agents.decoding.sampling import draw, widest_float
from selfcorrect.agents.policy import seed_array, uniforms
from selfcorrect.agents.quiet.model import QuietModel, Thoughts, mixed_logits
from selfcorrect.agents.quiet.streams import Reading, read_on, read_texts


@dataclass(frozen=True, slots=True)
class ThoughtBefore:
    """What was thought before one visible token: the thought's ids, and its weight in the mixture."""

    ids: list[int]
    weight: float


@dataclass(slots=True)
class Continuation:
    """A continuation: visible ids, log-probability of each given its thought, the thoughts, and whether it came to
    its end."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    thoughts: list[ThoughtBefore] = field(default_factory=list)
    ended: bool = False
    stopped: bool = False


class QuietDecoding:
    """One batch on its way. Call `run` once.

    Draws are a function of a request's seed and of the place in its completion, whatever else shares the batch.
    Thoughts are drawn at temperature 1 where visible tokens are sampled, greedily where they are not.

    Args:
        model: thinks and writes.
        requests: the prompts, and how to continue each.
        eos_ids: tokens that end a completion.
        text_of: ids -> text, for stop strings.
    """

    def __init__(
        self,
        model: QuietModel,
        requests: Sequence[Request],
        *,
        eos_ids: Sequence[int],
        text_of: Callable[[list[int]], str],
    ) -> None:
        self._model, self._requests, self._eos_ids, self._text_of = model, requests, set(eos_ids), text_of
        self._device = next(model.parameters()).device
        self._running = list(range(len(requests)))
        self._draws_a_token = model.thinking.tokens + 1

    def run(self) -> list[Continuation]:
        """Continue every row to its end; results in the order of the requests."""
        ids_BT, mask_BT = left_padded([request.prompt_ids for request in self._requests], self._device)
        reading = read_texts(self._model.lm, ids_BT, mask_BT)
        rows = [Continuation() for _ in self._requests]
        for place in range(max(request.max_new_tokens for request in self._requests)):
            tokens_B = self._write(reading, place, rows)
            live = [number for number, row in enumerate(self._running) if not rows[row].ended]
            if not live:
                break
            if len(live) < len(self._running):  # what has ended may have no room left in the context
                kept = torch.tensor(live, device=self._device)
                reading.keep(kept)
                tokens_B, self._running = tokens_B[kept], [self._running[number] for number in live]
            new_mask = torch.ones_like(tokens_B, dtype=torch.bool)[:, None]
            reading = read_on(self._model.lm, reading, tokens_B[:, None], new_mask)
        return rows

    def _write(self, reading: Reading, place: int, rows: list[Continuation]) -> Tensor:
        """Think at the end of every running row, draw its next token, forget the thought."""
        count = len(self._running)
        anchor_B1 = torch.full((count, 1), reading.ids_BT.shape[1] - 1, device=self._device)
        thoughts = self._model.think(reading, anchor_B1, self._chooser(place))
        reading.cache.crop(-self._model.thinking.overhead)
        base_BV = reading.logits_BTV[:, -1].float()
        logits_BV = mixed_logits(base_BV, thoughts.logits_BNSV[:, 0, 0].float(), thoughts.weight_BS[:, 0])
        logits_BV = self._model.without_marks(logits_BV)
        uniform_B = self._uniforms(place, self._draws_a_token - 1)
        top_p_B = torch.tensor([float(request.top_p) for request in self._live()], device=self._device)
        tokens_B, logprobs_B = draw(logits_BV, self._temperature_B(), top_p_B, uniform_B)
        self._note(tokens_B, logprobs_B, thoughts, rows)
        return tokens_B

    def _live(self) -> list[Request]:
        return [self._requests[row] for row in self._running]

    def _temperature_B(self) -> Tensor:
        return torch.tensor([float(request.temperature) for request in self._live()], device=self._device)

    def _chooser(self, place: int) -> Callable[[Tensor, int], Tensor]:
        temperature_B = (self._temperature_B() > 0).float()

        def choose(logits_BSV: Tensor, step: int) -> Tensor:
            tokens_B, _ = draw(logits_BSV[:, 0].float(), temperature_B, None, self._uniforms(place, step))
            return tokens_B[:, None]

        return choose

    def _uniforms(self, place: int, number: int) -> Tensor:
        seeds = seed_array([request.seed for request in self._live()])
        numbers = torch.from_numpy(uniforms(seeds, place * self._draws_a_token + number))
        return numbers.to(widest_float(self._device)).to(self._device)

    def _note(self, tokens_B: Tensor, logprobs_B: Tensor, thoughts: Thoughts, rows: list[Continuation]) -> None:
        drawn = zip(tokens_B.tolist(), logprobs_B.tolist(), thoughts.weight_BS[:, 0].tolist(), strict=True)
        thought_ids = thoughts.ids_BSM[:, 0].tolist()
        for number, (token, logprob, weight) in enumerate(drawn):
            row, request = rows[self._running[number]], self._requests[self._running[number]]
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.thoughts.append(ThoughtBefore(thought_ids[number], weight))
            row.stopped = token in self._eos_ids or self._holds_stop(row.ids, request.stop)
            row.ended = row.stopped or len(row.ids) >= request.max_new_tokens

    def _holds_stop(self, ids: list[int], stop: tuple[str, ...]) -> bool:
        return bool(stop) and any(text in self._text_of(ids) for text in stop)
