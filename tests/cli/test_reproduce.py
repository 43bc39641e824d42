"""`selfcorrect reproduce` from a recipe to its table, with a tiny random Qwen2 whose tokenizer has the real one's
shape: bytes, two marks that end a turn, a chat template with a system message of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast

from selfcorrect.training.runs.run_directory import RunDirectory

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_qwen(folder: Path) -> Path:
    """Byte by byte, without merges; special tokens as Qwen's."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None, bos_token=None
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=ends[0], pad_token_id=ends[1],
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen"))


def mbpp(number: int) -> dict[str, Any]:
    code = f"def add_{number}(x):\n    return x + {number}"
    return {
        "task_id": number,
        "text": f"Add {number}.",
        "code": code,
        "test_list": [f"assert add_{number}(1) == {number + 1}"],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [mbpp(number) for number in (*range(11, 15), *range(601, 609))]
    (folder / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam = {
        "task_id": "HumanEval/0",
        "prompt": 'def one():\n    """Return 1."""\n',
        "canonical_solution": "    return 1\n",
        "entry_point": "one",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    (folder / "HumanEval.jsonl").write_text(json.dumps(exam) + "\n")
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """As recipes/qwen2.5-coder-1.5b-mbpp, small."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    settings = {
        "task": {"kind": "mbpp"},
        "policy": {
            "max_new_tokens": 5, "decoding": "static", "device": "cpu", "dtype": "bfloat16", "lora": {"rank": 2},
        },
        "score": {"stage_one_steps": 1, "stage_two_steps": 7},
        "optimiser": {
            "problems_per_step": 2, "episodes_per_problem": 2, "gradient_accumulation": 1, "stop_after_idle": 0,
        },
        "evaluation": {"problems": 2},
        "save_every": 1,
    }  # fmt: skip
    exams = [{"name": "humaneval", "task": {"kind": "humaneval"}}]
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"arms": ["base", "score"], "exams": exams, "at_once": 2}))
    return folder


Start = Callable[..., "subprocess.Popen[str]"]

WARM = """
from types import SimpleNamespace
from selfcorrect.cli import compare, main
compare.sys = SimpleNamespace(executable={python!r})  # starts the pieces, and no judges
main()
"""


@pytest.fixture
def start(recipe: Path, model: Path, data: Path, warm_python: str) -> Start:
    """Starts the command; unless it is `cold`, it and its pieces have done their imports."""

    def begin(*more: object, cold: bool = False) -> "subprocess.Popen[str]":
        named = ["--model", model, "--data", data] if "--model" not in more else []
        ours = [sys.executable, "-m", "selfcorrect"] if cold else [warm_python, "-c", WARM.format(python=warm_python)]
        words = [*ours, "reproduce", recipe, *named, *more]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        environment.pop("COLUMNS", None)  # a table is whole in a pipe, unless somebody asks for a width
        return subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    return begin


def test_a_recipe_comes_to_its_table_through_kills_clocks_and_other_machines(
    start: Start, tmp_path: Path, model: Path, data: Path
) -> None:
    out = tmp_path / "out"
    run = RunDirectory(out / "score" / "seed-0")
    # killed with all its pieces in the middle of the training; a piece without its parent ends by itself
    first = start("--out", out, cold=True)
    while not run.read_metrics():
        assert first.poll() is None, first.communicate()
        time.sleep(0.2)
    first.kill()
    first.communicate()
    # ended by the clock, before it got far
    second = start("--out", out, "--minutes", 0.01, "--json")
    told, errors = second.communicate()
    assert second.returncode == 0, errors + (out / "logs" / "score.0.log").read_text()
    result = json.loads(told)
    assert set(result["greedy"]) == set(result["exams"]["humaneval"]["sampled"]) == {"base", "score"}
    assert (result["problems"], result["exams"]["humaneval"]["problems"]) == (4, 1)
    assert result["greedy"]["base"]["accuracy_t1"]["by_seed"] == [0.0]
    assert result["greedy"]["base"]["accuracy_t1"]["interval"][1] == pytest.approx(0.49, abs=0.01)  # Wilson, 0 of 4
    assert "humaneval: greedy, " in (out / "compare.html").read_text()
    assert (run.path / "adapter" / "adapter_config.json").is_file()
    # carried to another machine, without the base's weights, and trained to its end
    shutil.rmtree(run.model_path)
    moved_out, moved_model = out.rename(tmp_path / "there"), tmp_path / "other-model"
    hidden = shutil.copytree(model, moved_model) and data.rename(tmp_path / "other-data")
    config = yaml.safe_load((moved_out / "score" / "seed-0" / "config.yaml").read_text())
    config["policy"]["model"] = "/no/such/place"
    (moved_out / "score" / "seed-0" / "config.yaml").write_text(yaml.safe_dump(config))
    third = start("--out", moved_out, "--go-on", "--model", moved_model, "--data", hidden)
    told, errors = third.communicate()
    assert third.returncode == 0, errors + (moved_out / "logs" / "score.0.log").read_text()
    there = RunDirectory(moved_out / "score" / "seed-0")
    assert [step["step"] for step in there.read_metrics()] == list(range(1, 9))
    assert "stopped" not in (there.read_final() or {}) and there.model_path.is_dir()
    assert "accuracy@1" in told and "humaneval" in told
    # nothing is left to do, and the table is shown without doing anything
    shown = start("--out", moved_out, "--show", "--model", moved_model, "--data", hidden)
    assert shown.communicate()[0].splitlines()[-4:] == told.splitlines()[-4:]


def test_ctrl_c_saves_and_shows_what_there_is(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("--out", out, "--set", "score.stage_two_steps=5000")
    run = RunDirectory(out / "score" / "seed-0")
    while not run.read_metrics():
        assert running.poll() is None, running.communicate()
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert running.returncode == 130 and "Stopped. What was done is saved" in errors
    assert list(run.checkpoints_path.glob("checkpoint-*")) and (out / "compare.json").is_file()


REAL = os.environ.get("SELFCORRECT_QWEN_CODER")


@pytest.mark.skipif(REAL is None, reason="SELFCORRECT_QWEN_CODER names no folder of Qwen2.5-Coder-1.5B-Instruct")
def test_the_real_model_solves_a_problem_of_the_recipe() -> None:
    """One answer of each turn, greedily: that the words, the end of a turn and the reading of programs fit it."""
    from selfcorrect.agents.episodes import play_sync
    from selfcorrect.agents.graph import build_graph
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.prompts import named_prompts
    from selfcorrect.rewards import Asserts, UnitTestChecker
    from selfcorrect.tasks.problem import Problem

    policy = TransformersPolicy.from_pretrained(str(REAL), max_new_tokens=400)
    asked = "Write a function double that returns twice its number.\n\nYour code should pass these tests:\n\n"
    tests = Asserts(code="assert double(4) == 8").model_dump()
    problem = Problem(id="p", prompt=f"{asked}assert double(4) == 8", reference=tests, checker="code")
    state = play_sync(build_graph(policy, prompts=named_prompts("code")), [problem])[0]
    assert [turn["generation"]["finish_reason"] for turn in state["turns"]] == ["stop", "stop"]
    checker = UnitTestChecker()
    verdicts = [checker.check_sync(turn["generation"]["text"], tests) for turn in state["turns"]]
    assert [verdict.score for verdict in verdicts] == [1.0, 1.0], verdicts
