"""A vLLM server, or another that speaks OpenAI's protocol and takes and returns token ids: what it is asked, what it
tells of itself, and how it is given other weights."""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from selfcorrect.agents.listening import Tell
from selfcorrect.agents.policy import Sampling
from selfcorrect.errors import PolicyError

_SECONDS = 600.0
_NEUTRAL = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
"""What a server would take from the model's generation_config if it were not told: a bent distribution, whose
log-probabilities are not the model's."""
_KEY = "VLLM_API_KEY"
"""The environment variable that vLLM's own `--api-key` may stand in."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a server drew.

    Attributes:
        ids: of its tokens, the one that ended it included.
        logprobs: of each of them.
        cut_off: whether the token limit ended it.
        end_id: the token that ended the turn, where the server says that one did.
    """

    ids: list[int]
    logprobs: list[float]
    cut_off: bool
    end_id: int | None


class VLLMServer:
    """The completions of one server.

    Args:
        url: of its API, such as "http://localhost:8000/v1".
        model: its name there; None is the first one that the server serves.
        api_key: sent as a bearer token; None is that of the environment variable VLLM_API_KEY, if there is one.
        concurrency: requests at a time.
        max_model_length: the most tokens of a prompt with its completion; None is what the server tells.
        transport: of httpx, for proxies and tests.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 128,
        max_model_length: int | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url, self._model, self._longest = url.rstrip("/"), model, max_model_length
        key = api_key or os.environ.get(_KEY)
        limits = httpx.Limits(max_connections=concurrency)
        self._client = httpx.Client(
            timeout=_SECONDS,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            limits=limits,
            transport=transport or httpx.HTTPTransport(retries=2, limits=limits),
        )

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    # What the server tells of itself.

    @cached_property
    def _listed(self) -> list[dict[str, Any]]:
        """The models it says that it serves; none where it does not say so."""
        try:
            answer = self._client.get(f"{self.url}/models")
            listed = answer.json()["data"] if answer.is_success else []
            return [card for card in listed if isinstance(card.get("id"), str)]
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, LookupError, TypeError, AttributeError):
            return []

    @cached_property
    def model(self) -> str:
        """The model's name there.

        Raises:
            PolicyError: the server serves no model of that name, or none at all.
        """
        names = [card["id"] for card in self._listed]
        if self._model is None:
            if not names:
                raise PolicyError(f"{self.url} does not say which models it serves: name one")
            return str(names[0])
        if names and self._model not in names:
            raise PolicyError(f"{self.url} serves {', '.join(names)}, and no model {self._model!r}")
        return self._model

    @cached_property
    def _card(self) -> dict[str, Any]:
        return next((card for card in self._listed if card["id"] == self.model), {})

    @property
    def root(self) -> str | None:
        """The folder or Hugging Face id of the model behind a name it is served by; None where it is not told."""
        root = self._card.get("root")
        return root if isinstance(root, str) and root else None

    @property
    def context(self) -> int | None:
        """The most tokens of a prompt with its completion; None where nobody says."""
        if self._longest is not None:
            return self._longest
        told = self._card.get("max_model_len")
        return told if isinstance(told, int) else None

    # What it draws.

    def draw(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        *,
        end_ids: Collection[int] = (),
        model: str | None = None,
        tell: Tell | None = None,
        gone: Event | None = None,
    ) -> Drawn:
        """One completion.

        Args:
            prompt_ids: what the model is shown.
            sampling: how to draw; its `max_new_tokens` is not looked at.
            max_new_tokens: at most so many.
            end_ids: tokens that end a turn, besides those that the server knows.
            model: the name of weights of their own, such as an adapter's; None is `self.model`.
            tell: told each token as it is drawn.
            gone: once set, a stream is left at its next token.

        Raises:
            PolicyError: the server cannot be reached, refuses, or does not return ids and log-probabilities.
        """
        body = _body(model or self.model, prompt_ids, sampling, max_new_tokens, end_ids)
        if tell is not None:
            choice = self._asked(lambda: self._streamed({**body, "stream": True}, tell, gone or Event(), end_ids))
        else:
            choice = self._asked(lambda: _first_choice(self._post("completions", body)))
        return self._drawn(choice)

    def _drawn(self, choice: dict[str, Any]) -> Drawn:
        ids: Any = choice.get("token_ids")
        logprobs: Any = (choice.get("logprobs") or {}).get("token_logprobs")
        has_ids, has_logprobs = isinstance(ids, list), isinstance(logprobs, list) and None not in logprobs
        if not (has_ids and has_logprobs and len(ids) == len(logprobs)):
            kinds = (("token ids", has_ids), ("log-probabilities", has_logprobs))
            lacking = " and no ".join(kind for kind, there in kinds if not there)
            raise PolicyError(
                f"{self.url} returned no {lacking or 'log-probability for each token id'} of what it drew, without "
                "which nothing can be trained or scored; it takes a server that knows `return_token_ids`, such as vLLM "
                "0.10.2 or later. What only speaks OpenAI's protocol (Ollama, llama.cpp, `transformers serve`) is for "
                "evaluation: --model openai:NAME, with its address in OPENAI_BASE_URL"
            )
        end_id = ids[-1] if ids and _ended_by_token(choice) else None
        return Drawn(ids, [float(value) for value in logprobs], choice.get("finish_reason") == "length", end_id)

    def _streamed(self, body: dict[str, Any], tell: Tell, gone: Event, end_ids: Collection[int]) -> dict[str, Any]:
        """The whole choice, whose ids are told as they come."""
        ids: list[int] = []
        logprobs: list[float] = []
        last: dict[str, Any] = {}
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
                    if choice.get("finish_reason"):
                        last = {name: choice[name] for name in ("finish_reason", "stop_reason") if name in choice}
                    for token in new[:-1] if _ended_by_token(choice) else new:
                        if token not in end_ids:
                            tell(token)
        return {"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, **last}

    # Other weights.

    def load_adapter(self, name: str, folder: Path) -> None:
        """Serve the LoRA adapter in `folder`, which the server sees under the same path, under `name` too.

        Raises:
            PolicyError: the server does not take adapters, or not this one.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        self._told("load_lora_adapter", body, "already been loaded", needs=_TAKES_ADAPTERS)

    def unload_adapter(self, name: str) -> None:
        """Serve it no more. One that is not there is no fault."""
        self._told("unload_lora_adapter", {"lora_name": name}, "cannot be found", needs=_TAKES_ADAPTERS)

    def load_weights(self, folder: Path) -> None:
        """Replace all weights by those of the model in `folder`, which the server sees under the same path; what is
        being drawn meanwhile is of neither.

        Raises:
            PolicyError: the server does not take weights, or not these.
        """
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        self._told("/collective_rpc", body, needs=_TAKES_WEIGHTS)
        self._told("/reset_prefix_cache", {}, needs=_TAKES_WEIGHTS)  # keys and values of the old weights

    def _told(self, place: str, body: dict[str, Any], fine: str | None = None, *, needs: str) -> None:
        """Post where no completion comes back; a refusal that has the words `fine` in it is none."""
        try:
            self._asked(lambda: self._post(place, body))
        except PolicyError as error:
            if fine is not None and fine in str(error):
                return
            raise PolicyError(f"{error}. {needs}") from error

    # HTTP.

    def _post(self, place: str, body: dict[str, Any]) -> httpx.Response:
        """`place` is below the API, or with a slash below the server."""
        root = self.url.removesuffix("/v1")
        answer = self._client.post(f"{root}{place}" if place.startswith("/") else f"{self.url}/{place}", json=body)
        answer.raise_for_status()
        return answer

    def _asked(self, ask: Any) -> Any:
        """What `ask` returns; its faults in words."""
        try:
            return ask()
        except httpx.HTTPStatusError as error:
            said = " ".join(error.response.text.split())[:500]
            raise PolicyError(f"{self.url} refused the request ({error.response.status_code}): {said}") from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, LookupError, TypeError) as error:
            raise PolicyError(f"{self.url} answered something that is no completion") from error

    def _unreachable(self, error: httpx.HTTPError) -> PolicyError:
        return PolicyError(f"no answer from {self.url}: {type(error).__name__}: {error}")


_TAKES_ADAPTERS = (
    "Adapters are swapped on a server that was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment "
    "and with --enable-lora --max-lora-rank R, R at least policy.lora.rank"
)
_TAKES_WEIGHTS = (
    "All weights are replaced on a server that was started with VLLM_SERVER_DEV_MODE=1 in its environment (on a "
    "network that nobody else is on: whoever reaches it can do the same)"
)


def _ended_by_token(choice: dict[str, Any]) -> bool:
    """Whether the last token ended the turn; vLLM names the text where one did, other servers say nothing."""
    by_text = isinstance(choice.get("stop_reason", ""), str)
    return choice.get("finish_reason") == "stop" and not by_text


def _first_choice(answer: httpx.Response) -> dict[str, Any]:
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def _body(
    model: str, prompt_ids: Sequence[int], sampling: Sampling, max_new_tokens: int, end_ids: Collection[int]
) -> dict[str, Any]:
    body = {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        **_NEUTRAL,
        "logprobs": 1,
        "return_token_ids": True,
        "skip_special_tokens": False,
    }
    if end_ids:
        body["stop_token_ids"] = sorted(end_ids)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.json_schema is not None:
        body["structured_outputs"] = {"json": json.loads(sampling.json_schema)}
    return body
