"""Runs shared on the Hub: against a server of ours that answers as the Hub does; nothing leaves the machine."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from safetensors.torch import load
from small_models import llama, word_tokenizer
from typer.testing import CliRunner

from selfcorrect.cli.app import app
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.runs.sharing import push_to_hub, shared_files

BASE = "someone/base-0.1b"


class Hub:
    """Keeps what was created and committed."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": "https://huggingface.co/me/corrector", "id": "me/corrector"}
        if path.startswith("/api/validate-yaml"):
            return {"errors": [], "warnings": []}
        if path == "/api/models/me/corrector/preupload/main":
            asked = json.loads(body)["files"]
            return {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
        assert path == "/api/models/me/corrector/commit/main", path
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                assert line["value"]["encoding"] == "base64"
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": "https://huggingface.co/me/corrector/commit/abc", "commitOid": "abc", "success": True}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, HfApi]]:
    """A hub on this machine, and a client of Hugging Face's that knows no other."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # this one is never out of reach
    kept = Hub()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.tokens.add(self.headers.get("Authorization"))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = json.dumps(kept.answer(self.path.partition("?")[0], body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_secret")
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of `train` whose adapter was trained on a base with a name on the Hub."""
    torch.manual_seed(0)
    model = get_peft_model(llama(8), LoraConfig(r=2, target_modules=["q_proj"]))
    folder = tmp_path / "run"
    model.save_pretrained(folder / "adapter")
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": BASE}))
    word_tokenizer(["a", "b"]).save_pretrained(folder / "adapter")
    for private in ("optimizer.pt", "training_args.bin", "notes.txt"):
        (folder / "adapter" / private).write_bytes(b"mine")
    figures = {"reward/write_1": 0.5, "n": 40.0}, {"reward/write_1": 0.75, "n": 40.0}
    final = {"before": figures[0], "after": figures[1], "budget": {"generated_tokens": 10, "optimiser_steps": 2}}
    (folder / "metrics.json").write_text(json.dumps(final), encoding="utf-8")
    return folder


def head_of(card: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return read


def test_an_adapter_goes_up_in_one_commit_with_its_card_and_nothing_else(run: Path, hub: tuple[Hub, HfApi]) -> None:
    kept, api = hub
    assert push_to_hub(run, "me/corrector", api=api) == "https://huggingface.co/me/corrector/commit/abc"
    assert kept.tokens == {"Bearer hf_secret"}
    (created,) = kept.created
    assert created["name"] == "corrector" and created.get("private") is not False
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= set(kept.files) <= names | {"special_tokens_map.json"}
    weights = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert kept.files["adapter_model.safetensors"] == weights and load(weights)
    card = kept.files["README.md"].decode()
    assert head_of(card) == {
        "library_name": "peft", "base_model": BASE, "pipeline_tag": "text-generation", "tags": ["selfcorrect"]
    }  # fmt: skip
    assert "| write_1 | 0.500 | 0.750 |" in card and "40 held-out problems" in card and "More Information" not in card


def test_a_card_says_what_was_not_measured_and_what_is_not_better(run: Path) -> None:
    final = json.loads((run / "metrics.json").read_text())
    for after, said in ((final["before"], "not better"), ({}, "Nothing was measured")):
        before = final["before"] if after else {}
        (run / "metrics.json").write_text(json.dumps({**final, "before": before, "after": after}))
        assert said in str(shared_files(run, "me/corrector")["README.md"])


def test_the_command_tells_where_it_went(run: Path, hub: tuple[Hub, HfApi], monkeypatch: pytest.MonkeyPatch) -> None:
    kept, api = hub
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    done = CliRunner().invoke(app, ["push", str(run), "me/corrector", "--base", "other/name", "--public"])
    assert done.exit_code == 0, done.output
    assert "https://huggingface.co/me/corrector/commit/abc" in done.output
    assert json.loads(kept.files["adapter_config.json"])["base_model_name_or_path"] == "other/name"
    assert kept.created[0].get("private") in (False, None)


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (lambda run: None, {"repo": "corrector"}, "write OWNER/NAME"),
        (lambda run: shutil.rmtree(run / "adapter"), {}, "neither adapter/ nor model/"),
        (lambda run: None, {"whole": True}, "only an adapter"),
        (lambda run: (run / "adapter" / "adapter_model.safetensors").unlink(), {}, "no weights in safetensors"),
        (lambda run: None, {"base": "/home/me/model"}, "which nobody else can load"),
        (lambda run: (run / "metrics.json").unlink(), {}, "has not ended"),
    ],
)
def test_what_cannot_be_shared_is_told_before_anything_is_sent(
    spoil: Any, options: dict[str, Any], said: str, run: Path, hub: tuple[Hub, HfApi]
) -> None:
    kept, api = hub
    spoil(run)
    with pytest.raises(ConfigurationError, match=said):
        push_to_hub(run, **{"repo": "me/corrector", **options}, api=api)
    assert not kept.created and not kept.files
