"""Revisions of one shared first answer: how they are played, and what they are compared with."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from small_trainer import trainer_on
from torch import Tensor

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.credit.estimators import credited
from selfcorrect.training.credit.settings import Tree
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.config import TurnPPOConfig


def table_of(trees: list[list[tuple[float, float]]]) -> CallTable:
    """One problem; each tree is a list of branches (reward of the shared first answer, reward of the revision). The
    first answer learns in the first branch."""
    rows = [(tree, branch, k) for tree, branches in enumerate(trees) for branch in range(len(branches)) for k in (0, 1)]
    count = len(rows)
    places = torch.tensor([k for *_, k in rows])
    return CallTable(
        rewards_C=torch.tensor([trees[tree][branch][k] for tree, branch, k in rows], dtype=torch.float64),
        groups_C=places,
        previous_C=torch.full((count,), math.nan),
        kinds_C=places,
        roles_C=torch.zeros(count, dtype=torch.long),
        kl_coefficients_C=torch.zeros(count),
        learns_C=torch.tensor([float(k == 1 or branch == 0) for _, branch, k in rows]),
        offsets=list(range(0, count, 2)),
        episodes_C=torch.arange(count) // 2,
        problems_C=torch.zeros(count, dtype=torch.long),
        states_C=torch.tensor([0 if k == 0 else 1 + tree for tree, _, k in rows]),
        unjudged_C=torch.zeros(count, dtype=torch.bool),
        branchings_C=torch.tensor([tree if k == 0 else 100 + number for number, (tree, _, k) in enumerate(rows)]),
        imitated_C=torch.zeros(count, dtype=torch.bool),
    )


def test_siblings_are_compared_with_each_other_and_first_answers_once() -> None:
    table = table_of([[(1.0, 1.0), (1.0, 0.0)], [(0.0, 1.0), (0.0, 1.0)]])
    # first answers: 1 - 0 and 0 - 1, in one branch each; revisions: 1 - 0, 0 - 1; 1 - 1, 1 - 1
    assert credited(table, Tree()).tolist() == [1.0, 1.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0]


def test_with_a_discount_a_first_answer_is_paid_the_mean_over_its_revisions() -> None:
    table = table_of([[(1.0, 1.0), (1.0, 0.0)], [(0.0, 1.0), (0.0, 1.0)]])
    # 1 + (1 + 0) / 2 = 1.5 against 0 + 1
    assert credited(table, Tree(gamma=1.0))[[0, 4]].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_a_tree_has_the_gradient_that_it_states(gamma: float) -> None:
    """All pairs of trees of two branches, of a policy with two first answers and two revisions: first answers learn
    from r1 + gamma E[r2], revisions from r2 given the first answer. Each tree has one first answer and two
    revisions."""
    first, second = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([[0.5, 0.1], [-0.4, 0.8]]).double()
    p1, p2 = first.softmax(0), second.softmax(1)
    r1, r2 = [1.0, 0.25], [[0.0, 2.0], [1.5, 0.5]]

    def score(probabilities: Tensor, drawn: int) -> Tensor:
        return torch.eye(2, dtype=torch.float64)[drawn] - probabilities

    trees = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    chance = {tree: float(p1[tree[0]] * p2[tree[0], tree[1]] * p2[tree[0], tree[2]]) for tree in trees}
    total = torch.zeros(6, dtype=torch.float64)
    for pair in itertools.product(trees, repeat=2):
        table = table_of([[(r1[a], r2[a][b]), (r1[a], r2[a][c])] for a, b, c in pair])
        advantages = credited(table, Tree(gamma=gamma)).tolist()
        for number, (a, b, c) in enumerate(pair):
            one = torch.zeros(6, dtype=torch.float64)
            one[:2] = advantages[4 * number] * score(p1, a)
            for revision, drawn in ((1, b), (3, c)):
                one[2 + 2 * a : 4 + 2 * a] += advantages[4 * number + revision] * score(p2[a], drawn)
            total += chance[pair[0]] * chance[pair[1]] * one / 2
    exact = torch.zeros(6, dtype=torch.float64)
    for a in (0, 1):
        later = sum(float(p2[a, b]) * r2[a][b] for b in (0, 1))
        exact[:2] += p1[a] * (r1[a] + gamma * later) * score(p1, a)
        for b in (0, 1):
            exact[2 + 2 * a : 4 + 2 * a] += 2 * p1[a] * p2[a, b] * r2[a][b] * score(p2[a], b)
    torch.testing.assert_close(total, exact)


def test_episodes_branch_after_the_first_answer_which_is_played_and_learnt_once(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer, log = trainer_on(tiny_model_folder, tmp_path, steps=1, credit=Tree(branches=2))
    trainer.train()
    episodes = trainer.last_episodes
    assert len(episodes) == 16
    pairs = list(zip(episodes[::2], episodes[1::2], strict=True))
    for trunk, branch in pairs:
        assert trunk.calls[0].generation == branch.calls[0].generation
        assert [signal.learns for signal in trunk.signals] == [True, True]
        assert [signal.learns for signal in branch.signals] == [False, True]
        assert branch.calls[1].generation["prompt_ids"] == trunk.calls[1].generation["prompt_ids"]
    assert any(trunk.calls[1].text != branch.calls[1].text for trunk, branch in pairs)
    sampled = sum(len(call.generation["completion_ids"]) for e in episodes for call in e.calls[e.copied_calls :])
    assert log.steps[0]["tokens"] == sampled


@pytest.mark.parametrize("episodes", [4, 9])
def test_trees_that_do_not_fit_are_refused(tmp_path: Path, episodes: int) -> None:
    with pytest.raises(ConfigurationError, match="multiple of it"):
        TurnPPOConfig(output_dir=tmp_path, steps=1, credit=Tree(branches=4), episodes_per_problem=episodes)
