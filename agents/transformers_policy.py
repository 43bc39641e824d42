"""A Hugging Face causal language model as a policy: batched, exact, in this process."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.coalescing import Coalescer
from selfcorrect.agents.decoding import Decoded, Decoding, Remembered, Request
from selfcorrect.agents.drawn_tree import EXHAUSTED, DrawnTree, refuse_cut_draws
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.reading import Reader, prefill
from selfcorrect.agents.recording import begin_call, refuse_recording
from selfcorrect.agents.rendering import (
    PromptIds,
    TemplateName,
    before_stop,
    choose_template,
    conversation_after,
    prompt_after,
)
from selfcorrect.agents.state import Generation, Message
from selfcorrect.agents.turn_memory import TurnMemory
from selfcorrect.errors import PolicyError, UnreadablePromptError

_MEMORY_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class _Call:
    messages: Sequence[Message]
    sampling: Sampling
    after: Generation | None
    extends: bool = False
    """Whether the answer `after` itself goes on, rather than a new message after it."""
    drawn: DrawnTree | None = None
    """Completions that are not to be drawn again."""


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
        self._memory = TurnMemory(_MEMORY_BYTES) if reuse_cache else None
        self._coalescer: Coalescer[_Call, Generation] = Coalescer(self._generate_batch, in_thread=in_thread)

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, dtype: str | torch.dtype = "auto", **options: Any
    ) -> "TransformersPolicy":
        """The policy of a model folder or Hugging Face id; `options` are those of the constructor.

        Raises:
            PolicyError: there is no such folder, or it holds no model and tokenizer that transformers can load.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        _refuse_missing_folder(path_or_id)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path_or_id)
            model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype=dtype)
        except (OSError, ValueError) as error:
            raise PolicyError(f"cannot load model and tokenizer from {str(path_or_id)!r}: {error}") from error
        return cls(model.eval(), tokenizer, **options)

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The next assistant message, decoded together with all concurrent calls; see `Policy.generate`."""
        call = begin_call(self, messages, sampling, after=after)
        generation = await self._coalescer.submit(_Call(messages, call.sampling, after))
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
        return await self._coalescer.submit(_Call(messages, sampling, None, drawn=tree))

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        """The unfinished answer `partial` with more tokens; see `ContinuingPolicy.extend`.

        What is recorded for training is the new part alone, after a prompt that holds the old one.
        """
        call = begin_call(self, [], sampling, after=partial)
        part = await self._coalescer.submit(_Call([], call.sampling, partial, extends=True))
        call.finish(part)
        return self._joined(partial, part, sampling.stop)

    def forget(self) -> None:
        """Drop the key/value cache of the last batch. Changed weights are noticed without this; it frees memory."""
        if self._memory is not None:
            self._memory.forget()

    def _generate_batch(self, calls: Sequence[_Call]) -> list[Generation | Exception]:
        requests = [self._request_or_error(call) for call in calls]
        good = [request for request in requests if isinstance(request, Request)]
        results = iter(self._decode_all(good))
        return [
            self._generation(call, request, next(results)) if isinstance(request, Request) else request
            for call, request in zip(calls, requests, strict=True)
        ]

    def _request_or_error(self, call: _Call) -> Request | PolicyError:
        try:
            return self._request(call)
        except PolicyError as error:
            return error

    def _request(self, call: _Call) -> Request:
        sampling = call.sampling
        prompt = (
            _unfinished(call.after) if call.extends else prompt_after(self._template, call.messages, call.after, self._eos_ids)
        )
        return Request(
            prompt_ids=prompt.ids,
            max_new_tokens=self._room(len(prompt.ids), sampling.max_new_tokens or self.max_new_tokens),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            known=prompt.known,
            drawn=call.drawn,
        )

    def _room(self, prompt_length: int, wanted: int) -> int:
        """How many tokens may follow a prompt: what is wanted, or what the model's context leaves."""
        if prompt_length == 0:
            raise PolicyError("the prompt has no tokens; show the policy at least one message with text in it")
        context: int | None = getattr(self.model.config, "max_position_embeddings", None)
        if context is None:
            return wanted
        if prompt_length >= context:
            raise UnreadablePromptError(
                f"the prompt has {prompt_length} token ids, but the model's context holds {context}, completion included; "
                "shorten the problem, lower max_new_tokens of the earlier turns or use fewer revisions"
            )
        return min(wanted, context - prompt_length)

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
        decoding = Decoding(reader, start, batch, eos_ids=self._eos_ids, text_of=self._text, remember_bytes=limit)
        return decoding.run(), decoding.remembered

    def _generation(self, call: _Call, request: Request, decoded: Decoded) -> Generation:
        text = self._text(self._without_eos(decoded.ids))
        generation = Generation(
            text=before_stop(text, request.stop),
            messages=call.after["messages"] if call.extends and call.after else conversation_after(call.after, call.messages),
            prompt_ids=request.prompt_ids,
            completion_ids=decoded.ids,
            logprobs=decoded.logprobs,
            finish_reason="stop" if decoded.stopped else "length",
        )
        found = _stop_found(text, request.stop)
        return generation if found is None else {**generation, "stop_text": found}

    def _joined(self, partial: Generation, part: Generation, stop: tuple[str, ...]) -> Generation:
        """The answer that `part` makes of `partial`; stop texts inside `partial` stay."""
        ids = [*partial["completion_ids"], *part["completion_ids"]]
        text, old = self._text(self._without_eos(ids)), len(self._text(partial["completion_ids"]))
        whole: Generation = {
            **part,
            "text": text[:old] + before_stop(text[old:], stop),
            "prompt_ids": partial["prompt_ids"],
            "completion_ids": ids,
            "logprobs": [*partial["logprobs"], *part["logprobs"]],
        }
        return whole

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self._eos_ids else ids

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """All ids that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return sorted({tokenizer.eos_token_id, *more})


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


def _unfinished(partial: Generation | None) -> PromptIds:
    """The prompt and what was written so far: nothing new, all of it known."""
    assert partial is not None
    ids = [*partial["prompt_ids"], *partial["completion_ids"]]
    return PromptIds(ids, len(ids))


def _stop_found(text: str, stop: tuple[str, ...]) -> str | None:
    """Which stop text comes first in `text`."""
    found = [(place, words) for words in stop if (place := text.find(words)) >= 0]
    return min(found)[1] if found else None


def _refuse_missing_folder(path_or_id: str | Path) -> None:
    """Without this, transformers would ask the network for a model of that name."""
    path = Path(path_or_id)
    looks_local = isinstance(path_or_id, Path) or path.is_absolute() or str(path_or_id).startswith((".", "~"))
    if not path.exists() and (looks_local or len(path.parts) > 2):
        raise PolicyError(f"there is no model folder {str(path_or_id)!r}; give an existing folder or a Hugging Face id")
    if path.is_dir() and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise PolicyError(f"the folder {str(path_or_id)!r} holds no config.json: it is not a saved transformers model")
