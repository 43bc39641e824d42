"""What a run needs is told before anything is loaded: counted by hand here."""

from pathlib import Path
from typing import Any

import pytest

from selfcorrect.errors import TrainingError
from selfcorrect.settings import combine
from selfcorrect.training.arms.sft import sft
from selfcorrect.training.arms.star import star
from selfcorrect.training.runs import memory
from selfcorrect.training.runs.memory import (
    adapter_parameters,
    memory_estimate,
    refuse_too_large,
    supervised_load,
    vstar_load,
)
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import DEMO, LM, LoraSettings, RunSettings
from selfcorrect.training.vstar.rounds import vstar

PARAMETERS = 219 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
"""Of the tiny Llama, head tied to the embeddings: per layer four square and three gated matrices, two norms."""


def on(folder: Path, **changes: Any) -> RunSettings:
    return combine(DEMO, {"policy": {"model": str(folder), "device": "cpu"}, **changes}, [])


class Told(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def vocabulary(tiny_model_folder: Path) -> int:
    import json

    return int(json.loads((tiny_model_folder / "config.json").read_text())["vocab_size"])


def test_weights_gradients_moments_and_reference_are_counted(tiny_model_folder: Path, vocabulary: int) -> None:
    parameters = PARAMETERS + (vocabulary - 219) * 32
    certain = memory_estimate(on(tiny_model_folder)).certain
    assert certain == {
        "weights": 4 * parameters,
        "adapters": 0,
        "gradients": 4 * parameters,
        "moments of Adam": 8 * parameters,
        "reference": 4 * parameters,
    }
    without = memory_estimate(on(tiny_model_folder, optimiser={"kl": False})).certain
    assert without["reference"] == 0


def test_adapters_on_a_bf16_base_need_little_beside_it(tiny_model_folder: Path, vocabulary: int) -> None:
    parameters = PARAMETERS + (vocabulary - 219) * 32
    policy = {"model": str(tiny_model_folder), "device": "cpu", "dtype": "bfloat16", "lora": {"rank": 2}}
    certain = memory_estimate(combine(DEMO, {"policy": policy}, [])).certain
    adapters = 2 * 2 * (4 * (32 + 32) + 3 * (32 + 64))
    assert (certain["weights"], certain["adapters"], certain["reference"]) == (2 * parameters, 4 * adapters, 0)
    assert (certain["gradients"], certain["moments of Adam"]) == (4 * adapters, 8 * adapters)


def test_named_modules_alone_get_adapters(tiny_model_folder: Path) -> None:
    from selfcorrect.agents.policies.pretrained import weightless

    lora = LoraSettings(rank=3, target_modules=["q_proj", "up_proj"])
    assert adapter_parameters(weightless(str(tiny_model_folder)), lora) == 3 * 2 * (32 + 32 + 32 + 64)


def test_caches_logits_and_activations_are_estimated(tiny_model_folder: Path, vocabulary: int) -> None:
    likely = memory_estimate(on(tiny_model_folder)).likely
    tokens = 2 * (128 + 40)
    assert likely["caches"] == 256 * tokens * (2 * 2 * 32 * 4)
    assert likely["logits"] == 3 * 256 * vocabulary * 4
    assert likely["activations"] == 128 * tokens * (34 * 32 * 2 * 2)
    saving = memory_estimate(on(tiny_model_folder, optimiser={"activation_checkpointing": True})).likely
    assert saving["activations"] == 128 * tokens * (2 * 32 * 4 + 34 * 32 * 2)
    smaller = memory_estimate(on(tiny_model_folder, optimiser={"gradient_accumulation": 4})).likely
    assert smaller["activations"] == likely["activations"] // 4


def test_supervised_arms_hold_the_policy_that_samples_beside_the_one_that_learns(
    tiny_model_folder: Path, vocabulary: int
) -> None:
    parameters = PARAMETERS + (vocabulary - 219) * 32
    settings = on(tiny_model_folder, star={"batch_size": 8, "problems": 3, "samples_per_problem": 2})
    needed = memory_estimate(settings, supervised_load(settings.star))
    assert sum(needed.certain.values()) == (4 + 4 + 4 + 8) * parameters
    assert needed.likely["activations"] == 8 * 2 * (128 + 40) * (34 * 32 * 2 * 2)
    assert needed.likely["logits"] == 3 * 6 * vocabulary * 4


def test_vstar_is_counted_with_dpo_of_all_weights_beside_two_models(tiny_model_folder: Path, vocabulary: int) -> None:
    parameters = PARAMETERS + (vocabulary - 219) * 32
    heads = {"classifier": {"batch": 8}, "stepwise": {"batch": 8}}
    settings = on(tiny_model_folder, vstar={"generator": {"batch": 8}, "likelihood": {"batch": 16}, **heads})
    needed = memory_estimate(settings, vstar_load(settings))
    assert sum(needed.certain.values()) == (4 + 4 + 8 + 2 * 4) * parameters
    assert needed.likely["activations"] == 2 * 16 * 2 * (128 + 40) * (34 * 32 * 2 * 2)
    wide = on(tiny_model_folder, vstar={"generator": {"batch": 8}, **heads, "stepwise": {"batch": 64}})
    assert vstar_load(wide).rows == max(64, 2 * wide.vstar.likelihood.batch)


def test_what_is_read_in_one_pass_is_what_counts(tiny_model_folder: Path) -> None:
    star = on(tiny_model_folder, star={"batch_size": 32, "micro_batch": 8})
    assert supervised_load(star.star).rows == 8
    fits = {"generator": {"batch": 32, "micro_batch": 8}, "likelihood": {"batch": 32, "micro_batch": 6}}
    heads = {kind: {"batch": 32, "micro_batch": 4} for kind in ("classifier", "stepwise")}
    assert vstar_load(on(tiny_model_folder, vstar=fits | heads)).rows == 8  # of DPO four pairs, as 6 divide no 32
    assert supervised_load(LM.star).rows == supervised_load(LM.sft).rows == vstar_load(LM).rows == 8


def test_what_vstar_does_not_train_is_not_counted(tiny_model_folder: Path, vocabulary: int) -> None:
    parameters = PARAMETERS + (vocabulary - 219) * 32
    frozen = {"rounds": 0, "kinds": ["classifier"], "classifier": {"body": "frozen"}}
    settings = on(tiny_model_folder, vstar=frozen)
    needed = memory_estimate(settings, vstar_load(settings))
    assert sum(needed.certain.values()) == 2 * 4 * parameters, "the policy, and the body of the verifier"
    assert needed.likely["activations"] == 0 < needed.likely["caches"]
    elsewhere = on(tiny_model_folder, vstar=frozen | {"asked": "openai:some-model"})
    assert memory_estimate(elsewhere, vstar_load(elsewhere)).likely["caches"] == 0
    adapted = on(tiny_model_folder, policy={"model": str(tiny_model_folder), "lora": {"rank": 2}})
    assert vstar_load(adapted).references == 1, "DPO's reference is the base beneath the adapter"


@pytest.mark.parametrize("arm", [star, sft, vstar], ids=["star", "sft", "vstar"])
def test_every_arm_refuses_what_cannot_fit_before_it_loads_a_model(
    arm: Any, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(TrainingError, match="training needs about .* free on cpu: try .*batch"):
        arm(on(tiny_model_folder), out=tmp_path / "run")


def test_adapters_are_no_advice_where_they_are_trained(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(TrainingError, match="free on cpu: try a smaller sft.micro_batch"):
        sft(on(tiny_model_folder, policy={"model": str(tiny_model_folder), "lora": {"rank": 2}}), out=tmp_path / "run")


def test_what_cannot_fit_is_refused_and_what_may_not_fit_is_told(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, told = on(tiny_model_folder), Told()
    needed = memory_estimate(settings)
    monkeypatch.setattr(memory, "free_bytes", lambda device: sum(needed.certain.values()) - 1)
    with pytest.raises(TrainingError, match="training needs about .* free on cpu: try policy.lora, optimiser"):
        refuse_too_large(settings, told)
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed.total - 1)
    refuse_too_large(settings, told)
    assert len(told.messages) == 1 and "if it does not fit, try" in told.messages[0]
    for enough in (needed.total, None):
        monkeypatch.setattr(memory, "free_bytes", lambda device, enough=enough: enough)
        refuse_too_large(settings, told)
    assert len(told.messages) == 1
