"""What each objective pays and holds to the reference, by hand, and which one a schedule plays when."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.objectives import OBJECTIVES as REGISTERED
from selfcorrect.training.ppo.objectives import (
    PAG,
    MultiTurn,
    Objective,
    Schedule,
    SingleTurn,
    StageOne,
    StageTwo,
    TurnSignal,
    checked_objective,
    objective_named,
)

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "stage 1": StageOne,
    "stage 2": StageTwo,
    "multi-turn": MultiTurn,
    "single-turn": SingleTurn,
    "pag": PAG,
}
UNPAID = [name for name in OBJECTIVES if name != "pag"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_called_by_its_name(name: str) -> None:
    assert OBJECTIVES[name]().name == name


@pytest.mark.parametrize(
    ("objective", "paid"),
    [
        (StageOne(), [None, None, 1.0]),
        (StageOne(learning_answer=1), [None, 0.0, None]),
        (StageTwo(), [1.0, -10.0, 11.0]),  # alpha is 10: 0 + 10 (0 - 1); 1 + 10 (1 - 0)
        (StageTwo(alpha=2.0), [1.0, -2.0, 3.0]),
        (MultiTurn(), [1.0, 0.0, 1.0]),
        (SingleTurn(), [1.0, None, None]),
        (PAG(), [1.0, -1.0, 2.0]),  # alpha is 1
        (PAG(alpha=4.0), [1.0, -4.0, 5.0]),
    ],
)
def test_the_answers_right_wrong_right_are_paid(objective: Objective, paid: list[float | None]) -> None:
    assert objective.answer_rewards([1.0, 0.0, 1.0]) == paid


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (StageOne(), [0.1, 0.1, 0.01]),
        (StageOne(beta1=0.5, beta2=2.0), [2.0, 2.0, 0.5]),
        (StageOne(beta1=0.5, beta2=2.0, learning_answer=1), [2.0, 0.5, 0.5]),
        (StageOne(beta1=0.5, beta2=2.0, learning_answer=0), [0.5, 0.5, 0.5]),
        (StageTwo(), [0.01, 0.01, 0.01]),
        (StageTwo(beta1=0.5), [0.5, 0.5, 0.5]),
        (StageTwo(beta1=0.5, beta_first=3.0), [3.0, 0.5, 0.5]),
        (StageTwo(beta1=0.5, beta_first=0.0), [0.0, 0.5, 0.5]),
        (MultiTurn(), [0.01, 0.01, 0.01]),
        (MultiTurn(beta1=0.5), [0.5, 0.5, 0.5]),
        (SingleTurn(), [0.01, 0.01, 0.01]),
        (SingleTurn(beta1=0.5), [0.5, 0.5, 0.5]),
        (PAG(), [0.0, 0.0, 0.0]),
        (PAG(beta1=0.5), [0.5, 0.5, 0.5]),
    ],
)
def test_each_of_three_answers_is_held_to_the_reference(objective: Objective, weights: list[float]) -> None:
    assert [objective.kl_coefficient(answer, 3) for answer in range(3)] == weights


@pytest.mark.parametrize("name", UNPAID)
def test_critiques_are_paid_by_pag_alone(name: str) -> None:
    assert OBJECTIVES[name]().critique_rewards([1.0, 0.0], [True, None]) == [None, None]


def test_pag_pays_a_critique_for_agreeing_with_the_checker() -> None:
    assert PAG().critique_rewards([1.0, 0.0, None], [True, True, False]) == [0.0, 1.0, None]


def test_a_signal_that_says_no_more_is_of_a_first_answer_that_learns() -> None:
    signal = TurnSignal(reward=1.0, kl_coefficient=0.5)
    assert (signal.previous, signal.kind, signal.learns) == (None, "answer 1", True)


# Schedules.


def test_each_stage_has_its_batches_and_the_last_one_goes_on() -> None:
    one, two, three = StageOne(), StageTwo(), MultiTurn()
    schedule = Schedule(((one, 2), (two, 0), (three, 1)))
    assert [schedule.at(batch) for batch in range(5)] == [one, one, three, three, three]
    assert schedule.total_batches == 3


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any))
def test_a_schedule_plays_its_stages_one_after_the_other(lengths: list[int]) -> None:
    stages = tuple((StageTwo(alpha=float(at)), length) for at, length in enumerate(lengths))
    schedule = Schedule(stages)
    written_out = [objective for objective, length in stages for _ in range(length)]
    assert [schedule.at(batch) for batch in range(schedule.total_batches)] == written_out


@pytest.mark.parametrize("stages", [(), ((StageOne(), 0),), ((StageOne(), 3), (StageTwo(), -1))])
def test_a_schedule_without_a_batch_is_refused(stages: Any) -> None:
    told = "^a training schedule needs at least one stage with at least one batch of episodes$"
    with pytest.raises(ConfigurationError, match=told):
        Schedule(stages)


def test_one_batch_of_one_stage_is_a_schedule() -> None:
    assert Schedule(((StageOne(), 1),)).total_batches == 1


# By name.


WEIGHTS = SimpleNamespace(alpha=4.0, beta1=0.2, beta_first=0.7, of_something_else=1.0)


def test_a_name_makes_its_objective_with_the_weights_that_it_has() -> None:
    assert objective_named("stage-2", WEIGHTS) == StageTwo(alpha=4.0, beta1=0.2, beta_first=0.7)
    assert objective_named("multi-turn", WEIGHTS) == MultiTurn(beta1=0.2)
    assert objective_named("pag", SimpleNamespace(beta1=0.5)) == PAG(beta1=0.5), "the others are its defaults"
    assert {objective_named(name, WEIGHTS).name for name in REGISTERED} == set(OBJECTIVES)
    with pytest.raises(ConfigurationError, match="unknown objective 'stage2'; did you mean stage-2"):
        objective_named("stage2", WEIGHTS)


class Half(StageTwo):
    """A class of one's own."""

    def answer_rewards(self, scores: Sequence[float | None]) -> list[float | None]:
        return [0.5] * len(scores)


