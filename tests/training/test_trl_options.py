"""Every option of TRL's is honoured, with an effect that shows, or refused with a reason."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import train_as_one_of_many
from small_trainer import trainer_on
from trackio_double import installed_trackio
from transformers import training_args
from transformers.utils import logging

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.config import OptimiserSettings, TurnPPOConfig
from selfcorrect.training.ppo.trl_options import HONOURED, INSTEAD, SENSELESS, fault_of, options_table
from selfcorrect.training.settings import RunSettings

CHANGED_WEIGHTS: dict[str, Any] = {
    "adam_beta1": 0.5,
    "adam_epsilon": 0.1,
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.9}},
    "lr_scheduler_type": "cosine",
    "optim": "sgd",
    "optim_args": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "weight_decay": 0.5,
}
TOLD = {"log_level", "project", "run_name", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id"}
ALONE = {"full_determinism", "optim_target_modules", "torch_empty_cache_steps"}
SEVERAL = {
    "ddp_backend": "gloo",
    "ddp_broadcast_buffers": True,
    "ddp_bucket_cap_mb": 3,
    "ddp_find_unused_parameters": True,
    "ddp_static_graph": True,
    "log_level_replica": "critical",
    "log_on_each_node": False,
    "save_on_each_node": True,
}
ELSEWHERE = TOLD | ALONE | set(SEVERAL) | {"ddp_timeout"}


@pytest.fixture(scope="module")
def usual(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return trained(tiny_model_folder, tmp_path_factory.mktemp("usual"), {})


def trained(folder: Path, out: Path, options: dict[str, Any]) -> torch.Tensor:
    trainer, _ = trainer_on(folder, out, minibatches=2, trl=options)
    trainer.train()
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])


def test_every_option_of_this_trl_is_in_one_list() -> None:
    from trl import GRPOConfig

    lists = [set(HONOURED), set(INSTEAD), set(SENSELESS)]
    assert sum(map(len, lists)) == len(set().union(*lists)), "an option is in two lists"
    assert not {field.name for field in dataclasses.fields(GRPOConfig)} - set().union(*lists)


def test_every_honoured_option_has_a_test_of_its_effect() -> None:
    assert set(CHANGED_WEIGHTS) | ELSEWHERE == set(HONOURED)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED_WEIGHTS)
def test_an_honoured_option_changes_what_is_learnt(
    name: str, tiny_model_folder: Path, tmp_path: Path, usual: torch.Tensor
) -> None:
    value = CHANGED_WEIGHTS[name]
    options = value if isinstance(value, dict) else {name: value}
    assert not torch.equal(trained(tiny_model_folder, tmp_path, options), usual)


def test_without_options_the_same_is_learnt_again(tiny_model_folder: Path, tmp_path: Path, usual: torch.Tensor) -> None:
    assert torch.equal(trained(tiny_model_folder, tmp_path, {}), usual)


def test_the_options_that_learn_nothing_new_do_what_they_say(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio = installed_trackio(monkeypatch)
    before, verbosity = dict(os.environ), logging.get_verbosity()
    options = {"full_determinism": True, "log_level": "critical", "run_name": "mine", "project": "ours"}
    options |= {
        "trackio_space_id": "owner/pages", "trackio_bucket_id": "a-bucket", "trackio_static_space_id": "owner/kept"
    }  # fmt: skip
    try:
        trainer, _ = trainer_on(tiny_model_folder, tmp_path, minibatches=2, trl=options, report_to=["trackio"])
        trainer.train()
        assert torch.are_deterministic_algorithms_enabled()
        assert logging.get_verbosity() == logging.CRITICAL
    finally:
        torch.use_deterministic_algorithms(False)
        logging.set_verbosity(verbosity)
        for name in set(os.environ) - set(before):
            del os.environ[name]
    begun = trackio.told["init"]
    assert (begun["project"], begun["name"]) == ("ours", "mine")
    assert (begun["space_id"], begun["bucket_id"]) == ("owner/pages", "a-bucket")
    assert 0 <= trackio.told["figures"]["train/accuracy_t1"] <= 1
    assert (
        trackio.told["freeze"]["new_space_id"] == "owner/kept" and trackio.told["freeze"]["space_id"] == "owner/pages"
    )


def test_layers_can_be_chosen_for_optimisers_of_low_rank(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is stood for by AdamW, which shows the groups that transformers makes for it."""
    stand_in: Any = ModuleType("galore_torch")
    stand_in.GaLoreAdamW = stand_in.GaLoreAdafactor = stand_in.GaLoreAdamW8bit = torch.optim.AdamW
    monkeypatch.setitem(sys.modules, "galore_torch", stand_in)
    monkeypatch.setattr("transformers.trainer_optimizer.is_galore_torch_available", lambda: True)
    options = {"optim": "galore_adamw", "optim_target_modules": ["q_proj"], "optim_args": "rank=4"}
    trainer, _ = trainer_on(tiny_model_folder, tmp_path, minibatches=2, trl=options)
    trainer.train()
    _, chosen = trainer.optimizer.param_groups
    named = {
        name for name, weight in trainer.model.named_parameters() if any(weight is one for one in chosen["params"])
    }
    assert len(named) == 2 and all(name.endswith("q_proj.weight") for name in named) and chosen["rank"] == 4


