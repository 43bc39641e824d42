"""A policy behind a vLLM server, or any OpenAI-compatible server that takes and returns token ids."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Self

import httpx

from selfcorrect.agents.listening import Tell, listener
from selfcorrect.agents.policies.rendering import (
    TemplateName,
    before_stop,
    choose_template,
    conversation_after,
    count_tokens,
    prompt_after,
)
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError

_SECONDS = 600.0
_NEUTRAL = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
"""What a server would take from the model's generation_config if it were not told: a bent distribution, whose
log-probabilities are not the model's."""


class VLLMPolicy:
    """Writes turns with a model that a server holds, token for token as `TransformersPolicy` would show and record
    them.

    Prompts are sent as ids to `/completions` and ids come back, so later turns are appended, never tokenised again. The
    server batches concurrent episodes by itself. Its weights are its own: this policy is for evaluation, data, search
    and applications. Training plays its episodes with the policy in its own process.

    Args:
        url: of the server's API, such as "http://localhost:8000/v1".
        model: its name there.
        tokenizer: the model's tokenizer, which renders the messages.
        template: as for `TransformersPolicy`.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        api_key: sent as a bearer token.
        processed_logprobs: whether the server was started with `--logprobs-mode processed_logprobs`. Without it, it
            reports log-probabilities before the temperature; draws at other temperatures than 0 and 1 are then recorded
            without any.
        concurrency: requests at a time.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url, self.model, self.tokenizer = url.rstrip("/"), model, tokenizer
        self.max_new_tokens = max_new_tokens
        self._processed = processed_logprobs
        self.template = choose_template(tokenizer, template)
        self._eos_ids = [tokenizer.eos_token_id]
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=concurrency)
        self._client = httpx.Client(
            timeout=_SECONDS,
            headers=headers,
            limits=limits,
            transport=transport or httpx.HTTPTransport(retries=2, limits=limits),
        )
        # Threads, not an asynchronous client: that would belong to one event loop, and graphs are run in many.
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="selfcorrect-vllm")

    @classmethod
    def from_pretrained(cls, url: str, model: str, *, tokenizer: str | None = None, **options: Any) -> Self:
        """With the tokenizer of `tokenizer`, a folder or Hugging Face id; None takes the model's name.

        Raises:
            PolicyError: it cannot be loaded.
        """
        from transformers import AutoTokenizer

        try:
            return cls(url, model, AutoTokenizer.from_pretrained(tokenizer or model), **options)
        except (OSError, ValueError) as error:
            raise PolicyError(f"cannot load the tokenizer {tokenizer or model!r}: {error}") from error

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """See `Policy.generate`.

        Raises:
            PolicyError: the server cannot be reached, refuses, or does not return token ids.
        """
        call = begin_call(self, messages, sampling, after=after)
        tell, gone = listener(self._text), Event()

        def ask() -> tuple[list[int], dict[str, Any]]:  # tokenising a long prompt would hold up the event loop
            ids = prompt_after(self.template, messages, after, self._eos_ids).ids
            return ids, self._ask(ids, call.sampling, tell, gone)

        try:
            ids, choice = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except asyncio.CancelledError:
            gone.set()  # a stream is closed at its next token, and the server leaves it
            raise
        generation = self._generation(choice, ids, call.sampling, conversation_after(after, messages))
        call.finish(generation)
        return generation

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many token ids the model is shown of `messages`."""
        return count_tokens(self.template, messages)

    def close(self) -> None:
        """End the connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, prompt_ids: list[int], sampling: Sampling, tell: Tell | None, gone: Event) -> dict[str, Any]:
        body = self._body(prompt_ids, sampling)
        try:
            if tell is not None:
                return self._streamed({**body, "stream": True}, tell, gone)
            answer = self._client.post(f"{self.url}/completions", json=body)
            answer.raise_for_status()
            choice: dict[str, Any] = answer.json()["choices"][0]
        except httpx.HTTPStatusError as error:
            said = " ".join(error.response.text.split())[:500]
            raise PolicyError(f"{self.url} refused the request ({error.response.status_code}): {said}") from error
        except httpx.HTTPError as error:
            raise PolicyError(f"no answer from {self.url}: {type(error).__name__}: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise PolicyError(f"{self.url} answered something that is no completion") from error
        return choice

    def _streamed(self, body: dict[str, Any], tell: Tell, gone: Event) -> dict[str, Any]:
        """The whole choice, whose ids are told as they come."""
        ids: list[int] = []
        logprobs: list[float] = []
        reason = None
        with self._client.stream("POST", f"{self.url}/completions", json=body) as answer:
            if answer.is_error:
                answer.read()
                answer.raise_for_status()
            for line in answer.iter_lines():
                if gone.is_set():
                    break
                if not line.startswith("data:") or line.removeprefix("data:").strip() == "[DONE]":
                    continue
                event = json.loads(line.removeprefix("data:"))
                if "error" in event:
                    raise PolicyError(f"{self.url} failed within its stream: {str(event['error'])[:500]}")
                for choice in event["choices"]:
                    new = choice["token_ids"] or []
                    ids += new
                    logprobs += (choice.get("logprobs") or {}).get("token_logprobs") or []
                    reason = choice.get("finish_reason") or reason
                    for token in new:
                        if token not in self._eos_ids:
                            tell(token)
        return {"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": reason}

    def _body(self, prompt_ids: list[int], sampling: Sampling) -> dict[str, Any]:
        body = {
            "model": self.model,
            "prompt": prompt_ids,
            "max_tokens": sampling.max_new_tokens or self.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **_NEUTRAL,
            "logprobs": 1,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.json_schema is not None:
            body["structured_outputs"] = {"json": json.loads(sampling.json_schema)}
        return body

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _generation(
        self, choice: dict[str, Any], prompt_ids: list[int], sampling: Sampling, messages: list[Message]
    ) -> Generation:
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(ids, list) or not isinstance(logprobs, list) or len(ids) != len(logprobs):
            raise PolicyError(
                f"{self.url} did not return the ids and log-probabilities of what it drew; it takes a server that "
                "knows `return_token_ids`, such as vLLM 0.10.2 or later"
            )
        known = self._processed or sampling.temperature in (0.0, 1.0)
        written = ids[:-1] if ids and ids[-1] in self._eos_ids else ids
        return Generation(
            text=before_stop(self._text(written), sampling.stop),
            messages=messages,
            prompt_ids=prompt_ids,
            completion_ids=ids,
            logprobs=[float(value) for value in logprobs] if known else [],
            finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
        )