class Paying:
    """It has no KL, and no name."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def answer_rewards(self, scores: Sequence[float | None]) -> list[float | None]:
        return list(scores)

    def critique_rewards(self, scores: Sequence[float | None], says_wrong: Sequence[bool | None]) -> list[Any]:
        return list(scores)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("my_objectives")
    monkeypatch.setitem(sys.modules, "my_objectives", module)
    return module


def test_ones_own_is_a_class_a_function_or_an_objective(mine: ModuleType) -> None:
    fixed = Half(alpha=9.0)
    vars(mine).update(Half=Half, made=lambda beta1: StageOne(beta1=beta1, beta2=1.0), fixed=fixed)
    assert objective_named("my_objectives:Half", WEIGHTS) == Half(alpha=4.0, beta1=0.2, beta_first=0.7)
    assert objective_named("my_objectives:made", WEIGHTS) == StageOne(beta1=0.2, beta2=1.0)
    assert objective_named("my_objectives:fixed", WEIGHTS) is fixed


def test_ones_own_that_is_no_objective_is_told_with_what_it_lacks(mine: ModuleType) -> None:
    def torn(alpha: float) -> Any:
        raise OSError("no such disk")

    vars(mine).update(
        number=3, Nothing=ModuleType, Paying=Paying, paying=Paying(), returned=lambda alpha: alpha, torn=torn
    )
    expected = r"; expected name, answer_rewards\(scores\), critique_rewards\(scores, says_wrong\) and kl_coefficient"
    wanted = expected.removeprefix("; ")
    for name, told in {
        "number": f"^my_objectives:number is no objective: {wanted}.*, got an int$",
        "Nothing": f"^my_objectives:Nothing is no objective: {wanted}.*, got the class module$",
        "Paying": f"^my_objectives:Paying is no objective: it lacks kl_coefficient, name{expected}",
        "paying": f"^my_objectives:paying is no objective: it lacks kl_coefficient, name{expected}",
        "returned": "^my_objectives:returned is no objective: it lacks answer_rewards, critique_rewards, kl_.*, name;",
        "torn": f"^my_objectives:torn failed: OSError: no such disk.*{expected}",
    }.items():
        with pytest.raises(ConfigurationError, match=told):
            objective_named(f"my_objectives:{name}", WEIGHTS)


def test_an_objective_is_passed_on_as_it_is() -> None:
    objective = StageOne()
    assert checked_objective(objective, "objective") is objective
    with pytest.raises(ConfigurationError, match="^objective is no objective: it lacks kl_coefficient, name"):
        checked_objective(Paying(), "objective")
