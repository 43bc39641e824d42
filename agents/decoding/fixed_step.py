"""One decoding step of fixed shapes: read each row's last token, draw its next, and leave everything on the device.

Nothing in it waits for the device or depends on values, so that on an NVIDIA GPU it is captured once per (rows,
columns) as a CUDA graph and replayed. Shapes: S slots, R rows of a step, C columns, N steps between two looks of the
host, V vocabulary.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.decoding.kv_cache import keeps_rows, new_cache
from selfcorrect.agents.decoding.prefill import Reader, read_once
from selfcorrect.agents.decoding.sampling import draw
from selfcorrect.agents.decoding.slots import COLUMN_BLOCK, SlotStore, Window
from selfcorrect.agents.policy import device_uniforms

log = logging.getLogger(__name__)

_FEWEST_ROWS = 8
"""Of a captured step: fewer rows are not faster."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a captured step is captured for: its rows and columns, whether any row samples, and whether any cuts by
    top-p."""

    rows: int
    columns: int
    samples: bool
    cuts: bool


class SlotRows:
    """What a step knows of each slot: last token, columns in the cache, the most of them, draws so far, and how to
    draw. Slots that belong to nobody go on being decoded; nobody reads what they draw."""

    def __init__(self, device: torch.device, block: int) -> None:
        self.token_S, self.length_S, self.last_S, self.place_S, self.seed_S = (
            torch.zeros(0, dtype=torch.long, device=device) for _ in range(5)
        )
        self.temperature_S, self.top_p_S = (torch.ones(0, device=device) for _ in range(2))
        self.drawn_NS = torch.zeros(block, 0, dtype=torch.long, device=device)
        self.logprob_NS = torch.zeros(block, 0, device=device)
        self.at_1 = torch.zeros(1, dtype=torch.long, device=device)
        """The number of the next step since the host last looked."""

    def grow(self, slots: int) -> None:
        for name in ("token_S", "length_S", "last_S", "place_S", "seed_S", "temperature_S", "top_p_S"):
            old_S = getattr(self, name)
            setattr(self, name, torch.cat([old_S, old_S.new_zeros(slots - len(old_S))]))
        self.drawn_NS = self.drawn_NS.new_zeros(len(self.drawn_NS), slots)
        self.logprob_NS = self.logprob_NS.new_zeros(len(self.logprob_NS), slots)

    def move(self, origins: Tensor, targets: Tensor) -> None:
        for name in ("token_S", "length_S", "last_S", "place_S", "seed_S", "temperature_S", "top_p_S"):
            values_S = getattr(self, name)
            values_S[targets] = values_S[origins]

    def uniforms(self, rows: int) -> Tensor:
        """The random number (R,) of each row's next draw: its seed's, whatever shares the batch."""
        return device_uniforms(self.seed_S[:rows], self.place_S[:rows])

    def note(self, tokens_R: Tensor, logprobs_R: Tensor) -> None:
        """Write down what was drawn, and go on by one place."""
        rows = len(tokens_R)
        self.drawn_NS[:, :rows].index_copy_(0, self.at_1, tokens_R[None])
        self.logprob_NS[:, :rows].index_copy_(0, self.at_1, logprobs_R[None])
        self.at_1 += 1
        self.token_S[:rows] = tokens_R
        self.place_S[:rows] += 1


class FixedStep:
    """Reads and draws for the first rows of a store.

    Args:
        reader: the model.
        store: its slots.
        rows: what is known of each.
        capture: replay CUDA graphs; False calls the model step by step.
    """

    def __init__(self, reader: Reader, store: SlotStore, rows: SlotRows, *, capture: bool) -> None:
        self._reader, self._store, self._rows = reader, store, rows
        self._additive = attention_of(reader) == "eager"
        self.captured: CapturedSteps | None = CapturedSteps(self._eagerly, self._parts) if capture else None

    def shape(self, rows: int, columns: int, *, samples: bool, cuts: bool) -> StepShape:
        """The step for so many rows and columns: where steps are captured, that of the next bucket."""
        if self.captured is None:
            return StepShape(rows, columns, samples, cuts)
        bucket = max(_FEWEST_ROWS, 1 << (rows - 1).bit_length())
        columns = -(-columns // COLUMN_BLOCK) * COLUMN_BLOCK
        return StepShape(min(bucket, self._store.rows), min(columns, self._store.columns), samples, cuts)

    def run(self, shape: StepShape) -> None:
        """One step; what it drew is in `rows`."""
        if self.captured is None or not self.captured.replay(shape, self._store.generation):
            self._eagerly(shape)

    def read(self, rows: int, columns: int) -> Tensor:
        """Read the last tokens of the first `rows`; the float32 logits (R, V) after them."""
        slots = self._rows
        length_R = slots.length_S[:rows].clone()
        place_C = torch.arange(columns, device=length_R.device)
        shown_R11C = (place_C[None] <= length_R[:, None])[:, None, None]
        if self._additive:  # transformers' eager attention adds the mask
            hidden = torch.finfo(torch.float32).min
            shown_R11C = torch.zeros(shown_R11C.shape, device=length_R.device).masked_fill_(~shown_R11C, hidden)
        window = Window(rows, columns, torch.arange(rows, device=length_R.device), length_R)
        ids_R1, positions_R1 = slots.token_S[:rows, None], length_R[:, None]
        logits_RV = self._reader.read(ids_R1, shown_R11C, positions_R1, self._store.open(window))
        # a row that ended goes on; it may run neither out of its columns nor out of the model's positions
        slots.length_S[:rows] = torch.minimum(length_R + 1, slots.last_S[:rows])
        return logits_RV

    def _eagerly(self, shape: StepShape) -> None:
        rows = shape.rows
        logits_RV = self.read(rows, shape.columns)
        uniform_R = self._rows.uniforms(rows) if shape.samples else None
        top_p_R = self._rows.top_p_S[:rows] if shape.cuts else None
        self._rows.note(*draw(logits_RV, self._rows.temperature_S[:rows], top_p_R, uniform_R))

    def _parts(self) -> list[Tensor]:
        """What a step changes besides the store, where it writes the same again."""
        rows = self._rows
        return [rows.token_S, rows.length_S, rows.place_S, rows.drawn_NS, rows.logprob_NS, rows.at_1]


class CapturedSteps:
    """Steps as CUDA graphs, each captured when its shape is first asked for.

    All graphs of a generation share one pool of memory: they are replayed one after the other, and what a step leaves
    behind lies in tensors of its own.

    Args:
        step: launches a step on the current stream.
        parts: the tensors that it changes, which a trial run has to leave as they were.
    """

    def __init__(self, step: Callable[[StepShape], None], parts: Callable[[], list[Tensor]]) -> None:
        self._step, self._parts = step, parts
        self._graphs: dict[StepShape, Any] = {}
        self._generation = -1
        self._pool: Any = None
        self._stream: Any = None
        self._failed: Any = None
        self.captures = 0
        """Graphs captured so far, those that were forgotten too."""
        self.why_not: str | None = None
        """Why steps cannot be captured, once that was seen."""

    def replay(self, shape: StepShape, generation: int) -> bool:
        """Run the step, unless it cannot be captured: then False, and nothing was run.

        `generation` is that of the slots: graphs of moved slots are forgotten.
        """
        if generation != self._generation:
            # torch refuses a pool again whose graphs are all gone
            self._graphs, self._generation, self._pool = {}, generation, None
        if shape not in self._graphs and self.why_not is None:
            self._capture(shape)
        if self.why_not is not None:
            return False
        self._graphs[shape].replay()
        return True

    def _capture(self, shape: StepShape) -> None:
        parts = self._parts()
        before = [part.clone() for part in parts]
        graph: Any = None
        stream: Any = None
        try:
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            self._try_out(shape)
            for part, value in zip(parts, before, strict=True):
                part.copy_(value)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            _forget_cast_weights()
            # other threads of the process may use the GPU meanwhile
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._step(shape)
        except RuntimeError as error:
            self._give_up(graph, stream, f"{type(error).__name__}: {error}")
            for part, value in zip(parts, before, strict=True):
                part.copy_(value)
            return
        finally:
            _forget_cast_weights()
        self._graphs[shape] = graph
        self.captures += 1

    def _give_up(self, graph: Any, stream: Any, reason: str) -> None:
        """Decode without graphs from now on, on the stream as it was before the capture that failed."""
        self.why_not = reason
        self._graphs, self._failed = {}, graph  # torch's allocator goes on asking a graph that was not ended
        log.warning("decoding steps are not captured as CUDA graphs, and run one kernel at a time: %s", reason)
        if stream is None:
            return
        torch.cuda.set_stream(stream)
        try:  # a capture that succeeds tells torch's random numbers that the one that failed is over
            with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
                torch.zeros(1, device=stream.device)
        except RuntimeError as error:
            torch.cuda.set_stream(stream)
            log.warning("torch did not recover from the capture that failed: %s", error)

    def _try_out(self, shape: StepShape) -> None:
        """One run on a stream of its own, as torch wants before a capture: libraries set themselves up in it."""
        self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step(shape)
        torch.cuda.current_stream().wait_stream(self._stream)


def _forget_cast_weights() -> None:
    """Before and after a capture: weights that autocast has cast and remembers.

    A model that accelerate prepared remembers them whatever its surroundings say. A graph must cast them itself, or it
    would go on reading copies that are freed, of weights that have learnt since; and nobody else may read those that
    lie in the graph's memory.
    """
    torch.clear_autocast_cache()


# Which models can be decoded so.


def attention_of(reader: Reader) -> str:
    """transformers' name of the model's attention."""
    return str(getattr(reader.config, "_attn_implementation", "eager"))


def why_not_fixed(reader: Reader) -> str | None:
    """Why steps of fixed shapes are not for this model, or None where they give what the usual ones give.

    The last word has a trial: three prompts are read and one token more, both ways, and the logits compared.
    """
    if not reader.takes_positions:
        return "its forward takes no position_ids"
    if not keeps_rows(new_cache(reader.config)):
        return "its layers do not all attend to everything before (a sliding window, or a state of another kind)"
    if attention_of(reader) not in ("sdpa", "eager"):
        return f"its attention is {attention_of(reader)!r}, and masks are made for 'sdpa' and 'eager' alone"
    try:
        usual_RV, fixed_RV = _tried_both_ways(reader)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"a trial step failed: {error}"
    apart, size = float((usual_RV - fixed_RV).abs().max()), max(1.0, float(usual_RV.abs().max()))
    half = torch.is_autocast_enabled(reader.device.type) or next(reader.model.parameters()).dtype.itemsize < 4
    if not apart <= (0.05 if half else 1e-3) * size:
        return f"a trial step gave logits that are off by {apart:.2g}"
    return None


def _tried_both_ways(reader: Reader) -> tuple[Tensor, Tensor]:
    prompts, tokens = [[1, 2, 0, 2], [2], [0, 1]], [1, 0, 2]
    start, _ = read_once(reader, prompts)
    store, slots = SlotStore(), SlotRows(reader.device, block=1)
    store.reserve(len(prompts), max(map(len, prompts)) + 1, start.cache)
    slots.grow(store.rows)
    every = torch.arange(len(prompts), device=reader.device)
    store.fill(start.cache, start.mask_RC, every, every)
    slots.token_S[:] = torch.tensor(tokens, device=reader.device)
    slots.length_S[:] = start.mask_RC.sum(1)
    slots.last_S[:] = slots.length_S + 1
    fixed_RV = FixedStep(reader, store, slots, capture=False).read(len(prompts), store.columns)
    mask_RC = torch.cat([start.mask_RC, torch.ones_like(start.mask_RC[:, :1])], dim=1)
    position_R1 = start.position_R[:, None] + 1
    usual_RV = reader.read(torch.tensor(tokens, device=reader.device)[:, None], mask_RC, position_R1, start.cache)
    return usual_RV, fixed_RV
