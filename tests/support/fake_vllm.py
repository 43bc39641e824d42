"""A server that speaks vLLM's protocol and holds a small model: for tests of those who ask it, and of those who give it
other weights."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import httpx
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

_reading = Lock()
"""transformers exchanges functions of its own and of torch while it reads a model: not in two threads at once."""


@contextmanager
def over_http(fake: "FakeVLLM") -> Iterator[str]:
    """The address of the API of `fake`, for other processes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = fake.handle_request(httpx.Request(self.command, f"http://server{self.path}", content=given))
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


class FakeVLLM(httpx.BaseTransport):
    """Decodes one token at a time, and answers as vLLM 0.32 does with `return_token_ids`.

    Args:
        cards: what `/v1/models` lists; None is a server that knows no such address.
        ends: tokens that end a turn by its own generation config, besides the tokenizer's.
        takes: what weights it takes: "adapters" (VLLM_ALLOW_RUNTIME_LORA_UPDATING), "weights" (VLLM_SERVER_DEV_MODE).
        off_by: nats by which its log-probabilities are off.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        cards: list[dict[str, Any]] | None = None,
        ends: Sequence[int] = (),
        *,
        takes: Sequence[str] = (),
        off_by: float = 0.0,
    ) -> None:
        self.model, self.tokenizer, self.cards = model, tokenizer, cards
        self.ends = {tokenizer.eos_token_id, *ends}
        self.off_by = off_by
        self.asked: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.keys: set[str | None] = set()
        self.adapters: dict[str, Any] = {}
        self._places: dict[str, Callable[[dict[str, Any]], httpx.Response]] = {"/v1/completions": self._completion}
        if "adapters" in takes:
            self._places |= {"/v1/load_lora_adapter": self._load, "/v1/unload_lora_adapter": self._unload}
        if "weights" in takes:
            self._places |= {"/collective_rpc": self._reload, "/reset_prefix_cache": lambda body: httpx.Response(200)}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.add(request.headers.get("Authorization"))
        path = request.url.path
        if path == "/v1/models":
            return httpx.Response(404) if self.cards is None else httpx.Response(200, json={"data": self.cards})
        if path not in self._places:
            return httpx.Response(404, json={"detail": "Not Found"})
        self.told.append(path)
        return self._places[path](json.loads(request.read()))

    # Completions.

    def _completion(self, body: dict[str, Any]) -> httpx.Response:
        self.asked.append(body)
        if body["model"].startswith("selfcorrect-") and body["model"] not in self.adapters:
            return httpx.Response(404, text=f"The model `{body['model']}` does not exist.")
        drawn, logprobs = self._drawn(self.adapters.get(body["model"], self.model), body)
        ended = drawn[-1] in {*self.ends, *body.get("stop_token_ids", [])}
        end = {
            "finish_reason": "stop" if ended else "length",
            "stop_reason": drawn[-1] if ended and drawn[-1] != self.tokenizer.eos_token_id else None,
        }
        if body.get("stream"):
            return self._streamed(drawn, logprobs, end)
        choice = {"text": "not looked at", "token_ids": drawn, "logprobs": {"token_logprobs": logprobs}, **end}
        return httpx.Response(200, json={"choices": [choice]})

    def _drawn(self, model: Any, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        prompt, ends = body["prompt"], {*self.ends, *body.get("stop_token_ids", [])}
        ids, logprobs = list(prompt), list[float]()
        dice = torch.Generator().manual_seed(body.get("seed", 0) % 2**63)
        while len(logprobs) < body["max_tokens"] and (not logprobs or ids[-1] not in ends):
            with torch.no_grad():
                last = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            greedy = body["temperature"] == 0
            token = int(last.argmax() if greedy else torch.multinomial(last.exp(), 1, generator=dice))
            ids.append(token)
            logprobs.append(float(last[token]) + self.off_by)
        return ids[len(prompt) :], logprobs

    def _streamed(self, drawn: list[int], logprobs: list[float], end: dict[str, Any]) -> httpx.Response:
        """A token an event, as vLLM streams; the last says why it is the last."""
        choices: list[dict[str, Any]] = [
            {"text": "not looked at", "token_ids": [token], "logprobs": {"token_logprobs": [logprob]}}
            | {"finish_reason": None, "stop_reason": None}
            for token, logprob in zip(drawn, logprobs, strict=True)
        ]
        choices[-1] |= end
        events = [json.dumps({"choices": [choice]}) for choice in choices] + ['{"choices": []}', "[DONE]"]
        return httpx.Response(200, text="".join(f"data: {event}\n\n" for event in events))

    # Other weights.

    def _load(self, body: dict[str, Any]) -> httpx.Response:
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters:
            return httpx.Response(400, text=f"The lora adapter '{name}' has already been loaded.")
        with _reading:
            self.adapters[name] = PeftModel.from_pretrained(copy.deepcopy(self.model), path).eval()
        return httpx.Response(200, text="Success")

    def _unload(self, body: dict[str, Any]) -> httpx.Response:
        if self.adapters.pop(body["lora_name"], None) is None:
            return httpx.Response(404, text=f"The lora adapter '{body['lora_name']}' cannot be found.")
        return httpx.Response(200, text="Success")

    def _reload(self, body: dict[str, Any]) -> httpx.Response:
        assert body["method"] == "reload_weights"
        with _reading:
            self.model = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"]).eval()
        return httpx.Response(200, json={"results": [None]})
