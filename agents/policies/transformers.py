"""A Hugging Face causal language model as a policy: batched, exact, in this process."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from selfcorrect.agents.decoding.batcher import Batcher
from selfcorrect.agents.decoding.constraints import Constraints, Guide
from selfcorrect.agents.decoding.engine import Decoded, Decoding, Remembered, Request, Ticket
from selfcorrect.agents.decoding.joining import Joining
from selfcorrect.agents.decoding.prefill import Reader, prefill
from selfcorrect.agents.decoding.sampling import EXHAUSTED, DrawnTree, refuse_cut_draws
from selfcorrect.agents.decoding.turn_cache import TurnCache
from selfcorrect.agents.listening import Tell, listener
from selfcorrect.agents.policies.local_calls import Completions, LocalCall, eos_ids, room_after
from selfcorrect.agents.policies.ongoing import OngoingAnswers, generating
from selfcorrect.agents.policies.pretrained import free_bytes, load_model_and_tokenizer
from selfcorrect.agents.policies.rendering import (
    TemplateName,
    choose_template,
    count_tokens,
)
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call, refuse_recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import ConfigurationError, PolicyError, SelfCorrectError

DecodingName = Literal["auto", "dynamic", "static"]

_CACHE_SHARE = 0.25
"""Of the memory that is free: the most that key/value caches of finished turns may take until the next turn."""
_CACHE_BYTES_UNKNOWN = 2**30
"""The same, on devices that do not tell what is free."""
_COLUMNS_AT_ONCE = 131_072
"""Of the caches of all rows of a batch: 6 GB of SmolLM2-135M in float32, 4 GB of Qwen2.5-1.5B in bfloat16. Not of what
is free just now: on a CPU the last digits of what is drawn depend on who shares a batch."""


class TransformersPolicy:
    """Writes turns with a Hugging Face causal language model.

    Concurrent `generate` calls (the episodes of a graph) are decoded as one batch. A later turn's prompt is the earlier
    ids with the new message's ids appended, and continues their key/value cache if the model has just read them. The
    recorded log-probabilities are those of the model as it is, in its own precision, at the sampling temperature.

    Args:
        model: any causal LM of transformers with a key/value cache, PEFT-wrapped or not. It stays the caller's: train
            it and go on generating. Its training mode is restored after every batch.
        tokenizer: its tokenizer, with an EOS token. A pad token is not needed.
        template: "chat" renders messages by the tokenizer's chat template, "plain" writes them one after the other,
            "auto" is "chat" where there is one.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        max_batch: at most this many rows are decoded at a time; the rest of a flush waits.
        device: move the model there first; None leaves it where it is.
        compute_dtype: compute in it under autocast, whatever the dtype of the weights; None computes in theirs.
        decoding: "dynamic" decodes what comes together as one batch to its end, with caches that grow; "static" lets
            calls join and leave a batch that goes on, in steps of fixed shapes (CUDA graphs on NVIDIA GPUs), where the
            model can be decoded so; "auto" is "static" on such a GPU and with `in_thread`, else "dynamic".
        reuse_cache: continue key/value caches across turns, while they fit into a quarter of the free memory.
        in_thread: decode in a thread, which keeps the event loop responsive, rather than on the loop.

    Raises:
        PolicyError: the tokenizer has no EOS token, or the template cannot be had.
    """

    draws_by_schema = True
    """It honours `Sampling.json_schema`."""
    tells_tokens = True
    """It tells a `listener` the answer's tokens as they are drawn."""
    engine = "transformers"
    """What decodes."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template: TemplateName = "auto",
        max_new_tokens: int = 512,
        max_batch: int = 256,
        device: str | torch.device | None = None,
        compute_dtype: torch.dtype | None = None,
        decoding: DecodingName = "auto",
        reuse_cache: bool = True,
        in_thread: bool = False,
    ) -> None:
        self._device = None if device is None else choose_device(device)
        self.model = model if self._device is None else model.to(self._device)
        self.compute_dtype = compute_dtype
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.max_batch = max_batch
        self.template = choose_template(tokenizer, template)
        self._constraints: Constraints | None = None
        self._eos_ids = eos_ids(model, tokenizer)
        self._completions = Completions(tokenizer, self._eos_ids)
        self._memory = TurnCache(0) if reuse_cache else None  # its limit is set at every flush
        self._ongoing = OngoingAnswers(
            self,
            generating=lambda: generating(self.model, self.compute_dtype, cached=not self.captures),
            shelf_bytes=_cache_limit if reuse_cache else None,
        )
        self._coalescer: Batcher[LocalCall, Generation] | Joining[LocalCall, Generation]
        self.decoding, self._in_thread = decoding, in_thread
        if decoding == "static" or (decoding == "auto" and (in_thread or self._on_nvidia)):
            self._coalescer = Joining(self._ongoing, in_thread=in_thread)
        else:
            self.decode_in_batches()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        attention: str = "auto",
        **options: Any,
    ) -> "TransformersPolicy":
        """The policy of a model folder, GGUF file or Hugging Face id, or of "embedded", "embedded-looks", "smollm2".

        Args:
            path_or_id: a name stands before a folder that is called the same; for the folder say "./smollm2".
            device, dtype: where it runs and what its weights become; see `choose_device`. "auto" is the accelerator
                where there is one, in bfloat16 if it has that; on the CPU the weights stay as they were saved.
            attention: an implementation of transformers ("sdpa", "eager", "flash_attention_2", ...), or its choice.
            **options: those of the constructor.

        Raises:
            PolicyError: what `load_model_and_tokenizer` raises.
            ConfigurationError: the device is not there, or lacks the dtype.
        """
        place = choose_device(device)
        weights = dtype if isinstance(dtype, torch.dtype) else choose_dtype(dtype, place) or "auto"
        return cls(*load_model_and_tokenizer(path_or_id, weights, attention, place), device=place, **options)

    @property
    def captures(self) -> bool:
        """Whether steps are captured as CUDA graphs, which read the weights where they lie."""
        return isinstance(self._coalescer, Joining) and self._on_nvidia

    @property
    def _on_nvidia(self) -> bool:
        return bool(next(self.model.parameters()).device.type == "cuda")

    def decode_in_batches(self) -> None:
        """Decode as `decoding` "dynamic" does, from the next call on."""
        self._coalescer = Batcher(self._generate_batch, in_thread=self._in_thread)

    @property
    def on_cpu(self) -> bool:
        """Whether a trainer works with it on the CPU: it was put there to stay, or there is no accelerator. Accelerate
        must know: of several processes each would else train alone where it looks for accelerators in vain."""
        return self.training_device.type == "cpu"

    @property
    def training_device(self) -> torch.device:
        """Where a trainer works with it: where its model is, or from a CPU on which nobody put it the accelerator."""
        taken = self._device is None and self.model.device.type == "cpu"
        return choose_device("auto" if taken else self.model.device)

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The next assistant message, decoded together with all concurrent calls; see `Policy.generate`."""
        call = begin_call(self, messages, sampling, after=after)
        generation = await self._drawn(LocalCall(messages, call.sampling, after), listener(self._completions.text))
        call.finish(generation)
        return generation

    async def _drawn(self, call: LocalCall, tell: Tell | None = None) -> Generation:
        """What is decoded for `call`. If nobody waits for it any more, its row leaves the batch at once."""
        ticket = Ticket(tell=tell)
        try:
            return await self._coalescer.submit(replace(call, ticket=ticket))
        except asyncio.CancelledError:
            ticket.gone = True
            raise

    async def generate_new(
        self, messages: Sequence[Message], sampling: Sampling, *, drawn: Sequence[Generation]
    ) -> Generation | None:
        """An answer that is none of `drawn`, decoded together with all concurrent calls; see
        `RenewingPolicy.generate_new`."""
        refuse_cut_draws(sampling)
        refuse_recording(self)
        tree = DrawnTree(drawn)
        if tree.left < EXHAUSTED:
            return None
        return await self._drawn(LocalCall(messages, sampling, None, drawn=tree))

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        """The unfinished answer `partial` with more tokens; see `ContinuingPolicy.extend`.

        What is recorded for training is the new part alone, after a prompt that holds the old one.
        """
        call = begin_call(self, [], sampling, after=partial)
        part = await self._drawn(LocalCall([], call.sampling, partial, extends=True))
        call.finish(part)
        return self._completions.joined(partial, part, sampling.stop)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many token ids the model is shown of `messages`."""
        return count_tokens(self.template, messages)

    def hand_over(self) -> None:
        """Give an engine that plays the weights that the model has now; there is nothing to do where the model plays
        itself. All processes that train one policy call this together, before they play."""

    def settle(self) -> None:
        """The model's weights are final: an engine of its own goes on with them, whatever becomes of the model."""

    def forget(self) -> None:
        """Drop all caches, slots and CUDA graphs. Changed weights are noticed without this; it frees memory."""
        self.forget_turns()
        if not self._ongoing.busy:
            self._ongoing.forget()

    def forget_turns(self) -> None:
        """Drop the key/value caches of finished turns, useless once the weights change; slots and CUDA graphs stay."""
        if self._memory is not None:
            self._memory.forget()
        self._ongoing.forget_turns()

    def _generate_batch(self, calls: Sequence[LocalCall]) -> list[Generation | Exception]:
        requests = [self._request_or_error(call) for call in calls]
        good = [request for request in requests if isinstance(request, Request)]
        results = iter(self._decode_all(good))
        return [
            self._completions.generation(request, next(results), call.conversation)
            if isinstance(request, Request)
            else request
            for call, request in zip(calls, requests, strict=True)
        ]

    def _request_or_error(self, call: LocalCall) -> Request | SelfCorrectError:
        try:
            return self._request(call)
        except (PolicyError, ConfigurationError) as error:
            return error

    def _request(self, call: LocalCall) -> Request:
        prompt = call.prompt(self.template, self._eos_ids)
        wanted = call.sampling.max_new_tokens or self.max_new_tokens
        return call.request(prompt, room_after(self.model, len(prompt.ids), wanted), self._guide(call.sampling))

    def _guide(self, sampling: Sampling) -> Guide | None:
        if sampling.json_schema is None:
            return None
        if self._constraints is None:
            self._constraints = Constraints(self.tokenizer)
        return self._constraints.guide(sampling.json_schema)

    def _decode_all(self, requests: Sequence[Request]) -> list[Decoded]:
        """Decode in batches of like prompt lengths, equal prompts side by side; results in the order of the
        requests."""
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids))
        results: dict[int, Decoded] = {}
        remembered: list[tuple[Sequence[Request], Sequence[Decoded], Remembered | None]] = []
        with generating(self.model, self.compute_dtype):
            reader = Reader(self.model)
            if self._memory is not None:
                self._memory.limit_bytes = _cache_limit(reader.device)
            for numbers in _batches(order, requests, self.max_batch):
                batch = [requests[i] for i in numbers]
                decoded, kept = self._decode(reader, batch)
                results.update(zip(numbers, decoded, strict=True))
                remembered.append((batch, decoded, kept))
            if self._memory is not None:
                self._memory.replace(self.model, remembered)
        return [results[i] for i in range(len(requests))]

    def _decode(self, reader: Reader, batch: Sequence[Request]) -> tuple[list[Decoded], Remembered | None]:
        start = self._memory.recall(reader, batch) if self._memory is not None else None
        if start is None:
            start = prefill(reader, [request.prompt_ids for request in batch])
        limit = self._memory.limit_bytes if self._memory is not None else 0
        decoding = Decoding(
            reader, start, batch, eos_ids=self._eos_ids, text_of=self._completions.text, remember_bytes=limit
        )
        return decoding.run(), decoding.remembered


def _cache_limit(device: torch.device, held: int = 0) -> int:
    free = free_bytes(device)
    return _CACHE_BYTES_UNKNOWN if free is None else int(_CACHE_SHARE * (free + held))


def _batches(order: Sequence[int], requests: Sequence[Request], most: int) -> list[list[int]]:
    """`order`, in which prompts become longer, in batches of at most `most` rows and `_COLUMNS_AT_ONCE` columns, in
    which no row is padded to more than twice what it may come to fill: every step reads what is padded, too, and one
    prompt of 2,000 tokens would make it 2,000 for 255 others of 80."""
    written = max((request.max_new_tokens for request in requests), default=0)
    batches: list[list[int]] = []
    widest = 0
    for row in order:
        columns = len(requests[row].prompt_ids) + written
        full = not batches or len(batches[-1]) == most or (len(batches[-1]) + 1) * columns > _COLUMNS_AT_ONCE
        if full or columns > widest:
            batches.append([])
            widest = 2 * columns
        batches[-1].append(row)
    return batches
