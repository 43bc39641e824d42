"""Rows of the ledger: every sampled token is trained once, in the context in which it was sampled."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_policy import call

from selfcorrect.agents.recording import PolicyCall
from selfcorrect.errors import TrainingError
from selfcorrect.training.ppo.batching import rows_of

TOKENS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@st.composite
def episodes(draw: st.DrawFn) -> list[PolicyCall]:
    """Calls that continue an earlier call, fork off one, or start anew."""
    calls: list[PolicyCall] = []
    for _ in range(draw(st.integers(1, 7))):
        prompt = draw(TOKENS)
        if calls and draw(st.booleans()):
            before = draw(st.sampled_from(calls)).generation
            prompt = before["prompt_ids"] + before["completion_ids"] + prompt
        completion = draw(TOKENS)
        calls.append(call(prompt, completion, -torch.rand(len(completion), dtype=torch.float64)))
    return calls


@given(episodes())
def test_every_sampled_token_is_in_one_span_after_its_own_context(calls: list[PolicyCall]) -> None:
    seen = []
    for row in rows_of(calls):
        assert len(row.logprobs) == len(row.ids)
        sampled = [False] * len(row.ids)
        for span in row.spans:
            generation = calls[span.call].generation
            assert row.ids[: span.start] == generation["prompt_ids"]
            assert row.ids[span.start : span.stop] == generation["completion_ids"]
            assert row.logprobs[span.start : span.stop] == generation["logprobs"]
            assert not any(sampled[span.start : span.stop])
            sampled[span.start : span.stop] = [True] * (span.stop - span.start)
            seen.append(span.call)
        assert all(row.logprobs[position] == 0.0 for position, is_sampled in enumerate(sampled) if not is_sampled)
    assert sorted(seen) == list(range(len(calls)))


def test_turns_that_continue_each_other_are_one_row() -> None:
    calls = [call([1, 2], [3], torch.tensor([-0.5])), call([1, 2, 3, 9], [4, 5], torch.tensor([-0.1, -0.2]))]
    (row,) = rows_of(calls)
    assert row.ids == [1, 2, 3, 9, 4, 5]
    assert [(span.start, span.stop) for span in row.spans] == [(2, 3), (4, 6)]


def test_a_call_that_was_shown_something_else_is_a_row_of_its_own() -> None:
    calls = [call([1, 2], [3], torch.tensor([-0.5])), call([1, 9], [4], torch.tensor([-0.1]))]
    assert [row.ids for row in rows_of(calls)] == [[1, 2, 3], [1, 9, 4]]


def test_of_two_branches_the_second_sees_the_common_past_as_context_only() -> None:
    first = call([1], [2], torch.tensor([-0.5]))
    left, right = call([1, 2, 7], [3], torch.tensor([-0.1])), call([1, 2, 8], [4], torch.tensor([-0.2]))
    one, two = rows_of([first, left, right])
    assert (one.ids, two.ids) == ([1, 2, 7, 3], [1, 2, 8, 4])
    assert [span.call for span in one.spans] == [0, 1] and [span.call for span in two.spans] == [2]


def test_a_policy_that_reports_no_token_ids_cannot_be_trained() -> None:
    with pytest.raises(TrainingError, match="node 'node'.*TransformersPolicy"):
        rows_of([call([], [1], torch.tensor([-0.1]))])