def test_the_memory_of_an_accelerator_is_given_back_as_often_as_asked(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr("transformers.trainer.clear_device_cache", lambda: emptied.append(True))
    monkeypatch.setattr("selfcorrect.training.ppo.config.refuse_on_cpu", lambda options: None)
    options = {"torch_empty_cache_steps": 2}
    trainer, _ = trainer_on(tiny_model_folder, tmp_path, steps=3, minibatches=2, trl=options)
    trainer.train()
    assert len(emptied) == 3, "every second of six updates"


def test_processes_on_accelerators_wait_for_each_other_as_long_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU transformers does not pass it on, so that it is refused there."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    config = TurnPPOConfig(output_dir=tmp_path, steps=1, trl={"ddp_timeout": 77})
    monkeypatch.delenv("LOCAL_RANK")
    asked: dict[str, Any] = {}
    state = training_args.PartialState
    monkeypatch.setattr(training_args, "PartialState", lambda **how: asked.update(how) or state())
    config.to_trl()
    assert asked["timeout"].total_seconds() == 77
    with pytest.raises(ConfigurationError, match="trl.ddp_timeout: the policy is trained on the CPU"):
        config.to_trl(use_cpu=True)


@pytest.mark.slow
def test_options_of_several_processes_and_machines_reach_them(
    tiny_model_folder: Path, tmp_path: Path, warm_python: str
) -> None:
    """Two machines of one process each: each process is the first of its machine."""
    options = json.dumps(SEVERAL | {"log_level": "error"})
    command = [warm_python, "-W", "ignore", train_as_one_of_many.__file__, str(tiny_model_folder), str(tmp_path)]
    machine = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        machine["MASTER_PORT"] = str(free.getsockname()[1])
    running = [
        subprocess.Popen(
            [*command, options], env=os.environ | machine | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(told)[-3000:]
    first, second = (json.loads((tmp_path / f"options-{rank}.json").read_text()) for rank in range(2))
    for process in (first, second):
        assert {name: process[name] for name in SEVERAL if name.startswith("ddp_")} == {
            name: value for name, value in SEVERAL.items() if name.startswith("ddp_")
        }
        assert process["saved"], "save_on_each_node"
    assert (first["told"], second["told"]) == (True, False), "log_on_each_node"
    assert (first["log_level"], second["log_level"]) == (logging.ERROR, logging.CRITICAL), "log_level_replica"


def test_every_setting_that_is_named_instead_is_one() -> None:
    named = {
        name
        for words in INSTEAD.values()
        for name in re.findall(r"\b(?:optimiser|policy|score|evaluation)\.\w+", words)
    }
    assert named and all(has_setting(name) for name in named)


def has_setting(dotted: str) -> bool:
    group, name = dotted.split(".")
    return name in type(getattr(RunSettings(), group)).model_fields


@pytest.mark.parametrize("name", [*INSTEAD, *SENSELESS])
def test_a_refused_option_names_the_setting_or_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"trl.{name}: "):
        OptimiserSettings(trl={name: True})
    assert fault_of(name) is not None and not str(fault_of(name)).endswith(": ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"no_such_option": 1}, "no option of GRPOConfig that selfcorrect knows"),
        ({"wieght_decay": 1}, "did you mean weight_decay?"),
        ({"epsilon": 0.1, "top_p": 0.5}, "set optimiser.clip; trl.top_p: training samples"),
        ({"optim": "sgd", "adam_beta1": 0.5}, "trl.adam_beta1 is of Adam, and trl.optim is 'sgd'"),
        ({"optim_args": "momentum=0.9"}, "optimiser 'adamw_torch_fused' reads no 'momentum'; it reads none"),
        ({"optim": "sgd", "optim_args": "momentum=0.9, alpha=1"}, "'sgd' reads no 'alpha'; it reads momentum, damp"),
        ({"optim": "sgd", "optim_target_modules": "all-linear"}, "is of GaLore and APOLLO, and trl.optim is 'sgd'"),
        ({"lr_scheduler_kwargs": {"min_lr_rate": 0.9}}, "of trl.lr_scheduler_type, which is not given"),
        ({"ddp_timeout": 9}, "trl.ddp_timeout is for several processes, and this one was started alone"),
        ({"fsdp": "full_shard"}, "trl.fsdp: set accelerate launch --config_file configs/fsdp2.yaml"),
        ({"log_level_replica": "error"}, "trl.log_level_replica is for several processes"),
        ({"project": "mine"}, "trl.project is of trackio, which is not told of this run: add it to report_to"),
        ({"trackio_space_id": "a/b"}, "trl.trackio_space_id is of trackio"),
        ({"trackio_static_space_id": "a/b"}, "is made of the Space trl.trackio_space_id, which is not given"),
        ({"run_name": "mine"}, "report_to names none"),
    ],
)
def test_unknown_and_several_options_are_told(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TurnPPOConfig(output_dir=tmp_path, steps=1, trl=options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate_decay": True, "trl": {"lr_scheduler_type": "cosine"}}, "does not go with learning_rate_decay"),
        ({"pure_bf16": True, "trl": {"optim": "sgd"}}, "does not go with pure_bf16"),
        (
            {"stage_switch": "restart", "trl": {"lr_scheduler_type": "cosine"}},
            "does not go with stage_switch 'restart'",
        ),
        ({"adam_beta2": 0.9, "trl": {"optim": "sgd"}}, "adam_beta2 is of Adam, and trl.optim is 'sgd'"),
    ],
)
def test_options_that_contradict_a_setting_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OptimiserSettings(**settings)


def test_what_the_optimiser_of_pure_bfloat16_is_told(tmp_path: Path) -> None:
    options = {"adam_beta1": 0.5, "adam_epsilon": 0.1, "weight_decay": 0.3}
    config = TurnPPOConfig(output_dir=tmp_path, steps=1, pure_bf16=True, trl=options)
    (group,) = config.own_optimiser(torch.nn.Linear(2, 2)).param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.999), 0.1, 0.3)


def test_the_table_in_the_documentation_is_this_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "trainer.md"
    assert options_table() in page.read_text(encoding="utf-8")
