"""What several stages changed of a model becomes one adapter on the first base, which loads by the base's name."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from selfcorrect.agents import TransformersPolicy
from selfcorrect.agents.policies.pretrained import embedded_folder, load_model_and_tokenizer, parameter_count
from selfcorrect.errors import TrainingError
from selfcorrect.training import adapter_between

IDS = torch.arange(1, 13).reshape(2, 6)


def taught(folder: Path, *ranks: int, spoil: str = "") -> Path:
    """The embedded policy after stages of adapters, each merged before the next; `spoil` names another weight."""
    model, tokenizer = load_model_and_tokenizer("embedded", "auto")
    torch.manual_seed(0)
    for rank in ranks:
        adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(value, std=0.05)
        model = adapted.merge_and_unload()
    if spoil:
        model.get_parameter(spoil).data.add_(0.01)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(folder: str | Path) -> Tensor:
    model, _ = load_model_and_tokenizer(folder, torch.float32)
    with torch.no_grad():
        found: Tensor = model(IDS).logits
    return found


def test_stages_become_one_adapter_on_a_base_that_is_known_by_its_name(tmp_path: Path) -> None:
    trained, out = taught(tmp_path / "trained", 2, 1), tmp_path / "adapter"
    written = adapter_between("embedded", trained, out, rank=3)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "embedded"
    card = (out / "README.md").read_text()
    assert (
        "(LoRA, rank 3) on `embedded`" in card and "More Information" not in card and str(embedded_folder()) not in card
    )
    assert written.left_over < 1e-5 and written.parameters > 0
    assert sum(file.stat().st_size for file in out.glob("*.safetensors")) < 2.2 * written.parameters + 50_000
    moved = (logits(trained) - logits("embedded")).abs().max()
    assert (logits(trained) - logits(out)).abs().max() < 0.005 * moved
    assert parameter_count(str(out)) == parameter_count("embedded")


def test_an_adapter_keeps_the_card_of_the_trained_model(tmp_path: Path) -> None:
    trained = taught(tmp_path / "trained", 1)
    (trained / "README.md").write_text(
        "---\nbase_model: other\n---\n# selfcorrect, score\n\n- **Base:** other\n\n| a | b |\n"
        "selfcorrect eval --model other/model --task TASK\n"
    )
    adapter_between("embedded", trained, tmp_path / "adapter", rank=1)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert all(words in card for words in ("# selfcorrect, score", "| a | b |", "- **Base:** embedded\n"))
    assert "other" not in card and f"--model {tmp_path / 'adapter'} --task TASK" in card


def test_the_same_models_give_the_same_adapter_and_leave_the_dice_alone(tmp_path: Path) -> None:
    trained = taught(tmp_path / "trained", 2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    files = []
    for name in ("one", "two"):
        torch.manual_seed(3)
        adapter_between("embedded", trained, tmp_path / name, rank=2)
        assert torch.equal(torch.rand(1), expected)
        files.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("ranks", "spoil", "rank", "said"),
    [
        ((2, 2), "", 3, "rank 3 leaves"),
        ((2,), "model.norm.weight", 2, "model.norm.weight was changed too"),
        ((), "", 2, "nothing that an adapter could hold"),
    ],
)
def test_what_no_adapter_holds_is_refused(
    ranks: tuple[int, ...], spoil: str, rank: int, said: str, tmp_path: Path
) -> None:
    trained = taught(tmp_path / "trained", *ranks, spoil=spoil)
    with pytest.raises(TrainingError, match=said):
        adapter_between("embedded", trained, tmp_path / "out", rank=rank)
    assert not (tmp_path / "out").exists()


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    model, tokenizer = load_model_and_tokenizer("embedded", "auto")
    model.resize_token_embeddings(len(tokenizer) + 64)
    model.save_pretrained(tmp_path / "larger")
    tokenizer.save_pretrained(tmp_path / "larger")
    with pytest.raises(TrainingError, match="not one architecture"):
        adapter_between("embedded", tmp_path / "larger", tmp_path / "out", rank=2)


def test_policies_open_by_the_names_that_commands_know() -> None:
    named, folder = (TransformersPolicy.from_pretrained(name) for name in ("embedded", embedded_folder()))
    for one, other in zip(named.model.parameters(), folder.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_folder_that_is_called_like_one_of_the_names_is_opened_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught(tmp_path / "embedded", 1)
    monkeypatch.chdir(tmp_path)
    expected, named = logits(tmp_path / "embedded"), logits("embedded")
    assert not torch.equal(expected, named)
    for path in (Path("embedded"), "./embedded"):
        assert torch.equal(logits(path), expected)
