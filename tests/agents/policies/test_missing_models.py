"""Models that cannot be had: told at once, with what to do."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcorrect.agents.policies import pretrained
from selfcorrect.agents.policies.pretrained import embedded_folder, load_model_and_tokenizer, load_tokenizer, weightless
from selfcorrect.errors import PolicyError
from selfcorrect.tasks import tables


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(tables, "getproxies", dict)
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


@pytest.mark.parametrize("dtype", ["auto", torch.float32, torch.bfloat16])
def test_weights_that_are_larger_than_the_free_memory_are_told_before_they_are_loaded(
    dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    for part in (1, 2):
        (tmp_path / f"model-{part}-of-2.safetensors").write_bytes(b"0" * 500)
    doubled = dtype is torch.float32
    needed = 2000 if doubled else 1000
    for place in ("cpu", "meta"):  # meta stands for an accelerator
        free = {"cpu": 10**9, "meta": 10**9, place: needed - 1}
        monkeypatch.setattr(pretrained, "free_bytes", lambda device, free=free: free[device.type])
        with pytest.raises(PolicyError, match=f"need 0.0 GB, and 0.0 GB are free on {place}: take a smaller") as told:
            load_model_and_tokenizer(tmp_path, dtype, meant_for=torch.device(place))
        assert ("the dtype it was saved in" in str(told.value)) is doubled
    monkeypatch.setattr(pretrained, "free_bytes", lambda device: needed)
    with pytest.raises(PolicyError, match="cannot load model and tokenizer"):  # it is loaded, and torn
        load_model_and_tokenizer(tmp_path, dtype)


def test_weights_that_are_cut_off_are_told(tmp_path: Path) -> None:
    shutil.copytree(embedded_folder(), tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PolicyError, match="cannot load model and tokenizer from '.*torn': .*not fully covered"):
        load_model_and_tokenizer(tmp_path / "torn", "auto")


@pytest.mark.usefixtures("no_cache")
def test_what_is_no_name_of_the_hub_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(PolicyError, match="neither a folder nor a name of the Hugging Face Hub"):
        load_tokenizer("my model!")
