"""Training that begins with an adapter: it is merged into its base, so that all arms, references and verifiers know one
model; and the adapters that runs leave behind."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfcorrect.agents.critiques import recorded_loop
from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer, model_location
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.whole_models import merged_folder, whole_location
from selfcorrect.agents.prompts import PLAIN, PromptSettings, prompts_of
from selfcorrect.errors import PolicyError
from selfcorrect.training.arms.reinforced import score
from selfcorrect.training.arms.sft import sft
from selfcorrect.training.quiet_star.run import train_quiet_star
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.runs.opening import open_run_policy
from selfcorrect.training.settings import EvaluationSettings, LoraSettings, PolicySettings, RunSettings, SftSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "base"))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """An adapter whose change of every layer is far from small, without a tokenizer, as PEFT writes it."""
    return written(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")


def written(model: Any, folder: Path) -> Path:
    torch.manual_seed(1)
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(3, 40)[None]).logits.float()
    return found


def settings(folder: Path, **policy: Any) -> RunSettings:
    return RunSettings(
        policy=PolicySettings(model=str(folder), max_new_tokens=40, **policy),
        sft=SftSettings(steps=1, batch_size=2, problems=2, learning_rate=1e-9),
        evaluation=EvaluationSettings(problems=2),
    )


def test_the_merged_model_predicts_as_base_and_adapter_do(adapter: Path, base: Path) -> None:
    unmerged, _ = load_model_and_tokenizer(adapter, torch.float32)
    whole, tokenizer = load_model_and_tokenizer(whole_location(str(adapter)), torch.float32)
    torch.testing.assert_close(logits(whole), logits(unmerged), atol=1e-5, rtol=1e-5)
    assert (logits(whole) - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.1
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()


def test_a_whole_model_is_taken_as_it_is(base: Path, cache: Path) -> None:
    assert whole_location(str(base)) == str(base) and not cache.exists()
    assert whole_location("embedded") == model_location("embedded")


def test_it_is_merged_once_and_again_when_adapter_or_base_has_changed(adapter: Path, base: Path) -> None:
    first = merged_folder(adapter)
    made = (first / "model.safetensors").stat().st_mtime_ns
    (adapter / "README.md").write_text("What it is good for.")
    assert merged_folder(adapter) == first and (first / "model.safetensors").stat().st_mtime_ns == made
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight.mul_(3)
    model.save_pretrained(base)
    second = merged_folder(adapter)
    assert second != first
    assert (logits(AutoModelForCausalLM.from_pretrained(second)) - logits(AutoModelForCausalLM.from_pretrained(first))
            ).abs().max() > 0.1  # fmt: skip


def test_an_adapter_on_an_adapter_is_merged_into_both(adapter: Path, tmp_path: Path) -> None:
    upper = written(AutoModelForCausalLM.from_pretrained(merged_folder(adapter)), tmp_path / "upper")
    told = json.loads((upper / "adapter_config.json").read_text())
    (upper / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": str(adapter)}))
    inner = AutoModelForCausalLM.from_pretrained(merged_folder(adapter))
    inner.load_adapter(str(upper))
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(merged_folder(upper))), logits(inner), atol=1e-5, rtol=1e-5
    )


def test_small_changes_of_bfloat16_weights_are_not_lost(tiny_model_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.bfloat16)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.fill_(1.0)
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)  # whose name the adapter will give
    adapted = get_peft_model(model, LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj"]))
    layer = adapted.get_base_model().model.layers[0].self_attn.q_proj
    with torch.no_grad():
        layer.lora_A["default"].weight.fill_(1e-3)  # a change of 0.001: the next bfloat16 number is 0.0078 away
        layer.lora_B["default"].weight.fill_(1.0)
    adapted.save_pretrained(tmp_path / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(merged_folder(tmp_path / "adapter"), dtype="auto")
    weight = whole.model.layers[0].self_attn.q_proj.weight
    assert weight.dtype is torch.bfloat16
    assert float(weight.detach().float().mean()) - 1 == pytest.approx(1e-3, abs=3e-4)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["all weights", "an adapter"])
def test_supervised_training_begins_with_what_the_adapter_made(
    lora: LoraSettings | None, adapter: Path, tmp_path: Path
) -> None:
    sft(settings(adapter, lora=lora), out=tmp_path / "run")  # at a rate that moves nothing
    trained, _ = load_model_and_tokenizer(tmp_path / "run/model", torch.float32)
    unmerged, _ = load_model_and_tokenizer(adapter, torch.float32)
    torch.testing.assert_close(logits(trained), logits(unmerged), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["all weights", "an adapter"])
def test_reinforced_training_begins_with_what_the_adapter_made_and_is_compared_with_it(
    lora: LoraSettings | None, adapter: Path, tmp_path: Path
) -> None:
    run = settings(adapter, lora=lora)
    run = run.model_copy(
        update={
            "score": run.score.model_copy(update={"stage_one_steps": 1, "stage_two_steps": 1}),
            "optimiser": run.optimiser.model_copy(
                update={"problems_per_step": 2, "episodes_per_problem": 2, "minibatches": 1, "learning_rate": 1e-9}
            ),
        }
    )
    result = score(run, out=tmp_path / "run")
    steps = [json.loads(line) for line in (result.directory / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2 and all(abs(step[f"kl_t{turn}"]) < 1e-3 for step in steps for turn in (1, 2))
    trained, _ = load_model_and_tokenizer(tmp_path / "run/model", torch.float32)
    unmerged, _ = load_model_and_tokenizer(adapter, torch.float32)
    torch.testing.assert_close(logits(trained), logits(unmerged), atol=1e-4, rtol=1e-4)


def test_thinking_is_taught_to_what_the_adapter_made(adapter: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("3 + 5 = 8 ; 8 * 7 = 56 " * 60)
    before = train_quiet_star(
        QuietSettings(text=str(text), model=str(adapter), span=16, steps=1, evaluation_texts=3), out=tmp_path / "run"
    ).before
    plain = train_quiet_star(
        QuietSettings(text=str(text), model=str(merged_folder(adapter)), span=16, steps=1, evaluation_texts=3),
        out=tmp_path / "plain",
    ).before
    assert before["all_nll"] == plain["all_nll"]


def test_the_adapter_of_a_run_is_a_policy_by_itself(base: Path, tmp_path: Path) -> None:
    words = PromptSettings(attempt="get {problem}", revise="check :")
    run = settings(base, lora=LoraSettings(rank=2)).model_copy(update={"prompts": words})
    sft(run, out=tmp_path / "run")
    policy = TransformersPolicy.from_pretrained(tmp_path / "run/adapter")
    assert prompts_of(policy, english=PLAIN).revise == "check :" and recorded_loop(policy) is not None
    trained, _ = load_model_and_tokenizer(tmp_path / "run/model", torch.float32)
    torch.testing.assert_close(logits(policy.model.float()), logits(trained), atol=1e-4, rtol=1e-4)


def test_an_adapter_that_transformers_loaded_by_itself_is_refused(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfcorrect.training.runs.opening.whole_location", lambda name: name)  # as of one of the Hub
    with pytest.raises(PolicyError, match="a model with an adapter in it.*merged into its base"):
        open_run_policy(settings(adapter, lora=None))


def test_an_adapter_of_a_kind_that_is_no_change_of_weights_is_told(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    config = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(PolicyError, match="prompt' cannot be merged into .*base', which training from it needs"):
        merged_folder(tmp_path / "prompt")


def test_an_adapter_of_another_shape_is_told(adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 3}))
    with pytest.raises(PolicyError, match="(?s)adapter' cannot be merged into .*size mismatch"):
        merged_folder(adapter)


@pytest.mark.parametrize("config", ["{}", '{"base_model_name_or_path": null}'])
def test_an_adapter_without_a_base_is_told(config: str, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(config)
    with pytest.raises(PolicyError, match="does not name the model that the adapter goes on"):
        whole_location(str(adapter))


def test_an_adapter_on_itself_is_told(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(adapter)}))
    with pytest.raises(PolicyError, match="names its own folder"):
        whole_location(str(adapter))
