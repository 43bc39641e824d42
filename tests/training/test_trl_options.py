"""Every option of TRL's is honoured, with an effect that shows, or refused with a reason."""

import dataclasses
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from small_trainer import trainer_on
from transformers import TrainerCallback
from transformers.integrations import integration_utils as integrations
from transformers.utils import logging

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.config import OptimiserSettings, TurnPPOConfig
from selfcorrect.training.ppo.trl_options import HONOURED, INSTEAD, PASSED_ON, SENSELESS, fault_of, options_table
from selfcorrect.training.settings import RunSettings

CHANGED_WEIGHTS: dict[str, Any] = {
    "adam_beta1": 0.5,
    "adam_epsilon": 0.1,
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.9}},
    "lr_scheduler_type": "cosine",
    "optim": "sgd",
    "weight_decay": 0.5,
}
ELSEWHERE = {"full_determinism", "log_level", "project", "run_name"}


@pytest.fixture(scope="module")
def usual(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return trained(tiny_model_folder, tmp_path_factory.mktemp("usual"), {})


def trained(folder: Path, out: Path, options: dict[str, Any]) -> torch.Tensor:
    trainer, _ = trainer_on(folder, out, minibatches=2, trl=options)
    trainer.train()
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])


def test_every_option_of_this_trl_is_in_one_list() -> None:
    from trl import GRPOConfig

    lists = [set(HONOURED), set(PASSED_ON), set(INSTEAD), set(SENSELESS)]
    assert sum(map(len, lists)) == len(set().union(*lists)), "an option is in two lists"
    assert not {field.name for field in dataclasses.fields(GRPOConfig)} - set().union(*lists)


def test_every_honoured_option_has_a_test_of_its_effect() -> None:
    assert set(CHANGED_WEIGHTS) | ELSEWHERE == set(HONOURED)


@pytest.mark.parametrize("name", CHANGED_WEIGHTS)
def test_an_honoured_option_changes_what_is_learnt(
    name: str, tiny_model_folder: Path, tmp_path: Path, usual: torch.Tensor
) -> None:
    value = CHANGED_WEIGHTS[name]
    options = value if isinstance(value, dict) else {name: value}
    assert not torch.equal(trained(tiny_model_folder, tmp_path, options), usual)


def test_without_options_the_same_is_learnt_again(tiny_model_folder: Path, tmp_path: Path, usual: torch.Tensor) -> None:
    assert torch.equal(trained(tiny_model_folder, tmp_path, {}), usual)


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Stands for a service that is told the figures."""

    told: ClassVar[list[tuple[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.told.append((f"{args.project} {args.run_name}", (logs or {}).get("accuracy_t1", -1.0)))


def test_the_options_that_learn_nothing_new_do_what_they_say(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(integrations.INTEGRATION_TO_CALLBACK, "trackio", Reporter)
    before, verbosity = dict(os.environ), logging.get_verbosity()
    options = {"full_determinism": True, "log_level": "critical", "run_name": "mine", "project": "ours"}
    monkeypatch.setattr("selfcorrect.training.ppo.config.find_spec", lambda name: True)
    monkeypatch.setattr(Reporter, "_trackio", SimpleNamespace(Table=dict, log=dict), raising=False)
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
    assert Reporter.told[0][0] == "ours mine" and 0 <= Reporter.told[0][1] <= 1


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
    ],
)
def test_options_that_contradict_a_setting_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OptimiserSettings(**settings)


def test_the_table_in_the_documentation_is_this_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "trainer.md"
    assert options_table() in page.read_text(encoding="utf-8")
