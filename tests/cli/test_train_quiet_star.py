"""`selfcorrect train quiet-star` as typed."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from quiet_models import thinker
    from transformers import AutoModelForCausalLM

    from selfcorrect.training.pretraining.second_looks import make_tokenizer

    tokenizer, folder = make_tokenizer(), tmp_path / "plain"
    lm = thinker(tokens=1).lm
    lm.resize_token_embeddings(len(tokenizer))
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == len(tokenizer)
    return folder


SMALL = ["--set", "steps=2", "--set", "evaluation_texts=4", "--set", "optimiser.texts=2"]


@pytest.mark.slow
def test_it_trains_and_tells_what_came_of_it(run: Any, run_json: Any, model: Path, tmp_path: Path) -> None:
    arguments = ["train", "quiet-star", "--model", model, "--tokens", 2, *SMALL]
    done = run(*arguments, "--out", tmp_path / "run")
    assert done.status == 0 and "NLL with thoughts" in done.stdout and "answers right with thoughts" in done.stdout
    assert "gain of thinking" in done.stderr and "step 2/2" in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    told = run_json("train", "quiet-star", "--resume", tmp_path / "run")
    assert told["after"]["answer_n"] == 4


def test_errors_are_told_in_words(run: Any, model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    done = run("train", "quiet-star", "--model", model, "--text", empty, "--out", tmp_path / "run")
    assert done.status == 1 and "is empty" in done.stderr
    done = run("train", "quiet-star", "--resume", tmp_path / "run", "--tokens", 3)
    assert done.status == 2 and "leave --config, --out, --text" in done.stderr
    done = run("train", "quiet-star", "--set", "thought.kind=loud")
    assert done.status == 2 and "thought.kind" in done.stderr
