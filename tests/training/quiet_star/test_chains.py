"""The procedural text: chains are right, asides say what they should, nothing held out is trained on."""

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.training.pretraining.second_looks import UNKNOWN, make_tokenizer
from selfcorrect.training.quiet_star.chain_model import documents
from selfcorrect.training.quiet_star.texts import (
    LARGEST,
    Chain,
    ChainTexts,
    Shares,
    aside_of,
    chains,
    draw_chain,
    pretraining_text,
)

CHAIN = Chain("3 + 9 / 4 * 5 =", (12, 3, 15))


@given(st.integers(0, 10_000))
def test_running_values_are_those_of_the_question_worked_from_the_left(seed: int) -> None:
    chain = draw_chain(random.Random(seed))
    words = chain.question.split()
    value, values = int(words[0]), []
    for sign, operand in zip(words[1:-1:2], map(int, words[2::2]), strict=True):
        assert sign != "/" or value % operand == 0
        value = {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[sign]
        values.append(value)
    assert words[-1] == "=" and tuple(values) == chain.values and 3 <= len(values) <= 8
    assert all(1 <= value <= LARGEST for value in values)


def test_an_aside_stops_early_or_says_the_answer_again() -> None:
    assert [aside_of(CHAIN, length) for length in (1, 3, 5)] == ["12", "12 3 15", "12 3 15 15 15"]


def test_documents_are_of_the_three_kinds_in_their_shares() -> None:
    rng = random.Random(0)
    texts = [pretraining_text(CHAIN, rng, Shares(plain=0.3, worked=0.4)) for _ in range(2000)]
    plain = sum(text == "3 + 9 / 4 * 5 = 15" for text in texts)
    worked = sum(text in {f"3 + 9 / 4 * 5 = : {aside_of(CHAIN, n)} ; 15" for n in range(1, 9)} for text in texts)
    assert 540 < plain < 660 and 740 < worked < 880
    assert all(text.endswith(" 15") for text in texts)


def test_held_out_questions_are_never_trained_on() -> None:
    held_out = {chain.question for chain in islice(chains(0, held_out=True), 300)}
    assert not held_out & {chain.question for chain in islice(chains(0), 3000)}
    assert not held_out & {document.context for document in islice(documents(0), 500)}


def test_texts_leave_the_steps_out_and_mark_the_answer() -> None:
    tokenizer = make_tokenizer()
    texts = ChainTexts(tokenizer, seed=0)
    for text in texts.held_out(50):
        assert ":" not in tokenizer.decode(text.ids) and UNKNOWN not in tokenizer.decode(text.ids)
        (column,) = text.answers
        assert tokenizer.decode(text.ids[column - 1 : column]) == "=" and column == len(text.ids) - 2
    assert texts.training(3, 4) == ChainTexts(tokenizer, seed=0).training(3, 4) != texts.training(4, 4)
