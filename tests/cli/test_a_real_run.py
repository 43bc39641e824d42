"""The whole loop from the command line: interrupted in a process of its own, resumed and used."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selfcorrect.cli.app import app

pytestmark = pytest.mark.slow

SMALL = [
    "score.stage_one_steps=6",
    "score.stage_two_steps=6",
    "optimiser.problems_per_step=4",
    "optimiser.episodes_per_problem=4",
    "evaluation.problems=20",
    "save_every=3",
]
STEPS = 12
PATIENCE = 300
"""Seconds after which a hanging process fails the test."""


def environment() -> dict[str, str]:
    # One thread each: the model is small, and tests may run side by side.
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def wait_for_steps(log: Path, count: int, process: subprocess.Popen[str]) -> None:
    for _ in range(PATIENCE * 10):
        if log.exists() and log.read_text().count("\n") >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"no {count} steps in {PATIENCE} seconds")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, warm_python: str) -> Path:
    """A demo that was stopped by Ctrl-C after two steps and then resumed to its end."""
    out = tmp_path_factory.mktemp("demo") / "run"
    changes = [part for name in SMALL for part in ("--set", name)]
    process = subprocess.Popen(
        [warm_python, "-m", "selfcorrect", "demo", "--out", str(out), *changes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for_steps(out / "metrics.jsonl", 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert f"selfcorrect demo --resume {out}" in said
    assert "Traceback" not in said
    resumed = CliRunner().invoke(app, ["demo", "--resume", str(out), "--json"])
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["after"]["n"] == 20
    return out


def test_every_step_is_in_the_log_once_across_the_interruption(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["stage"] for row in rows] == [1] * 6 + [2] * 6


def test_every_step_has_its_episodes_once_with_what_each_token_earned(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "training_episodes.jsonl").read_text().splitlines()]
    assert Counter(row["step"] for row in rows) == dict.fromkeys(range(1, STEPS + 1), 4)
    for turn in (turn for row in rows for turn in row["turns"]):
        tokens = turn["tokens"]
        assert len(tokens["ids"]) == len(tokens["pieces"]) == len(tokens["logprobs"]) == len(tokens["advantages"])
        assert turn["node"] in ("attempt", "revise") and turn["verdict"] in ("correct", "wrong", "unreadable")
        assert "".join(tokens["pieces"]).removesuffix(" <eos>").strip() == turn["text"].strip()
    assert any(any(turn["tokens"]["advantages"]) for row in rows for turn in row["turns"])


def test_the_folder_holds_all_that_it_promises(finished: Path) -> None:
    final = json.loads((finished / "metrics.json").read_text())
    names = {
        "n",
        "accuracy_t1",
        "accuracy_t2",
        "delta",
        "delta_ci95",
        "i_to_c",
        "c_to_i",
        "unchanged",
        "tokens_per_turn",
    }
    assert names <= set(final["before"]) and names <= set(final["after"])
    episodes = [json.loads(line) for line in (finished / "episodes.jsonl").read_text().splitlines()]
    assert {row["policy"] for row in episodes} == {"before", "after"}
    report = (finished / "report.html").read_text()
    assert "Before and after" in report and "<script" not in report


def test_the_trained_model_loads_with_transformers_alone(finished: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    ids = AutoTokenizer.from_pretrained(finished / "model")("3 5 7 9 get 56 :", return_tensors="pt")["input_ids"]
    assert model.generate(ids, max_new_tokens=5, do_sample=False).shape[1] > ids.shape[1]


def test_the_trained_model_solves_as_the_embedded_one_does(finished: Path, run_json: Any) -> None:
    solved = run_json("solve", "3 5 7 9 get 56", "--model", finished / "model")
    assert [turn["role"] for turn in solved["turns"]] == ["attempt", "revise"]
