"""Weights that are divided over processes: FSDP2 on two gloo processes, as configs/fsdp2.yaml asks for it, and ZeRO
where DeepSpeed is installed."""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file
from transformers.integrations import deepspeed
from typer.testing import CliRunner

from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer, parameter_count
from selfcorrect.cli.app import app
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.training.ppo import sharding
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.vstar.rounds import vstar

CONFIGS = Path(__file__).parents[3] / "configs"
CPUS_FOR_GPUS = Path(__file__).parents[2] / "support" / "cpus_for_gpus.py"
SMALL = (
    "--preset", "demo", "--set", "score.stage_one_steps=1", "--set", "score.stage_two_steps=1", "--set", "save_every=1",
    "--set", "evaluation.problems=10", "--set", "evaluation.every=2", "--set", "optimiser.problems_per_step=4", "--set",
    "optimiser.episodes_per_problem=2", "--set", "optimiser.minibatches=1",
)  # fmt: skip
needs_configs = pytest.mark.skipif(not CONFIGS.is_dir(), reason="there are no configs beside an installed wheel")


def environment_of(config: Path) -> dict[str, str]:
    """What `accelerate launch --config_file` tells its processes of how weights are divided."""
    asked = launch_command_parser().parse_args(["--config_file", str(config), "script.py"])
    validated, *_ = _validate_launch_command(asked)
    if config.name.startswith("zero"):
        named = yaml.safe_load(config.read_text("utf-8"))["deepspeed_config"]
        validated.deepspeed_fields_from_accelerate_config = ",".join([*named, "mixed_precision"])
        _, chosen = prepare_deepspeed_cmd_env(validated)
        return {name: value for name, value in chosen.items() if name.startswith("ACCELERATE_")}
    chosen = prepare_multi_gpu_env(validated)
    return {name: value for name, value in chosen.items() if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


def last_step(out: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads((out / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    return last


def trained_whole(out: Path, arm: str, *settings: str) -> dict[str, Any]:
    """The last step of a run of this process."""
    done = CliRunner().invoke(app, ["train", arm, "--out", str(out), *settings])
    assert done.exit_code == 0, done.stderr
    return last_step(out)


def trained_in_parts(python: str, out: Path, arm: str, *settings: str, config: str = "fsdp2") -> dict[str, Any]:
    """The last step of a run of two processes with divided weights."""
    launcher = [python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(CPUS_FOR_GPUS), "train", arm, "--out", str(out), *settings],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, **environment_of(CONFIGS / f"{config}.yaml"), "DS_ACCELERATOR": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count(f"divided by {config}: ") >= 2, "in each process the model at least"
    return last_step(out)


def same_weights(one: Path, other: Path, *, within: float = 2e-5) -> None:
    saved, expected = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert saved.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(saved[name].float(), tensor, atol=within), name


@needs_configs
@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--set", "policy.lora={rank: 2}")], ids=["all weights", "an adapter"])
def test_divided_weights_play_learn_and_are_saved_as_whole_ones(
    tmp_path: Path, warm_python: str, more: tuple[str, ...]
) -> None:
    whole = trained_whole(tmp_path / "whole", "score", *SMALL, *more)
    parts = trained_in_parts(warm_python, tmp_path / "parts", "score", *SMALL, *more)
    for name in ("tokens", "accuracy_t1", "accuracy_t2", "eval_accuracy_t2", "kl_t1", "grad_norm"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-5), name
    # Adam's first steps, of 5e-4 each, follow the sign of what is hardly more than rounding: 48 weights of the adapter
    # come to 3e-5
    same_weights(tmp_path / "parts", tmp_path / "whole", within=5e-5)
    assert list((tmp_path / "parts" / "checkpoints").glob("checkpoint-2/pytorch_model_fsdp_0*"))


SAMPLED = (
    "--preset", "demo", "--set", "star.data=single", "--set", "star.loops=2", "--set", "star.problems=16", "--set",
    "star.samples_per_problem=2", "--set", "star.steps=2", "--set", "star.batch_size=4", "--set",
    "evaluation.problems=6",
)  # fmt: skip
GOLD = (
    "--preset", "demo", "--set", "sft.problems=8", "--set", "sft.steps=3", "--set", "sft.batch_size=4", "--set",
    "evaluation.problems=6",
)  # fmt: skip
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@needs_configs
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "settings", "config"),
    [
        ("star", SAMPLED, "fsdp2"),
        ("sft", GOLD, "fsdp2"),
        pytest.param("sft", GOLD, "zero2", marks=needs_deepspeed),
        pytest.param("star", SAMPLED, "zero3", marks=needs_deepspeed),
    ],
)
def test_a_supervised_arm_learns_with_divided_weights_what_one_process_learns(
    tmp_path: Path, warm_python: str, arm: str, settings: tuple[str, ...], config: str
) -> None:
    whole = trained_whole(tmp_path / "whole", arm, *settings)
    parts = trained_in_parts(warm_python, tmp_path / "parts", arm, *settings, config=config)
    for name in {"tokens", "examples", "accuracy_t1", "sft_loss_first", "sft_loss"} & whole.keys():
        assert parts[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-5), name
    # ZeRO-3 sums in another order, and Adam's first steps follow the sign of what is hardly more than its rounding
    same_weights(tmp_path / "parts", tmp_path / "whole", within=2e-4 if config == "zero3" else 2e-5)
    for learnt in (tmp_path / "whole" / "loops").glob("*/examples.jsonl"):
        other = tmp_path / "parts" / learnt.relative_to(tmp_path / "whole")
        assert other.read_text("utf-8") == learnt.read_text("utf-8") != ""


class ZeRO3:
    """Stands for the settings of DeepSpeed that transformers knows of while a trainer lives."""

    def is_zero3(self) -> bool:
        return True


def test_what_is_loaded_while_zero_3_is_on_is_whole(tiny_model_folder: Path) -> None:
    """Divided it could not play, nor be read without DeepSpeed; the trainer's settings are there again afterwards."""
    held = ZeRO3()
    deepspeed.set_hf_deepspeed_config(held)
    try:
        model, _ = load_model_and_tokenizer(tiny_model_folder, torch.float32)
        assert parameter_count(str(tiny_model_folder)) == model.num_parameters()
        assert deepspeed.is_deepspeed_zero3_enabled()
        with pytest.raises(PolicyError):
            load_model_and_tokenizer(tiny_model_folder / "nothing", torch.float32)
        assert deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


@needs_configs
@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3", "fsdp2"])
def test_a_config_is_read_by_accelerate_and_names_its_own_command(name: str) -> None:
    path = CONFIGS / f"{name}.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    asked = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    assert _validate_launch_command(asked)[0].num_processes == config["num_processes"] == 8
    assert f"--config_file configs/{name}.yaml -m selfcorrect train score" in path.read_text("utf-8")


class Divided:
    """Stands for accelerate's accelerator."""

    def __init__(self, *, zero: int | None = None, fsdp: int | None = None, processes: int = 1) -> None:
        self.num_processes = processes
        plugin = type("Plugin", (), {"zero_stage": zero, "fsdp_version": fsdp})()
        self.state = type("State", (), {})()
        self.state.deepspeed_plugin = plugin if zero else None
        self.state.fsdp_plugin = plugin if fsdp else None


class Captures:
    captures, decoding, engine = True, "static", "transformers"


class Served(Captures):
    engine = "vllm"


@pytest.mark.parametrize(
    ("accelerator", "settings", "policy", "words"),
    [
        (Divided(fsdp=1), {}, Captures(), "set fsdp_version to 2"),
        (Divided(fsdp=2), {"pure_bf16": True}, Captures(), "pure_bf16 has an optimiser of its own"),
        (Divided(zero=2), {"pure_bf16": True}, Captures(), "pure_bf16 has an optimiser of its own"),
        (Divided(zero=3), {}, Captures(), "decoding static captures where the weights lie"),
        (Divided(zero=3), {}, Served(), "engine vllm is given the weights by a process that has them all"),
        (Divided(processes=2), {}, Captures(), "1 processes were started, and accelerate trains in 2"),
    ],
)
def test_what_does_not_go_with_divided_weights_is_refused(
    tmp_path: Path, accelerator: Divided, settings: dict[str, Any], policy: Captures, words: str
) -> None:
    config = TurnPPOConfig(output_dir=tmp_path, steps=1, **settings)
    with pytest.raises(ConfigurationError, match=words):
        sharding.refuse_with_shards(accelerator, config, policy)


@needs_configs
def test_v_star_with_divided_weights_is_refused_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "FSDP": environment_of(CONFIGS / "fsdp2.yaml"),
        "DeepSpeed": {"ACCELERATE_USE_DEEPSPEED": "true"},  # what accelerate launch sets for zero2.yaml and zero3.yaml
    }
    for name, environment in asked.items():
        with monkeypatch.context() as launched:
            for variable, value in environment.items():
                launched.setenv(variable, value)
            with pytest.raises(ConfigurationError, match=f"vstar does not go with {name}: its verifiers.*torchrun"):
                vstar(RunSettings(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_whole_weights_ask_for_nothing(tmp_path: Path) -> None:
    config = TurnPPOConfig(output_dir=tmp_path, steps=1, pure_bf16=True)
    sharding.refuse_with_shards(Divided(), config, Captures())
    assert not sharding.is_sharded(Divided(zero=2))
    assert sharding.is_sharded(Divided(zero=3))
    assert sharding.is_sharded(Divided(fsdp=2))
