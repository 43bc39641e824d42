"""Pairs, labels and losses of the verifiers' fits, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import WORDS, word_tokenizer

from selfcorrect.agents.choosing.sample_pool import Sample
from selfcorrect.errors import DivergenceError, TrainingError
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.vstar.fits import (
    Both,
    Labelled,
    StepLog,
    outcome_labels,
    preference_pairs,
    refuse_divergence,
    solutions,
    step_labels,
    success_frequencies,
)
from selfcorrect.training.vstar.measuring import scored_figures, with_answer_keys
from selfcorrect.training.vstar.preference import preference_rows
from selfcorrect.training.vstar.verifiers import collate_scored, head_rows, scored_loss


def sample(prompt: str, text: str, correct: bool | None, finish: str = "stop") -> Sample:
    return Sample(prompt, prompt, text, text or None, correct, len(text.split()), finish)


ANSWERED = [
    sample("p", "1 + 1 = 2 ; 2 + 1 = 3", True),
    sample("p", "1 + 1 = 2 ; 2 * 1 = 2", False),
    sample("p", "1 * 1 = 1 ; 1 + 1 = 2", False),
    sample("p", "1 + 1 = 2 ; 2 + 1 = 3", True),
    sample("q", "1 + 1 = 2", True),
    sample("q", "2 + 2 = 5", None),
]


def encoder(wording: Wording | None = None) -> ResponseEncoder:
    return ResponseEncoder(word_tokenizer([*WORDS, "p", "q"]), wording or Wording(), longest=50)


def test_pairs_are_the_product_of_different_right_and_wrong_answers_to_one_problem() -> None:
    pairs = preference_pairs(ANSWERED, per_problem=9, seed=0)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {
        (ANSWERED[0].text, ANSWERED[1].text),
        (ANSWERED[0].text, ANSWERED[2].text),
    }
    assert len(preference_pairs(ANSWERED, per_problem=1, seed=0)) == 1


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_no_pair_mixes_problems_or_labels(drawn: list[tuple[str, str, bool]]) -> None:
    labels = {(prompt, text): right for prompt, text, right in drawn}
    samples = [sample(prompt, text, right) for (prompt, text), right in labels.items()]
    both = [p for p in "pq" if {right for (prompt, _), right in labels.items() if prompt == p} == {True, False}]
    if not both:
        with pytest.raises(TrainingError, match="has both"):
            preference_pairs(samples, per_problem=99, seed=0)
        return
    for pair in preference_pairs(samples, per_problem=99, seed=0):
        assert labels[pair.prompt, pair.chosen] and not labels[pair.prompt, pair.rejected]


def test_without_wrong_or_without_right_answers_there_is_a_clear_stop() -> None:
    with pytest.raises(TrainingError, match=r"none of 1 problems has both \(1 right and 0 wrong answers\)"):
        preference_pairs(ANSWERED[:1], per_problem=4, seed=0)
    with pytest.raises(TrainingError, match="of 2 judged ones 0 are right"):
        outcome_labels(ANSWERED[1:3])
    with pytest.raises(TrainingError, match="of 0 judged ones"):
        step_labels([])


def test_a_steps_target_is_how_often_answers_that_begin_so_are_right() -> None:
    found = success_frequencies([one for one in ANSWERED if one.correct is not None])
    assert found["p", "1 + 1 = 2"] == pytest.approx(2 / 3) and found["p", "1 * 1 = 1"] == 0
    assert found["p", ANSWERED[0].text] == 1 and found["q", "1 + 1 = 2"] == 1
    assert step_labels(ANSWERED)[1].targets == (pytest.approx(2 / 3), 0)


def test_unjudged_answers_teach_nothing() -> None:
    assert len(outcome_labels(ANSWERED)) == 5 and len(step_labels(ANSWERED)) == 5


def test_pairs_are_learnt_as_the_verifier_reads_them() -> None:
    reading = encoder(Wording(review="check : {last_step} right"))
    rows = preference_rows(preference_pairs(ANSWERED, per_problem=1, seed=0), reading)
    decoded = {name: reading.tokenizer.decode(ids) for name, ids in rows[0].items()}
    assert decoded["prompt_ids"] == "p"
    assert decoded["chosen_ids"] == f"{ANSWERED[0].text} <eos> check : 2 + 1 = 3 right <eos>"
    unreadable = preference_pairs([sample("p", "so", True), sample("p", "no", False)], per_problem=1, seed=0)
    with pytest.raises(TrainingError, match="none of 1 pairs of answers can be read"):
        preference_rows(unreadable, reading)


def test_heads_are_asked_at_the_end_or_after_every_step() -> None:
    answer = Labelled("p", "1 + 1 = 2 ; 2 + 1 = 3", (0.5, 1.0))
    assert head_rows("stepwise", [answer], encoder())[0]["places"] == [5, 11]
    whole = head_rows("classifier", [Labelled("p", answer.response, (1.0,))], encoder())[0]
    assert whole["places"] == [12] and len(whole["ids"]) == 13
    with pytest.raises(TrainingError, match="none of 1 answers can be read"):
        head_rows("stepwise", [Labelled("p", "", ())], encoder())


def test_the_loss_is_the_cross_entropy_of_the_scored_places_alone() -> None:
    batch = collate_scored(
        [{"ids": [4, 5, 6], "places": [1, 2], "targets": [0.25, 1.0]}, {"ids": [4], "places": [0], "targets": [0.0]}]
    )
    logits = torch.tensor([[9.0, 0.0, 2.0], [-1.0, 9.0, 9.0]])
    by_hand = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(-1))]
    assert float(scored_loss(logits, batch["targets"])) == pytest.approx(sum(by_hand) / 3)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_generators_learn_different_right_answers_without_the_review() -> None:
    examples = solutions(ANSWERED, encoder())
    assert [example.answer for example in examples] == [ANSWERED[0].text, "1 + 1 = 2"]
    with pytest.raises(TrainingError, match="is right, so the next generator has nothing to learn from"):
        solutions([sample("p", "1 + 1 = 2", True, "length")], encoder())


def test_a_fit_that_went_wrong_is_told() -> None:
    model = torch.nn.Linear(1, 1)
    refuse_divergence(model)
    with torch.no_grad():
        model.bias.fill_(math.nan)
    with pytest.raises(DivergenceError, match="bias is no longer finite"):
        refuse_divergence(model)
    log = StepLog(lambda figures: None)
    with pytest.raises(DivergenceError, match="loss is nan at step 3"):
        log.on_log(None, type("State", (), {"global_step": 3}), None, {"loss": math.nan})


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    before = [weight.clone() for weight in model.parameters()]
    optimiser = Both(model, 0.01)
    model(torch.ones(2, 3)).square().sum().backward()
    optimiser.step()
    assert sorted(group["lr"] for group in optimiser.param_groups) == [pytest.approx(0.0015), 0.01]
    assert not torch.equal(before[0], model[0].weight)
    optimiser.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


def test_votes_count_answers_as_they_are_counted_at_test_time() -> None:
    asked = Problem(id="p", prompt="1 1 1 get 3 :", reference=None, checker="countdown")
    pool = [
        sample("p", "1 + 1 = 2 ; 2 + 1 = 3", True),
        sample("p", "1 + 1 = 2 ; 1 + 2 = 3", True),
        sample("p", "so", False),
    ]
    first, second, unreadable = (one.answer for one in with_answer_keys(pool, [asked]))
    assert first == second is not None and unreadable is None


def test_figures_of_a_pool_by_hand() -> None:
    pool = [sample("p", text, right) for text, right in (("a", True), ("b", False))]
    pool += [sample("q", text, right) for text, right in (("c", False), ("d", False))]
    figures = scored_figures(pool, [0.9, 0.2, 0.6, None])
    means = {how: one["mean"] for how, one in figures["choosing"]["2"].items()}
    assert means == {"oracle": 0.5, "majority": 0.25, "best_of_k": 0.5, "weighted": 0.5}
    assert figures["choosing"]["1"]["best_of_k"]["mean"] == 0.25 and figures["gap_closed"] == 1.0
    assert figures["samples"]["brier"] == pytest.approx((0.01 + 0.04 + 0.36) / 3)
    assert figures["chosen"]["coverage_at_risk"] == {"0.05": 0.5, "0.10": 0.5}
