"""A policy behind a vLLM server, or any OpenAI-compatible server that takes and returns token ids."""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Self

import httpx

from selfcorrect.agents.listening import listener
from selfcorrect.agents.policies.rendering import (
    TemplateName,
    before_stop,
    choose_template,
    conversation_after,
    count_tokens,
    prompt_after,
    room_in,
)
from selfcorrect.agents.policies.vllm_server import Drawn, VLLMServer
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError


class VLLMPolicy:
    """Writes turns with a model that a server holds, token for token as `TransformersPolicy` would show and record
    them.

    Prompts are sent as ids to `/completions` and ids come back, so later turns are appended, never tokenised again. The
    server batches concurrent episodes by itself. Its weights are its own: this policy is for evaluation, data, search
    and applications. Training has the setting `policy.engine`, which plays on such a server and gives it every update.

    Args:
        url: of the server's API, such as "http://localhost:8000/v1".
        model: its name there.
        tokenizer: the model's tokenizer, which renders the messages.
        template: as for `TransformersPolicy`.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        api_key: sent as a bearer token; None is that of the environment variable VLLM_API_KEY, if there is one.
        processed_logprobs: whether the server was started with `--logprobs-mode processed_logprobs`. Without it, it
            reports log-probabilities before the temperature; draws at other temperatures than 0 and 1 are then recorded
            without any.
        concurrency: requests at a time.
        max_model_length: the most tokens of a prompt with its completion; None is what the server tells.
        end_ids: tokens that end a turn, besides the tokenizer's EOS. Those that the server ends a turn with are learnt
            from its answers.
        transport: of httpx, for proxies and tests.

    Raises:
        PolicyError: the tokenizer has no EOS token, or the template cannot be had.
    """

    draws_by_schema = True
    """It honours `Sampling.json_schema`."""
    tells_tokens = True
    """It tells a `listener` the answer's tokens as they are drawn."""

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: Any,
        *,
        template: TemplateName = "auto",
        max_new_tokens: int = 512,
        api_key: str | None = None,
        processed_logprobs: bool = False,
        concurrency: int = 128,
        max_model_length: int | None = None,
        end_ids: Collection[int] = (),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._server = VLLMServer(
            url,
            model,
            api_key=api_key,
            concurrency=concurrency,
            max_model_length=max_model_length,
            transport=transport,
        )
        self.url, self.model, self.tokenizer = self._server.url, model, tokenizer
        self.max_new_tokens = max_new_tokens
        self._processed = processed_logprobs
        self.template = choose_template(tokenizer, template)
        self._end_ids = {tokenizer.eos_token_id, *end_ids}
        # Threads, not an asynchronous client: that would belong to one event loop, and graphs are run in many.
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="selfcorrect-vllm")

    @classmethod
    def from_pretrained(cls, url: str, model: str, *, tokenizer: str | None = None, **options: Any) -> Self:
        """With the tokenizer, and the generation config's tokens that end a turn, of `tokenizer`, a folder or Hugging
        Face id; None is the model that the server says stands behind the name (`--served-model-name`), or that name.

        Raises:
            PolicyError: they cannot be loaded.
        """
        from transformers import AutoTokenizer

        named = tokenizer or _behind(url, model, options) or model
        try:
            loaded = AutoTokenizer.from_pretrained(named)
        except (OSError, ValueError) as error:
            raise PolicyError(
                f"cannot load the tokenizer {named!r}: {error}. Name its folder or id with tokenizer="
            ) from error
        return cls(url, model, loaded, **{"end_ids": _end_ids(named), **options})

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """See `Policy.generate`.

        Raises:
            PolicyError: the server cannot be reached, refuses, or does not return token ids.
        """
        call = begin_call(self, messages, sampling, after=after)
        tell, gone = listener(self._text), Event()

        def ask() -> tuple[list[int], Drawn]:  # tokenising a long prompt would hold up the event loop
            ids = prompt_after(self.template, messages, after, self._end_ids).ids
            wanted = call.sampling.max_new_tokens or self.max_new_tokens
            room, ends = room_in(self._server.context, len(ids), wanted), frozenset(self._end_ids)
            return ids, self._server.draw(ids, call.sampling, room, end_ids=ends, tell=tell, gone=gone)

        try:
            ids, drawn = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except asyncio.CancelledError:
            gone.set()  # a stream is closed at its next token, and the server leaves it
            raise
        generation = self._generation(drawn, ids, call.sampling, conversation_after(after, messages))
        call.finish(generation)
        return generation

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many token ids the model is shown of `messages`."""
        return count_tokens(self.template, messages)

    def close(self) -> None:
        """End the connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _generation(
        self, drawn: Drawn, prompt_ids: list[int], sampling: Sampling, messages: list[Message]
    ) -> Generation:
        if drawn.end_id is not None:
            self._end_ids.add(drawn.end_id)
        known = self._processed or sampling.temperature in (0.0, 1.0)
        written = drawn.ids[:-1] if drawn.ids and drawn.ids[-1] in self._end_ids else drawn.ids
        return Generation(
            text=before_stop(self._text(written), sampling.stop),
            messages=messages,
            prompt_ids=prompt_ids,
            completion_ids=drawn.ids,
            logprobs=drawn.logprobs if known else [],
            finish_reason="length" if drawn.cut_off else "stop",
        )


def _behind(url: str, model: str, options: dict[str, Any]) -> str | None:
    """The model behind the name that a server serves it by; None where the server does not say."""
    server = VLLMServer(url, model, api_key=options.get("api_key"), transport=options.get("transport"))
    try:
        return server.root
    except PolicyError:  # not there (yet): the first call will say so
        return None
    finally:
        server.close()


def _end_ids(name: str) -> list[int]:
    """The tokens that end a turn by the generation config of the model called `name`; none without one."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(name).eos_token_id
    except (OSError, ValueError):
        return []
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
