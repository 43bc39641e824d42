"""Models that cannot be had: told at once, with what to do."""

import socket
from typing import Any

import pytest

from selfcorrect.agents.policies import pretrained
from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer, load_tokenizer, weightless
from selfcorrect.errors import PolicyError


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "getproxies", dict)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("load", [load_tokenizer, weightless, lambda name: load_model_and_tokenizer(name, "auto")])
def test_without_a_way_to_the_hub_a_missing_model_is_told_after_one_knock(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocks: list[Any] = []

    def nobody(address: Any, timeout: float) -> socket.socket:
        knocks.append((address, timeout))
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", nobody)
    with pytest.raises(PolicyError, match="cannot be reached from here .*copy the model onto this machine and give"):
        load("somebody/their-model")
    assert knocks == [(("huggingface.co", 443), 3.0)]


@pytest.mark.usefixtures("no_cache")
def test_a_gated_or_misspelt_model_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_refuse_unreachable", lambda name: None)

    def gated(name: str) -> Any:
        raise OSError("You are trying to access a gated repo")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", gated)
    with pytest.raises(PolicyError, match="gated repo. Is the name right.*`hf auth login` first; or give a folder"):
        load_tokenizer("meta-llama/Llama-3.2-1B")


@pytest.mark.usefixtures("no_cache")
def test_what_is_no_name_of_the_hub_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(PolicyError, match="neither a folder nor a name of the Hugging Face Hub"):
        load_tokenizer("my model!")
