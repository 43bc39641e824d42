"""A chat model and a data set of one's own, by the command line alone: code and mathematics, trained for a step."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small_models import byte_chat_model

pytestmark = pytest.mark.slow

FEW = [
    part
    for setting in (
        "policy.max_new_tokens=8",
        "score.stage_one_steps=1",
        "score.stage_two_steps=1",
        "optimiser.problems_per_step=2",
        "optimiser.episodes_per_problem=2",
        "optimiser.minibatches=1",
        "optimiser.gradient_accumulation=1",
        "optimiser.ppo_epochs=1",
        "evaluation.problems=2",
        "evaluation.every=0",
    )
    for part in ("--set", setting)
]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_chat_model(tmp_path_factory.mktemp("models") / "my-model")


@pytest.fixture
def mbpp(tmp_path: Path) -> Path:
    rows = [
        {
            "text": f"Write a function to add {number}.",
            "code": f"def add(a):\n    return a + {number}",
            "task_id": task,
            "test_setup_code": "",
            "test_list": [f"assert add(1) == {number + 1}"],
            "challenge_test_list": [],
        }
        for number, task in enumerate([*range(11, 17), *range(601, 611)])
    ]
    path = tmp_path / "mbpp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.skipif("SELFCORRECT_MBPP" not in os.environ, reason="SELFCORRECT_MBPP names the published mbpp.jsonl")
def test_the_published_mbpp_trains_from_the_command_line(run: Any, chat_model: Path, tmp_path: Path) -> None:
    out, task = tmp_path / "run", f"mbpp:{os.environ['SELFCORRECT_MBPP']}"
    done = run("train", "score", "--model", chat_model, "--task", task, "--prompts", "code", "--out", out, *FEW)
    assert done.status == 0, done.stderr
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2 and all(step["unjudged"] == 0 for step in steps)


@pytest.mark.parametrize(
    ("arm", "own"),
    [
        (["score"], []),
        (["sft"], ["sft.problems=8", "sft.steps=3", "sft.batch_size=4", "policy.max_new_tokens=200"]),
    ],
    ids=["score", "sft"],
)
def test_a_file_in_the_format_of_gsm8k_trains_for_some_steps_and_is_reported(
    arm: list[str], own: list[str], run: Any, chat_model: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "question": f"Tom has {n} bags of 2 apples. How many apples?",
            "answer": f"{n}*2=<<{n}*2={2 * n}>>{2 * n}\n#### {2 * n}",
        }
        for n in range(1, 41)
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = [setting for setting in FEW[1::2] if arm == ["score"] or setting.startswith(("policy.", "evaluation."))]
    out, chosen = tmp_path / "run", [part for setting in few + own for part in ("--set", setting)]
    done = run(
        "train", *arm, "--model", chat_model, "--task", f"gsm8k:{path}", "--out", out, *chosen,
        "--report-to", "tensorboard",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == (2 if arm == ["score"] else 1)
    assert list(out.glob("**/tensorboard/events.*"))
    if arm == ["sft"]:
        assert steps[0]["examples/gold"] == 8 and steps[0]["sft_loss"] > 0


def test_a_service_that_is_unknown_ends_the_command_in_words(run: Any, chat_model: Path, tmp_path: Path) -> None:
    done = run("train", "score", "--model", chat_model, "--out", tmp_path / "run", "--report-to", "tensorboard,paper")
    assert done.status == 2 and "report_to: expected 'tensorboard', 'trackio'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_code_trains_from_the_command_line(run: Any, chat_model: Path, mbpp: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(
        "train", "score", "--model", chat_model, "--task", f"mbpp:{mbpp}", "--prompts", "code", "--out", out, *FEW
    )
    assert done.status == 0, done.stderr
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [step["stage"] for step in steps] == [1, 2] and all(step["unjudged"] == 0 for step in steps)
    episode = json.loads((out / "episodes.jsonl").read_text().splitlines()[0])
    assert episode["reference"]["kind"] == "asserts" and episode["turns"][0]["reason"].startswith("passed 0 of 1 tests")
    tokenizer = json.loads((out / "model" / "tokenizer_config.json").read_text())
    assert tokenizer["selfcorrect_prompts"]["attempt"].startswith("You are an expert Python programmer")


def test_a_file_of_ones_own_trains_and_is_evaluated(run: Any, run_json: Any, chat_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "problems.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n} + {n}?", "gold": 2 * n}) + "\n" for n in range(60)))
    task = ["--task", rows, "--map", "question=prompt,gold=answer"]
    out = tmp_path / "run"
    done = run("train", "score", "--model", chat_model, *task, "--out", out, "--set", "task.test_share=0.2", *FEW)
    assert done.status == 0, done.stderr
    figures = run_json("eval", "--model", out / "model", *task, "-n", "3")
    assert figures["accuracy_t1"] == 0.0 and figures["n"] == 3
    wrong = run("train", "score", "--model", chat_model, "--task", rows, "--out", tmp_path / "other", *FEW)
    assert "This would fit: --map question=prompt,gold=answer" in wrong.stderr and wrong.status == 1
