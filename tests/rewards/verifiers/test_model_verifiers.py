"""Verifiers that are language models: what they score, what they abstain on, what they refuse, what a folder keeps."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import byte_chat_model, word_tokenizer
from transformers import AutoTokenizer

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.rewards.verifiers import kinds
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording, in_batches, program_in
from selfcorrect.rewards.verifiers.folder import Calibration, Platt, read_calibration, write_calibration
from selfcorrect.rewards.verifiers.kinds import load_verifier, reduced

KINDS = ["likelihood", "classifier", "stepwise"]
PROMPT = "3 5 7 get 26 :"
ANSWERS = ["3 * 7 = 21 ; 21 + 5 = 26", "3 + 5 = 8", "3 * 7 = 21 ; 21 + 5 = 27"]


def scores(verifier: Verifier, answers: list[str]) -> list[float | None]:
    return asyncio.run(verifier.scores(PROMPT, answers))


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(byte_chat_model(tmp_path_factory.mktemp("bytes")))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_probabilities_and_do_not_depend_on_the_batch(make: Any, kind: str) -> None:
    verifier = make(kind)
    together = scores(verifier, ANSWERS)
    assert all(0 < score < 1 for score in together if score is not None) and None not in together
    assert together == scores(verifier, ANSWERS)
    alone = [scores(verifier, [answer])[0] for answer in ANSWERS]
    assert together == pytest.approx(alone, abs=1e-5)
    verifier.max_batch = 1
    assert scores(verifier, ANSWERS) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_answers_get_equal_scores_and_no_answers_get_none(make: Any, kind: str) -> None:
    first, _, again = scores(make(kind), [ANSWERS[0], ANSWERS[1], ANSWERS[0]])
    assert first == again
    assert scores(make(kind), []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_abstained_on_and_counted(make: Any, kind: str) -> None:
    verifier = make(kind)
    assert scores(verifier, ["", " ", "an unknown word", "1 + " * 300 + "1", ANSWERS[0]])[:4] == [None] * 4
    assert verifier.unreadable == 4 and verifier.not_finite == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_that_is_not_a_number_is_an_abstention_and_counted(make: Any, kind: str) -> None:
    verifier = make(kind)
    with torch.no_grad():
        for weight in verifier.model.parameters():
            weight.fill_(math.nan)
    assert scores(verifier, ANSWERS) == [None, None, None]
    assert verifier.not_finite == 3 and verifier.unreadable == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_keeps_everything(make: Any, kind: str, tmp_path: Path) -> None:
    verifier = make(kind, platt=Platt(2.0, -0.5), wording=Wording(separator=" ; "), reduction="min")
    verifier.save(tmp_path)
    loaded = load_verifier(tmp_path, policy_tokenizer=verifier.tokenizer)
    assert type(loaded) is type(verifier) and loaded.card == verifier.card
    assert scores(loaded, ANSWERS) == scores(verifier, ANSWERS)
    assert list(tmp_path.glob("**/*.safetensors")) and not list(tmp_path.glob("**/*.bin"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_mode_is_left_as_it_was(make: Any, kind: str) -> None:
    verifier = make(kind)
    verifier.model.train()
    scores(verifier, ANSWERS)
    assert verifier.model.training


def test_another_tokenizer_is_refused(make: Any, tmp_path: Path) -> None:
    make("classifier").save(tmp_path)
    other = word_tokenizer([str(number) for number in range(50)], pad_token="<pad>")
    with pytest.raises(CheckerError, match="the policy's tokenizer is not the one that this verifier was trained with"):
        load_verifier(tmp_path, policy_tokenizer=other)
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckerError, match="the tokenizer in .* is not the one"):
        load_verifier(tmp_path)


def test_a_folder_that_is_no_verifiers_or_damaged_is_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckerError, match="is no verifier's folder"):
        load_verifier(tmp_path / "nothing")
    make("stepwise").save(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(CheckerError, match="cannot load the verifier's head"):
        load_verifier(tmp_path)
    card = json.loads((tmp_path / "verifier.json").read_text())
    (tmp_path / "verifier.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(CheckerError, match="another version"):
        load_verifier(tmp_path)
    (tmp_path / "verifier.json").write_text("{")
    with pytest.raises(CheckerError, match="damaged"):
        load_verifier(tmp_path)


def test_the_likelihood_is_the_mean_log_probability_of_the_response_tokens(make: Any) -> None:
    verifier = make("likelihood", measure="log_likelihood")
    ids = verifier.tokenizer.encode(f"{PROMPT} {ANSWERS[0]} <eos>", add_special_tokens=False)
    begin = len(PROMPT.split())
    with torch.no_grad():
        logprobs = verifier.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    by_hand = [float(logprobs[place - 1, ids[place]]) for place in range(begin, len(ids))]
    assert verifier.raw_scores([(PROMPT, ANSWERS[0])]) == pytest.approx([sum(by_hand) / len(by_hand)], abs=1e-5)


def test_the_log_ratio_compares_with_the_reference(make: Any) -> None:
    both = make("likelihood")
    alone = make("likelihood", measure="log_likelihood")
    asked = [(PROMPT, answer) for answer in ANSWERS]
    trained = alone.raw_scores(asked)
    alone.model = both.reference
    expected = [own - other for own, other in zip(trained, alone.raw_scores(asked), strict=True)]
    assert both.raw_scores(asked) == pytest.approx(expected, abs=1e-5)


def test_a_log_ratio_without_a_reference_is_refused(make: Any) -> None:
    verifier = make("likelihood")
    with pytest.raises(CheckerError, match="none was given"):
        type(verifier)(verifier.model, None, verifier.tokenizer, verifier.card)


def test_a_step_verifier_scores_unfinished_answers_as_it_scores_their_steps(make: Any) -> None:
    verifier = make("stepwise")
    assert isinstance(verifier, StepVerifier)
    first, second = asyncio.run(verifier.step_scores(PROMPT, ANSWERS[0]))
    unfinished, whole = scores(verifier, ["3 * 7 = 21", ANSWERS[0]])
    assert first == pytest.approx(unfinished, abs=1e-5) and second == pytest.approx(whole, abs=1e-5)
    assert asyncio.run(verifier.step_scores(PROMPT, "")) == []
    assert asyncio.run(verifier.step_scores(PROMPT, "so ; what")) == [None, None]


def test_the_steps_can_be_reduced_to_the_lowest_or_the_product() -> None:
    assert reduced([0.5, -1.0, 2.0], "last") == 2.0 and reduced([0.5, -1.0, 2.0], "min") == -1.0
    both = Platt().probability(0.5) * Platt().probability(-1.0)
    assert Platt().probability(reduced([0.5, -1.0], "product")) == pytest.approx(both)
    assert math.isnan(reduced([0.5, math.nan], "min"))


def test_calibration_leaves_abstentions_out(make: Any) -> None:
    verifier = make("classifier")
    asked = [(PROMPT, f"{number} + 1 = 2") for number in range(20)] + [(PROMPT, "")]
    verifier.calibrate(asked, [number % 3 == 0 for number in range(20)] + [True])
    assert verifier.platt != Platt() and verifier.unreadable == 1
    with pytest.raises(CheckerError, match="right and wrong answers"):
        verifier.calibrate(asked, [True] * 21)


def test_calibration_answers_are_kept_as_they_are(tmp_path: Path) -> None:
    calibration = Calibration(0.7, {"attempt": [(0.25, True), (0.5, False)]})
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration
    with pytest.raises(CheckerError, match="was not calibrated"):
        read_calibration(tmp_path / "nothing")
    (tmp_path / "calibration.json").write_text('{"answers": 3, "temperature": 1}')
    with pytest.raises(CheckerError, match="damaged"):
        read_calibration(tmp_path)


def test_a_review_is_read_after_the_answer_and_counts(make: Any) -> None:
    plain = make("likelihood", measure="log_likelihood")
    reviewing = make("likelihood", measure="log_likelihood", wording=Wording(review="check : {last_step} right"))
    ids = reviewing.encoder.whole(PROMPT, ANSWERS[0]).ids
    shown = f"{PROMPT} {ANSWERS[0]} <eos> check : 21 + 5 = 26 right <eos>"
    assert ids == reviewing.tokenizer.encode(shown, add_special_tokens=False)
    assert scores(reviewing, ANSWERS) != scores(plain, ANSWERS)
    with pytest.raises(CheckerError, match="needs template 'plain'"):
        make("likelihood", wording=Wording(review="check :", template="chat"))


def test_batches_hold_no_more_than_so_many_tokens_with_padding() -> None:
    lengths = [5, 3, 9, 3, 4, 20]
    assert in_batches(lengths, 256, 100) == [[1, 3, 4, 0, 2], [5]]
    batches = in_batches(lengths, 256, 12)
    assert sorted(number for batch in batches for number in batch) == list(range(6))
    assert batches == [[1, 3, 4], [0], [2], [5]], "a row that is too long by itself is read by itself"
    assert in_batches(lengths, 2, 100) == [[1, 3], [4, 0], [2, 5]]
    assert in_batches([], 2, 100) == []


def test_a_large_vocabulary_makes_smaller_batches(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_LOGITS", 40 * 50)
    verifier = make("likelihood")
    sizes: list[tuple[int, ...]] = []
    forward = verifier.model.forward
    verifier.model.forward = lambda input_ids, **rest: (
        sizes.append(tuple(input_ids.shape)) or forward(input_ids=input_ids, **rest)
    )
    alone = make("likelihood").raw_scores([(PROMPT, answer) for answer in ANSWERS])
    assert verifier.raw_scores([(PROMPT, answer) for answer in ANSWERS]) == pytest.approx(alone, abs=1e-5)
    assert len(sizes) > 1 and all(rows == 1 or rows * width * 50 <= 40 * 50 for rows, width in sizes)


PROGRAM = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{PROGRAM}\n```",
        f"Here it is:\n\n```python\n{PROGRAM}\n```\n\nIt adds one, as the task says.",
        f"```py\n\n{PROGRAM}\n\n```",
        f"```python\n{PROGRAM}",
    ],
)
def test_a_verifier_of_programs_reads_nothing_of_what_is_around_them(answer: str) -> None:
    assert program_in(answer) == f"```python\n{PROGRAM}\n```"


def test_an_answer_without_a_program_cannot_be_read(byte_tokenizer: Any) -> None:
    encoder = ResponseEncoder(byte_tokenizer, Wording(reads="program"))
    whole = ResponseEncoder(byte_tokenizer, Wording())
    said = f"Look:\n```python\n{PROGRAM}\n```\nDone."
    assert encoder.whole("p", said) == whole.whole("p", f"```python\n{PROGRAM}\n```") != whole.whole("p", said)
    assert encoder.whole("p", "```text\nI do not know\n```") is None and encoder.whole("p", " ") is None
