"""Seeds and draws: reproducible, and distributed as they say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.decoding.sampling import draw, invert, nucleus
from selfcorrect.agents.policy import derive_seed, device_uniforms, seed_array, uniforms


def test_splitmix64_gives_its_published_first_numbers() -> None:
    """The generator seeded with 1234567 starts 6457827717110365317, 3203168211198807973."""
    raw = np.array([1234567], dtype=np.uint64)
    expected = [6457827717110365317, 3203168211198807973]
    assert [uniforms(raw, position)[0] for position in range(2)] == [(number >> 16) / 2**48 for number in expected]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20), st.integers(0, 1000))
def test_a_rows_number_depends_on_its_seed_and_position_alone(seeds: list[int], position: int) -> None:
    together = uniforms(seed_array(seeds), position)
    alone = [uniforms(seed_array([seed]), position)[0] for seed in seeds]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 5000)), min_size=1, max_size=20))
def test_a_device_draws_the_same_numbers(rows: list[tuple[int, int]]) -> None:
    seeds = seed_array([seed for seed, _ in rows])
    expected = [uniforms(seeds[row : row + 1], position)[0] for row, (_, position) in enumerate(rows)]
    positions = torch.tensor([position for _, position in rows])
    assert device_uniforms(torch.from_numpy(seeds.view("int64")), positions).tolist() == expected


def test_neighbouring_seeds_and_positions_are_uniform_and_unrelated() -> None:
    table = np.stack([uniforms(seed_array(range(2000)), position) for position in range(20)])
    assert abs(table.mean() - 0.5) < 0.005
    assert np.abs(np.histogram(table, bins=10, range=(0, 1))[0] / table.size - 0.1).max() < 0.005
    assert np.abs(np.corrcoef(table) - np.eye(20)).max() < 0.1


def test_children_of_seeds_do_not_collide() -> None:
    children = {derive_seed(seed, index) for seed in range(100) for index in range(100)}
    assert len(children) == 10_000
    assert all(0 <= child < 2**63 for child in children)


def test_sampling_follows_the_distribution() -> None:
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    uniform = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    counts = torch.bincount(invert(probs.expand(10_000, 4), uniform), minlength=4)
    assert counts.tolist() == pytest.approx([5000, 0, 3000, 2000], abs=1)


def test_a_token_without_mass_is_never_drawn_at_the_edges() -> None:
    probs = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    for uniform in (0.0, 0.5, 1 - 2.0**-48):
        assert invert(probs, torch.tensor([uniform], dtype=torch.float64)).tolist() == [1]


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass() -> None:
    probs = torch.tensor([[0.125, 0.5, 0.375]] * 4, dtype=torch.float64)
    kept = nucleus(probs, torch.tensor([0.05, 0.5, 0.51, 1.0])) > 0
    assert kept.tolist() == [[False, True, False], [False, True, False], [False, True, True], [True, True, True]]


def test_rows_keep_their_own_temperature_and_log_probabilities_know_of_no_cut() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]] * 3)
    temperature = torch.tensor([0.0, 0.5, 2.0])
    tokens, logprobs = draw(
        logits, temperature, torch.tensor([1.0, 0.1, 0.1]), torch.tensor([0.99, 0.99, 0.99], dtype=torch.float64)
    )
    assert tokens.tolist() == [1, 1, 1]  # greedy; and a nucleus of one token
    expected = [torch.log_softmax(row / t, 0)[1] for row, t in zip(logits, (1.0, 0.5, 2.0), strict=True)]
    assert logprobs.tolist() == pytest.approx([float(value) for value in expected])


def test_large_tables_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    arguments = (
        torch.randn(7, 5), torch.tensor([0.0, 1.0, 0.5, 1.0, 1.0, 2.0, 0.0]), torch.full((7,), 0.9),
        torch.rand(7, dtype=torch.float64),
    )  # fmt: skip
    whole = draw(*arguments)
    monkeypatch.setattr("selfcorrect.agents.decoding.sampling._LARGEST_TABLE", 10)
    parts = draw(*arguments)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
