"""Verifiers whose base stays as it was and where it was, under adapters or a head: the folder holds what was learnt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_models import WORDS, llama, word_tokenizer
from transformers import AutoModelForCausalLM

from selfcorrect.errors import CheckerError, ConfigurationError
from selfcorrect.rewards.verifiers.encoding import Wording
from selfcorrect.rewards.verifiers.kinds import LikelihoodVerifier, load_verifier
from selfcorrect.training.engines import LoraSettings
from selfcorrect.training.vstar.fits import Labelled, Pair, StepLog, refuse_muon
from selfcorrect.training.vstar.preference import train_likelihood
from selfcorrect.training.vstar.settings import HeadSettings, PreferenceSettings, VstarSettings
from selfcorrect.training.vstar.verifiers import train_head

pytestmark = pytest.mark.slow

PROMPTS = [f"{number} get :" for number in range(16)]
RIGHT, WRONG = "1 + 1 = 2 ; 2 * 2 = 4", "1 + 1 = 2 ; 2 - 2 = 7"
ASKED = [(prompt, answer) for prompt in PROMPTS for answer in (RIGHT, WRONG)]
LORA = LoraSettings(rank=4, alpha=8.0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder, tokenizer = tmp_path / "base", word_tokenizer(WORDS, pad_token="<pad>")
    llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(
    kind: Any,
    base: Path,
    work: Path,
    *,
    lora: Any = LORA,
    body: Any = "with_head",
    log: Any = None,
    dtype: str = "auto",
    **changes: Any,
) -> Any:
    how: dict[str, Any] = {"wording": Wording(), "work": work, "seed": 0, "lora": lora, "log": log, "dtype": dtype}
    if kind == "likelihood":
        fit = PreferenceSettings(optimiser="adamw", learning_rate=1e-2, epochs=6, batch=8, **changes)
        return train_likelihood(base, [Pair(prompt, RIGHT, WRONG) for prompt in PROMPTS], fit, **how)
    steps = 1 if kind == "classifier" else 2
    answers = [
        Labelled(prompt, text, (aim,) * steps) for prompt in PROMPTS for text, aim in ((RIGHT, 1.0), (WRONG, 0.0))
    ]
    rate = 3e-2 if body == "with_head" else None
    head = HeadSettings(
        body=body, optimiser="adamw", learning_rate=1e-2, head_learning_rate=rate, epochs=8, batch=16, **changes
    )
    return train_head(kind, base, answers, head, **how)


def gap(raw: list[Any]) -> float:
    """Of the right answers' mean score over the wrong ones'."""
    return float(sum(raw[::2]) - sum(raw[1::2])) / len(PROMPTS)


@pytest.mark.parametrize("kind", ["likelihood", "classifier", "stepwise"])
def test_an_adapter_learns_is_all_that_is_kept_and_reads_the_same_again(kind: Any, base: Path, tmp_path: Path) -> None:
    before = load_file(base / "model.safetensors")
    verifier = trained(kind, base, tmp_path / "work")
    verifier.save(tmp_path / "verifier")
    raw = verifier.raw_scores(ASKED)
    assert gap(raw) > 0.3
    kept = {path.name for path in (tmp_path / "verifier" / "model").iterdir()}
    assert "adapter_model.safetensors" in kept and "model.safetensors" not in kept
    assert not (tmp_path / "verifier" / "reference").exists()
    assert verifier.card.trained["lora"]["rank"] == 4
    after = load_file(base / "model.safetensors")
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    again = load_verifier(tmp_path / "verifier", policy_tokenizer=verifier.tokenizer)
    assert again.raw_scores(ASKED) == pytest.approx(raw, abs=1e-5)


def test_the_adapters_themselves_learn_not_the_head_alone(base: Path, tmp_path: Path) -> None:
    body = trained("classifier", base, tmp_path / "work").model.body
    learnt = {name: weight for name, weight in body.named_parameters() if "lora_B" in name}
    assert len(learnt) == 2 * 7  # of two layers, every linear map
    assert all(bool(weight.abs().sum() > 0) for weight in learnt.values()), "B begins at 0"


def test_the_base_beneath_the_adapter_is_what_its_likelihoods_are_compared_with(base: Path, tmp_path: Path) -> None:
    verifier = trained("likelihood", base, tmp_path / "work", measure="log_ratio")
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    beside = LikelihoodVerifier(verifier.model, whole, verifier.tokenizer, verifier.card)
    assert verifier.reference is None
    assert verifier.raw_scores(ASKED) == pytest.approx(beside.raw_scores(ASKED), abs=1e-6)
    verifier.save(tmp_path / "verifier")
    assert load_verifier(tmp_path / "verifier").raw_scores(ASKED) == pytest.approx(beside.raw_scores(ASKED), abs=1e-5)


def test_a_base_that_moved_is_named_and_can_be_named_anew(base: Path, tmp_path: Path) -> None:
    verifier = trained("classifier", base, tmp_path / "work")
    verifier.save(tmp_path / "verifier")
    shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(CheckerError, match=r"is an adapter on '.*base'.*base_model_name_or_path"):
        load_verifier(tmp_path / "verifier")
    path = tmp_path / "verifier" / "model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "elsewhere")}))
    assert load_verifier(tmp_path / "verifier").raw_scores(ASKED) == pytest.approx(verifier.raw_scores(ASKED), abs=1e-5)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(CheckerError, match="does not name the model"):
        load_verifier(tmp_path / "verifier")


def test_muon_is_refused_for_adapters() -> None:
    with pytest.raises(ConfigurationError, match="vstar.likelihood.optimiser is muon.*optimiser=adamw"):
        refuse_muon(VstarSettings())
    adamw = {"optimiser": "adamw"}
    refuse_muon(VstarSettings(kinds=["classifier"], classifier=HeadSettings(**adamw)))
    refuse_muon(VstarSettings(kinds=["classifier"], classifier=HeadSettings(body="frozen")))


@pytest.mark.parametrize("kind", ["classifier", "stepwise"])
def test_a_head_on_a_frozen_body_is_all_that_is_kept(kind: Any, base: Path, tmp_path: Path) -> None:
    steps: list[Any] = []
    verifier = trained(kind, base, tmp_path / "work", body="frozen", log=StepLog(steps.append))
    assert steps == [] and verifier.card.base == str(base)
    assert 0 < verifier.card.trained["head_held_out_loss"] < 0.5
    raw = verifier.raw_scores(ASKED)
    assert gap(raw) > 1.0
    verifier.save(tmp_path / "verifier")
    weights = {str(path.relative_to(tmp_path / "verifier")) for path in (tmp_path / "verifier").rglob("*.safetensors")}
    assert weights == {"head.safetensors"}
    assert load_verifier(tmp_path / "verifier").raw_scores(ASKED) == pytest.approx(raw, abs=1e-4)
    shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(CheckerError, match=r"is a head on '.*base'.*as base in .*verifier.json"):
        load_verifier(tmp_path / "verifier")


@pytest.mark.parametrize("lora", [LORA, None])
def test_a_body_may_learn_under_a_head_that_was_fitted_to_it(lora: Any, base: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    log = StepLog(lambda figures: losses.append(figures["loss"]))
    frozen = trained("classifier", base, tmp_path / "work", body="frozen")
    verifier = trained("classifier", base, tmp_path / "work", body="after_head", lora=lora, log=log, warmup=0.0)
    assert torch.equal(verifier.model.head.weight, frozen.model.head.weight), "the head stays"
    assert losses[0] < 0.6, "it begins with what the head knows, not at ln 2"
    assert gap(verifier.raw_scores(ASKED)) > gap(frozen.raw_scores(ASKED)) + 0.5, "and the body has learnt"
    assert verifier.card.base == ""


@pytest.mark.parametrize(
    ("kind", "body", "lora"),
    [
        ("classifier", "with_head", LORA),
        ("classifier", "frozen", LORA),
        ("likelihood", "with_head", LORA),
        ("classifier", "with_head", None),
        ("likelihood", "with_head", None),
    ],
)
def test_what_is_calibrated_is_what_is_read_again(kind: Any, body: Any, lora: Any, base: Path, tmp_path: Path) -> None:
    """In bfloat16 too: a base is kept in it, whole models are float32 and only computed in it while they learn."""
    verifier = trained(kind, base, tmp_path / "work", body=body, lora=lora, dtype="bfloat16")
    verifier.save(tmp_path / "verifier")
    loaded: Any = load_verifier(tmp_path / "verifier")
    body_of = loaded.model if kind == "likelihood" else loaded.model.body
    weights = {weight.dtype for name, weight in body_of.named_parameters() if "lora" not in name}
    assert weights == {torch.bfloat16 if lora is not None else torch.float32}
    assert loaded.raw_scores(ASKED) == pytest.approx(verifier.raw_scores(ASKED), abs=1e-5)
