"""Returns and advantages of small tables by hand, and how a credit is chosen: by role, by name, by arm."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.settings import combine, differing_fields
from selfcorrect.training.arms import Arm
from selfcorrect.training.arms.reinforced import multi_turn_return, multi_turn_sum
from selfcorrect.training.credit.estimators import (
    BASELINES,
    call_advantages,
    credited,
    refuse_missing_estimators,
    refuse_unknown_roles,
)
from selfcorrect.training.credit.returns import outcome, progress, return_to_go
from selfcorrect.training.credit.settings import (
    RECIPES,
    Outcome,
    OwnCredit,
    OwnEstimator,
    ReturnToGo,
)
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.settings import DEMO, PRESETS


def table_of(
    *episodes: list[float | None], unjudged: tuple[int, ...] = (), roles: list[int] | None = None
) -> CallTable:
    """Rewards of the calls of each episode, all of one problem; `unjudged` are numbers of calls."""
    rewards = [math.nan if reward is None else reward for rewards in episodes for reward in rewards]
    places = [place for rewards in episodes for place in range(len(rewards))]
    count = len(rewards)
    return CallTable(
        rewards_C=torch.tensor(rewards),
        groups_C=torch.tensor(places),
        previous_C=torch.full((count,), math.nan),
        kinds_C=torch.tensor(places),
        roles_C=torch.tensor(roles or [0] * count),
        kl_coefficients_C=torch.zeros(count),
        learns_C=torch.ones(count),
        offsets=[],
        episodes_C=torch.tensor([number for number, rewards in enumerate(episodes) for _ in rewards]),
        problems_C=torch.zeros(count, dtype=torch.long),
        states_C=torch.tensor(places),
        unjudged_C=torch.tensor([call in unjudged for call in range(count)]),
        branchings_C=torch.arange(count),
        imitated_C=torch.zeros(count, dtype=torch.bool),
        roles=("answer", "critique"),
    )


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


NAN = math.nan


def test_returns_by_hand() -> None:
    table = table_of([1.0, 0.0, 4.0], [2.0])
    close(return_to_go(table, 0.5), [1.0 + 0.0 + 1.0, 0.0 + 2.0, 4.0, 2.0])
    close(outcome(table), [4.0, 4.0, 4.0, 2.0])
    close(progress(table, 0.0), [1.0, -1.0, 4.0, 2.0])
    close(progress(table, 1.0), [4.0, 3.0, 4.0, 2.0])


def test_a_call_that_earns_nothing_itself_earns_what_follows_it() -> None:
    """An unpaid critique between two answers is paid by the answer it led to; one at the end is not paid."""
    table = table_of([1.0, None, 3.0], [2.0, None])
    close(return_to_go(table, 1.0), [4.0, 3.0, 3.0, 2.0, NAN])
    close(outcome(table), [3.0, 3.0, 3.0, 2.0, NAN])
    close(return_to_go(table, 0.0), [1.0, NAN, 3.0, 2.0, NAN])


def test_a_reward_that_nobody_knows_makes_the_returns_that_contain_it_unknown() -> None:
    table = table_of([1.0, None, 3.0], unjudged=(1,))
    close(return_to_go(table, 1.0), [NAN, NAN, 3.0])
    close(outcome(table), [3.0, 3.0, 3.0])
    close(progress(table, 1.0), [NAN, NAN, NAN])
    last = table_of([1.0, None], unjudged=(1,))
    close(outcome(last), [NAN, NAN])


def test_progress_compares_answers_with_answers() -> None:
    """Critiques, role 1, have rewards of their own."""
    table = table_of([0.0, 1.0, 1.0, 0.5], roles=[0, 1, 0, 1])
    close(progress(table, 0.0), [0.0, 1.0, 1.0, -0.5])


# Choosing.


def test_every_role_can_have_a_credit_of_its_own() -> None:
    table = table_of([1.0, 0.0, 4.0], [2.0, 5.0, 6.0], roles=[0, 1, 0, 0, 1, 0])
    mixed = credited(table, OwnCredit(), "none", by_role={"critique": ReturnToGo(gamma=1.0)})
    close(mixed, [1.0, 4.0, 4.0, 2.0, 11.0, 6.0])
    with pytest.raises(ConfigurationError, match="did you mean critique"):
        refuse_unknown_roles(["critic"], table.roles)


def constant(table: CallTable, settings: OwnEstimator) -> Tensor:
    return torch.full_like(table.rewards_C, 0.5)


def ragged(table: CallTable, settings: OwnEstimator) -> Tensor:
    return torch.zeros(1)


def test_a_users_own_estimator_is_found_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    mine = ModuleType("my_credit")
    vars(mine).update(constant=constant, ragged=ragged)
    monkeypatch.setitem(sys.modules, "my_credit", mine)
    table = table_of([1.0, 2.0])
    close(credited(table, OwnEstimator(estimator="my_credit:constant")), [0.5, 0.5])
    with pytest.raises(ConfigurationError, match="one advantage a call"):
        credited(table, OwnEstimator(estimator="my_credit:ragged"))
    with pytest.raises(ConfigurationError, match="did you mean constant"):
        refuse_missing_estimators([OwnCredit(), OwnEstimator(estimator="my_credit:constnt")])
    vars(mine)["three"] = 3
    with pytest.raises(ConfigurationError, match=r"my_credit:three: expected a function \(table, settings\).*an int"):
        credited(table, OwnEstimator(estimator="my_credit:three"))
    vars(mine)["fails"] = lambda table, settings: table.no_such_column
    with pytest.raises(ConfigurationError, match=r"my_credit:fails failed: AttributeError: .*no_such_column"):
        credited(table, OwnEstimator(estimator="my_credit:fails"))


def test_what_earns_by_later_rewards_is_normalised_with_the_rest() -> None:
    table = table_of([None, 1.0], [None, 3.0])
    advantages = call_advantages(table, "none", "role", credit=ReturnToGo(gamma=1.0))
    close(advantages, [-1.0, -1.0, 1.0, 1.0])


def test_columns_of_different_length_are_refused() -> None:
    table = table_of([1.0, 2.0])
    columns = {name: getattr(table, name) for name in CallTable.__slots__}
    with pytest.raises(TrainingError, match="one length"):
        CallTable(**{**columns, "learns_C": torch.ones(3)})


def test_every_baseline_gives_nothing_to_who_abstains() -> None:
    table = table_of([None, 1.0], [2.0, None], [3.0, 4.0], unjudged=(0,))
    for baseline in BASELINES:
        advantages = credited(table, OwnCredit(), baseline)
        assert advantages[[0, 3]].tolist() == [0.0, 0.0] and bool(torch.isfinite(advantages).all()), baseline


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_only_sets_names_of_credit_loss_and_score(name: str) -> None:
    changed = differing_fields(DEMO, PRESETS[name])
    named = {change.partition("=")[0].split(".")[0] for change in RECIPES[name]}
    assert named <= {"credit", "optimiser", "score"}
    assert {field.split(".")[0] for field in changed} <= named
    assert changed and PRESETS[name] == combine(PRESETS[name], {}, RECIPES[name])


@pytest.mark.parametrize("arm", [multi_turn_return, multi_turn_sum])
def test_an_arm_with_a_credit_of_its_own_refuses_another(arm: Arm, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="train multi-turn with it"):
        arm(DEMO.model_copy(update={"credit": Outcome()}), out=tmp_path)
