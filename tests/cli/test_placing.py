"""`--device` and `--dtype`: everywhere where a model is opened, and told where they cannot be."""

from typing import Any

import pytest
import torch

COMMANDS = {
    "eval": ["eval", "-n", "1"],
    "solve": ["solve", "3 5 7 9 get 56"],
    "search": ["solve", "3 5 7 9 get 56", "--strategy", "majority", "--budget", "2"],
    "scale": ["scale", "-n", "1"],
    "serve": ["serve", "--port", "0"],
    "adapt": ["adapt", "--task", "countdown", "-n", "1"],
    "train score": ["train", "score"],
    "train star": ["train", "star"],
    "compare": ["compare", "--quick", "--arms", "base"],
}


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there_is_told(command: str, run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*COMMANDS[command], "--device", "cuda")
    assert done.status != 0 and "is not there" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["eval", "train score"])
def test_a_dtype_that_is_none_is_told(command: str, run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*COMMANDS[command], "--dtype", "int8")
    assert done.status == 2 and "int8" in done.stderr


def test_a_model_is_evaluated_in_the_dtype_that_was_asked_for(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfcorrect.agents.policies import transformers

    opened: list[Any] = []
    load = transformers.load_model_and_tokenizer
    monkeypatch.setattr(transformers, "load_model_and_tokenizer", lambda *given: opened.append(given) or load(*given))
    assert run("eval", "-n", "2", "--dtype", "bfloat16", "--json").status == 0
    assert opened[0][1] is torch.bfloat16


def test_models_that_run_elsewhere_are_not_placed(run: Any) -> None:
    done = run("solve", "what is 2 + 2", "--model", "openai:gpt-x", "--device", "cpu")
    assert done.status == 2 and "runs elsewhere" in done.stderr
