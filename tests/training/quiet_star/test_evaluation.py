"""Means and their errors, and what a page shows of tokens."""

import pytest

from selfcorrect.training.quiet_star.evaluation import JudgedToken, report_page, summarise
from selfcorrect.training.quiet_star.settings import QuietSettings


def token(text: int, nll: float, talk: float, *, answer: bool = False) -> JudgedToken:
    return JudgedToken(text, 1, 5, nll, talk, nll < 1, talk < 1, 0.25, (6, 7), answer)


def test_answers_and_other_tokens_are_told_apart() -> None:
    found = summarise([token(0, 2.0, 0.5, answer=True), token(0, 3.0, 3.0), token(1, 1.0, 1.5), token(1, 0.5, 0.5)])
    assert found["all_gain"] == pytest.approx(0.25) and found["answer_gain"] == 1.5 and found["other_n"] == 3
    assert found["answer_accuracy"] == 0 and found["answer_accuracy_talk"] == 1
    assert found["gain_by_difficulty"] == [0.0, -0.5, 1.5, 0.0]


def test_the_error_of_a_mean_comes_from_differences_between_texts() -> None:
    # gains 1 and 3 in one text, 0 and 0 in the other: mean 1, sums of differences +2 and -2: sqrt(2 x (4 + 4) / 1) / 4
    # tokens
    found = summarise([token(0, 1, 0), token(0, 3, 0), token(1, 0, 0), token(1, 0, 0)])
    assert found["all_gain_standard_error"] == pytest.approx(1.0)
    copies = [token(text, 1.0, 0.0) for text in range(2) for _ in range(50)]
    assert summarise(copies)["all_gain_standard_error"] == 0


def test_a_page_shows_gains_in_colour_and_escapes_what_models_write() -> None:
    row = {"token": "<b>", "nll": 2.0, "talk": 1.5, "weight": 0.5, "thought": "<script>", "answer": True}
    worse = {"token": "9", "nll": 1.0, "talk": 5.0, "weight": 0.5, "thought": "", "answer": False}
    texts = [{"text": 0, "tokens": [{"token": "3"}, row, worse]}]
    page = report_page(QuietSettings(), [], None, texts)
    assert "<script>" not in page and "<b>" not in page
    assert "rgba(46,164,78,0.38)" in page  # green, at half of the strongest colour: 0.75 x 0.5 / 1
    assert "rgba(229,83,75,0.75)" in page  # red, at its strongest
    assert "What the best thoughts say" in page and "<td>+0.500</td>" in page
    assert page.count('tabindex="0" data-told="gain') == 2, "figures are reached by keyboard and touch too"
    nobody = report_page(QuietSettings(), [], None, [{"text": 0, "tokens": [{"token": "3"}, worse]}])
    assert "Which tokens gain" in nobody and "What the best thoughts say" not in nobody
