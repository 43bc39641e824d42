"""What a model that thinks is made of: marks, mixing head, folder; and which models cannot be one."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from quiet_models import thinker
from safetensors.torch import load_file, save_file
from small_models import WORDS, llama, sliding, word_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from selfcorrect.agents.quiet.model import MixingHead, QuietModel, greedily, mixed_logits
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.agents.quiet.thinking import Marks, Thinking, like
from selfcorrect.errors import ConfigurationError, PolicyError

SMALL: dict[str, Any] = {"vocab_size": 40, "bos_token_id": None, "eos_token_id": None}


def bloom() -> Any:
    return BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=1, n_head=2, **SMALL))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, **SMALL))


class WithSoftCaps(LlamaForCausalLM):  # type: ignore[misc]
    """Its attention would cap the scores."""

    def forward(self, *args: Any, **options: Any) -> Any:
        if "thought_streams" in options:
            options["softcap"] = 5.0
        return super().forward(*args, **options)


class WithPositionsOfItsOwn(LlamaForCausalLM):  # type: ignore[misc]
    """It counts positions itself."""

    def forward(self, *args: Any, position_ids: Any = None, **options: Any) -> Any:
        return super().forward(*args, **options)


def small(family: type[LlamaForCausalLM]) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, initializer_range=0.5, **SMALL
    )
    return family(config).eval()


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (lambda: sliding(46), "mistral"),
        (bloom, "bloom"),
        (mamba, "mamba"),
        (lambda: small(WithSoftCaps), "llama"),
        (lambda: small(WithPositionsOfItsOwn), "llama"),
    ],
    ids=["sliding window", "biases by distance", "no attention", "soft caps", "positions of its own"],
)
def test_a_family_whose_attention_is_of_another_kind_is_refused(make: Any, family: str) -> None:
    with pytest.raises(PolicyError, match=f"'{family}'"):
        QuietModel.wrap(make().eval(), word_tokenizer(WORDS), Thinking(tokens=2))


def test_a_refused_model_can_still_be_used() -> None:
    model = small(WithPositionsOfItsOwn)
    ids = torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    with pytest.raises(PolicyError, match="differently than one by one"):
        QuietModel.wrap(model, word_tokenizer(WORDS), Thinking(tokens=2))
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_a_refused_model_leaves_its_tokenizer_as_it_was() -> None:
    tokenizer = word_tokenizer(WORDS)
    with pytest.raises(PolicyError):
        QuietModel.wrap(small(WithSoftCaps), tokenizer, Thinking(tokens=2))
    assert len(tokenizer) == 46


def test_a_tokenizer_that_already_has_the_tokens_is_refused() -> None:
    tokenizer = word_tokenizer(WORDS)
    model = llama(len(tokenizer))
    QuietModel.wrap(model, tokenizer, Thinking(tokens=2))
    with pytest.raises(PolicyError, match=r"already has <\|startofthought\|>, <\|endofthought\|>.*QuietModel.load"):
        QuietModel.wrap(model, tokenizer, Thinking(tokens=2))
    assert QuietModel.wrap(model, tokenizer, Thinking(tokens=2, names=("<a>", "<b>"))).mark_ids[0] >= 46


def test_text_and_thought_beyond_the_context_are_refused() -> None:
    tokenizer = word_tokenizer(WORDS)
    model = QuietModel.wrap(llama(len(tokenizer), positions=10), tokenizer, Thinking(tokens=3)).eval()
    ids = torch.full((1, 6), 4)
    reading = read_texts(model.lm, ids, torch.ones_like(ids, dtype=torch.bool))
    model.think(reading, torch.tensor([[4]]), greedily)  # 5 tokens, 3 of thought, 2 marks: just fits
    reading = read_texts(model.lm, ids, torch.ones_like(ids, dtype=torch.bool))
    with pytest.raises(PolicyError, match="context of 10"):
        model.think(reading, torch.tensor([[5]]), greedily)
    with pytest.raises(PolicyError, match="context of 10"):
        read_texts(model.lm, torch.full((1, 11), 4), torch.ones(1, 11, dtype=torch.bool))


@pytest.mark.parametrize(("words", "dash"), [(["—", "---", "-"], "—"), (["---", "-"], "---"), (["-", "a"], "-")])
def test_marks_begin_as_the_first_dash_that_the_tokenizer_knows(words: list[str], dash: str) -> None:
    tokenizer = word_tokenizer(words)
    table = torch.randn(len(tokenizer), 8)
    torch.testing.assert_close(like(tokenizer, table, None), table[tokenizer.convert_tokens_to_ids(dash)])


def test_marks_begin_as_the_mean_embedding_where_there_is_no_dash() -> None:
    table = torch.randn(5, 8)
    torch.testing.assert_close(like(word_tokenizer(["a", "b"]), table, None), table.mean(0))


def test_marks_can_begin_as_any_text_that_the_tokenizer_knows() -> None:
    tokenizer = word_tokenizer(["a", "b"])
    table = torch.randn(5, 8)
    torch.testing.assert_close(like(tokenizer, table, "a b"), table[3:5].mean(0))
    with pytest.raises(PolicyError, match="cannot start as 'c'"):
        like(tokenizer, table, "c")


def test_marks_learn_faster_by_their_gradient_weight_under_sgd_and_adam() -> None:
    for weight in (1.0, 100.0):
        marks = Marks(torch.ones(2, 3), gradient_weight=weight)
        torch.testing.assert_close(marks(), torch.ones(2, 3))
        marks().sum().backward()
        torch.testing.assert_close(marks.stored.grad, torch.full((2, 3), weight))
        optimiser = torch.optim.Adam(marks.parameters(), lr=1e-4)
        optimiser.step()
        torch.testing.assert_close(marks(), torch.full((2, 3), 1 - 1e-4 * weight))


def test_the_marks_are_no_tokens_that_the_model_predicts() -> None:
    model = thinker(tokens=2)
    assert model.lm.get_output_embeddings().weight.shape[0] == 46
    assert model.mark_ids == [46, 47] and len(model.tokenizer) == 48


def test_marks_in_unused_rows_of_the_table_are_never_chosen() -> None:
    tokenizer = word_tokenizer(WORDS)
    model = QuietModel.wrap(llama(50), tokenizer, Thinking(tokens=2))
    logits = model.without_marks(torch.zeros(50))
    assert [number for number, value in enumerate(logits.tolist()) if value == -math.inf] == [46, 47]


def test_every_thought_begins_with_the_initial_weight() -> None:
    head = MixingHead(4, initial=0.05)
    torch.testing.assert_close(head(torch.randn(3, 4), torch.randn(3, 4)), torch.full((3,), 0.05))


def test_the_mixture_is_geometric_and_normalised() -> None:
    base, thought = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    mixed = torch.softmax(mixed_logits(base + 3, thought - 1, torch.tensor(0.5)), dim=-1)
    ratio = math.sqrt(9)  # (1 x 9) ** 0.5
    torch.testing.assert_close(mixed, torch.tensor([ratio / (1 + ratio), 1 / (1 + ratio)]))
    torch.testing.assert_close(mixed_logits(base, thought, torch.tensor(0.0)), base)
    torch.testing.assert_close(mixed_logits(base, thought, torch.tensor(1.0)), thought)


@pytest.mark.parametrize(
    "options", [{"tokens": 0}, {"initial_weight": 1.0}, {"gradient_weight": 0.0}, {"names": ("<a>",)}, {"like": ("a",)}]
)
def test_settings_that_make_no_thought_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Thinking(**options)


@pytest.mark.parametrize("kind", ["thought", "pause"])
def test_a_saved_model_thinks_the_same_after_loading(tmp_path: Path, kind: Any) -> None:
    model = thinker(tokens=2, kind=kind, gradient_weight=10.0)
    model.save(tmp_path)
    loaded = QuietModel.load(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        one = model.think(read_texts(model.lm, ids, mask), torch.tensor([[1, 2]]), greedily)
        two = loaded.think(read_texts(loaded.lm, ids, mask), torch.tensor([[1, 2]]), greedily)
    torch.testing.assert_close(one.logits_BNSV, two.logits_BNSV)
    torch.testing.assert_close(one.weight_BS, two.weight_BS)
    assert loaded.thinking == model.thinking and loaded.mark_ids == model.mark_ids
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(plain(input_ids=ids).logits, model.lm(input_ids=ids).logits, atol=1e-5, rtol=0)


def test_a_folder_without_thoughts_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no saved transformers model"):
        QuietModel.load(tmp_path)
    model = thinker(tokens=2)
    model.save(tmp_path)
    (tmp_path / "quiet.json").write_text('{"tokens": 2, "colour": 1}')
    with pytest.raises(PolicyError, match="cannot be read as a model that thinks"):
        QuietModel.load(tmp_path)
    model.save(tmp_path)
    weights = load_file(tmp_path / "quiet.safetensors")
    save_file({"marks.stored": weights["marks.stored"]}, tmp_path / "quiet.safetensors")
    with pytest.raises(PolicyError, match="not those of the model beside them"):
        QuietModel.load(tmp_path)
    (tmp_path / "quiet.json").unlink()
    with pytest.raises(PolicyError, match="quiet.json is missing"):
        QuietModel.load(tmp_path)
