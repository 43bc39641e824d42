"""A policy's answers by continuous batching: calls join the batch that is under way, and are answered one by one."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from selfcorrect.agents.decoding.continuous import ContinuousDecoding
from selfcorrect.agents.decoding.engine import Request
from selfcorrect.agents.decoding.fixed_step import why_not_fixed
from selfcorrect.agents.decoding.prefill import Reader
from selfcorrect.agents.decoding.turn_cache import Shelf
from selfcorrect.agents.policies.local_calls import LocalCall
from selfcorrect.agents.policies.pretrained import decoding_attention, free_bytes
from selfcorrect.agents.state import Generation

if TYPE_CHECKING:
    from selfcorrect.agents.policies.transformers import TransformersPolicy

log = logging.getLogger(__name__)

_STEPS_A_LOOK = 8
"""Steps that a GPU makes between two looks of the host."""
_ROOM_SHARE = 0.25
"""Of the memory that is free on a GPU: what slots may take at once for tokens that may never be drawn."""


class OngoingAnswers:
    """The calls of `policy` that are under way; see `Ongoing`.

    Args:
        policy: its model may be exchanged while nothing is under way.
        generating: the surroundings of every use of the model.
        shelf_bytes: the most that caches may take on a device, those of finished turns and the slots together, given
            what they take now; None keeps none of finished turns.
    """

    def __init__(
        self,
        policy: "TransformersPolicy",
        *,
        generating: Callable[[], AbstractContextManager[None]],
        shelf_bytes: "Callable[[torch.device, int], int] | None",
    ) -> None:
        self._policy, self._generating, self._shelf_bytes = policy, generating, shelf_bytes
        self.shelf = None if shelf_bytes is None else Shelf()
        self.decoding: ContinuousDecoding | None = None
        self._model: Any = None
        self._identity: Any = None
        self._calls: dict[int, tuple[LocalCall, Request]] = {}
        self._joined: list[tuple[int, LocalCall]] = []

    @property
    def busy(self) -> bool:
        return bool(self._joined) or (self.decoding is not None and self.decoding.busy)

    def join(self, number: int, call: "LocalCall") -> None:
        self._joined.append((number, call))

    def advance(self) -> Sequence[tuple[int, Generation | Exception]]:
        joined, self._joined = self._joined, []
        with self._generating():
            if self.decoding is None or not self.decoding.busy:
                self._begin()
            if self.decoding is None:
                answers = self._policy._generate_batch([call for _, call in joined])
                return [(number, answer) for (number, _), answer in zip(joined, answers, strict=True)]
            return [*self._refused(joined), *self._answered(self.decoding)]

    def abandon(self) -> None:
        self._calls, self._joined = {}, []
        self.forget()

    def forget(self) -> None:
        """Drop all caches and CUDA graphs; what is under way is lost."""
        held, self.decoding, self._identity = self.decoding is not None, None, None
        self.forget_turns()
        if held and torch.cuda.is_available():
            gc.collect()  # a step and its graphs know each other
            torch.cuda.empty_cache()  # other processes may use the memory

    def forget_turns(self) -> None:
        """Drop what finished turns left behind; slots and CUDA graphs stay."""
        if self.shelf is not None:
            self.shelf.forget()

    def _begin(self) -> None:
        """Nothing is under way: see whether the model is the one that was decoded last."""
        self._calls = {}
        model = self._policy.model
        reader = Reader(model)
        if model is not self._model:
            self._model = model
            self.forget()
            self._reason = why_not_fixed(reader)
            if self._reason is not None:
                log.warning("this model is not decoded in steps of fixed shapes, but as usual: %s", self._reason)
        if self._reason is not None:
            return
        identity = self._policy.compute_dtype, _addresses(model) if reader.device.type == "cuda" else None
        if self.decoding is None or identity != self._identity:
            self.forget()  # before new memory is asked for
            self._identity, self.decoding = identity, self._new_decoding(reader)
        if self.shelf is not None and self._shelf_bytes is not None:
            slots = self.decoding.slot_bytes
            most = self._shelf_bytes(reader.device, slots + self.shelf.bytes)
            self.shelf.open(model, max(0, most - slots))

    def _new_decoding(self, reader: Reader) -> ContinuousDecoding:
        on_gpu = reader.device.type == "cuda"
        free = free_bytes(reader.device) if on_gpu else None
        return ContinuousDecoding(
            reader,
            eos_ids=self._policy._eos_ids,
            text_of=self._policy._completions.text,
            max_rows=self._policy.max_batch,
            shelf=self.shelf,
            capture=on_gpu,
            steps_a_look=_STEPS_A_LOOK if on_gpu else 1,
            room_bytes=int(_ROOM_SHARE * (free or 0)),
        )

    def _refused(self, joined: "Sequence[tuple[int, LocalCall]]") -> list[tuple[int, Exception]]:
        """Let the calls join; those that cannot be rendered, with the reason."""
        assert self.decoding is not None
        refused: list[tuple[int, Exception]] = []
        for number, call in joined:
            request = self._policy._request_or_error(call)
            if isinstance(request, Request):
                self._calls[number] = call, request
                self.decoding.add(number, request)
            else:
                refused.append((number, request))
        return refused

    def _answered(self, decoding: ContinuousDecoding) -> list[tuple[int, Generation | Exception]]:
        answers: list[tuple[int, Generation | Exception]] = []
        for number, decoded in decoding.advance():
            call, request = self._calls.pop(number)
            answers.append((number, self._policy._completions.generation(request, decoded, call.conversation)))
        return answers


def _addresses(model: Any) -> Any:
    """Changes when a CUDA graph of the model would read old memory or take another way: where the weights lie, and
    which adapters are on."""
    adapters = [
        (layer.disable_adapters, tuple(layer.merged_adapters), tuple(layer.active_adapters))
        for layer in model.modules()
        if hasattr(layer, "disable_adapters") and hasattr(layer, "merged_adapters")
    ]
    return [parameter.data_ptr() for parameter in model.parameters()], adapters


@contextmanager
def generating(model: Any, compute_dtype: torch.dtype | None, *, cached: bool = True) -> Iterator[None]:
    """Evaluation mode without gradients, computing in `compute_dtype`; the model's own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    device = next(model.parameters()).device
    # a cast weight that is remembered would lie in the memory of one CUDA graph and be read by others
    computing = torch.autocast(device.type, compute_dtype, enabled=compute_dtype is not None, cache_enabled=cached)
    unwrapped = nullcontext() if cached else _without_accelerate(model)
    if training:
        model.eval()
    try:
        with torch.no_grad(), computing, decoding_attention(device), unwrapped:
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _without_accelerate(model: Any) -> Iterator[None]:
    """The model's own forward. That in which accelerate wraps a model that it trains in mixed precision enters an
    autocast of its own, which remembers cast weights whatever the one around it says: a captured step would read the
    copies of adapters of long ago, in memory that others have by then."""
    wrapped, own = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    if wrapped is None or own is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = wrapped
