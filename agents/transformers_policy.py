"""A Hugging Face causal language model as a policy: batched, exact, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.coalescing import Coalescer
from selfcorrect.agents.completions import Completions, eos_ids
from selfcorrect.agents.decoding import Decoding, Remembered
from selfcorrect.agents.decoding_requests import Decoded, Request
from selfcorrect.agents.drawn_tree import EXHAUSTED, DrawnTree, refuse_cut_draws
from selfcorrect.agents.local_calls import LocalCall, room_after
from selfcorrect.agents.model_folder import load_model_and_tokenizer
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.reading import Reader, prefill
from selfcorrect.agents.recording import begin_call, refuse_recording
from selfcorrect.agents.rendering import TemplateName, choose_template
from selfcorrect.agents.state import Generation, Message
from selfcorrect.agents.turn_memory import TurnMemory
from selfcorrect.errors import PolicyError

__all__ = ["TransformersPolicy", "eos_ids"]

_MEMORY_BYTES = 2**30


class TransformersPolicy:
    """Writes turns with a Hugging Face causal language model.

    Concurrent `generate` calls (the episodes of a graph) are decoded as one batch. A later turn's prompt is the earlier ids with
    the new message's ids appended, and continues their key/value cache if the model has just read them. The recorded
    log-probabilities are those of the model as it is, in its own precision, at the sampling temperature.

    Args:
        model: any causal LM of transformers with a key/value cache, PEFT-wrapped or not. It stays the caller's: train it and go on
            generating. Its training mode is restored after every batch.
        tokenizer: its tokenizer, with an EOS token. A pad token is not needed.
        template: "chat" renders messages by the tokenizer's chat template, "plain" writes them one after the other, "auto" is
            "chat" where there is one.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        max_batch: at most this many rows are decoded at a time; the rest of a flush waits.
        device: move the model there first; None leaves it where it is.
        reuse_cache: continue key/value caches across turns.
        in_thread: decode in a thread, which keeps the event loop responsive, rather than on the loop.

    Raises:
        PolicyError: the tokenizer has no EOS token, or the template cannot be had.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template: TemplateName = "auto",
        max_new_tokens: int = 512,
        max_batch: int = 256,
        device: str | torch.device | None = None,
        reuse_cache: bool = True,
        in_thread: bool = False,
    ) -> None:
        self.model = model if device is None else model.to(device)
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.max_batch = max_batch
        self._template = choose_template(tokenizer, template)
        self._eos_ids = eos_ids(model, tokenizer)
        self._completions = Completions(tokenizer, self._eos_ids)
        self._memory = TurnMemory(_MEMORY_BYTES) if reuse_cache else None
        self._coalescer: Coalescer[LocalCall, Generation] = Coalescer(self._generate_batch, in_thread=in_thread)

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, dtype: str | torch.dtype = "auto", **options: Any
    ) -> "TransformersPolicy":
        """The policy of a model folder or Hugging Face id; `options` are those of the constructor.

        Raises:
            PolicyError: there is no such folder, or it holds no model and tokenizer that transformers can load.
        """
        return cls(*load_model_and_tokenizer(path_or_id, dtype), **options)

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The next assistant message, decoded together with all concurrent calls; see `Policy.generate`."""
        call = begin_call(self, messages, sampling, after=after)
        generation = await self._coalescer.submit(LocalCall(messages, call.sampling, after))
        call.finish(generation)
        return generation

    async def generate_new(
        self, messages: Sequence[Message], sampling: Sampling, *, drawn: Sequence[Generation]
    ) -> Generation | None:
        """An answer that is none of `drawn`, decoded together with all concurrent calls; see `RenewingPolicy.generate_new`."""
        refuse_cut_draws(sampling)
        refuse_recording(self)
        tree = DrawnTree(drawn)
        if tree.left < EXHAUSTED:
            return None
        return await self._coalescer.submit(LocalCall(messages, sampling, None, drawn=tree))

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        """The unfinished answer `partial` with more tokens; see `ContinuingPolicy.extend`.

        What is recorded for training is the new part alone, after a prompt that holds the old one.
        """
        call = begin_call(self, [], sampling, after=partial)
        part = await self._coalescer.submit(LocalCall([], call.sampling, partial, extends=True))
        call.finish(part)
        return self._completions.joined(partial, part, sampling.stop)

    def forget(self) -> None:
        """Drop the key/value cache of the last batch. Changed weights are noticed without this; it frees memory."""
        if self._memory is not None:
            self._memory.forget()

    def _generate_batch(self, calls: Sequence[LocalCall]) -> list[Generation | Exception]:
        requests = [self._request_or_error(call) for call in calls]
        good = [request for request in requests if isinstance(request, Request)]
        results = iter(self._decode_all(good))
        return [
            self._completions.generation(request, next(results), call.conversation) if isinstance(request, Request) else request
            for call, request in zip(calls, requests, strict=True)
        ]

    def _request_or_error(self, call: LocalCall) -> Request | PolicyError:
        try:
            return self._request(call)
        except PolicyError as error:
            return error

    def _request(self, call: LocalCall) -> Request:
        prompt = call.prompt(self._template, self._eos_ids)
        wanted = call.sampling.max_new_tokens or self.max_new_tokens
        return call.request(prompt, room_after(self.model, len(prompt.ids), wanted))

    def _decode_all(self, requests: Sequence[Request]) -> list[Decoded]:
        """Decode in batches of like prompt lengths, equal prompts side by side; results in the order of the requests."""
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids))
        results: dict[int, Decoded] = {}
        remembered: list[tuple[Sequence[Request], Sequence[Decoded], Remembered | None]] = []
        with _generating(self.model):
            reader = Reader(self.model)
            for begin in range(0, len(order), self.max_batch):
                numbers = order[begin : begin + self.max_batch]
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
        decoding = Decoding(reader, start, batch, eos_ids=self._eos_ids, text_of=self._completions.text, remember_bytes=limit)
        return decoding.run(), decoding.remembered


@contextmanager
def _generating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
