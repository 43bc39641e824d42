"""Each alarm is raised by what it is about, and by nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest

from selfcorrect.errors import TrainingError
from selfcorrect.training.runs.alarms import Watch, alarms, standing_still

START = {
    "unchanged": 0.5,
    "accuracy_t1": 0.4,
    "delta": 0.0,
    "tokens_per_episode": 42.0,
    "truncated": 0.0,
    "unjudged": 0.0,
}
PER_STEP = 256


def raised(**now: float | None) -> list[str]:
    return [alarm.name for alarm in alarms([START | now], START, episodes=PER_STEP)]


def test_a_run_that_goes_well_raises_none() -> None:
    assert raised(accuracy_t1=0.45, delta=0.05, unchanged=0.7) == []


@pytest.mark.parametrize(
    ("now", "name"),
    [
        ({"unchanged": 0.99}, "copying"),
        ({"accuracy_t1": 0.2, "delta": 0.2}, "sandbagging"),
        ({"tokens_per_episode": 84.0}, "length"),
        ({"truncated": 0.2}, "truncation"),
        ({"unjudged": 0.1}, "unjudged"),
        ({"no_verdict": 0.95}, "no_verdict"),
    ],
)
def test_what_goes_wrong_has_its_alarm(now: dict[str, float], name: str) -> None:
    assert raised(**now) == [name]


def test_a_fall_within_the_noise_is_no_sandbagging() -> None:
    # at 0.4 with 256 episodes each, the difference has a standard error of sqrt(2 * 0.24 / 256) = 0.043: 0.3 is 2.3 of
    # them
    assert raised(accuracy_t1=0.3, delta=0.1) == []
    assert raised(accuracy_t1=0.26, delta=0.1) == ["sandbagging"]


def test_first_answers_that_get_worse_without_a_higher_delta_are_no_sandbagging() -> None:
    assert raised(accuracy_t1=0.1, delta=0.0) == []


def test_a_base_that_copies_is_not_blamed_on_training() -> None:
    assert alarms([START | {"unchanged": 1.0}], START | {"unchanged": 1.0}, episodes=PER_STEP) == []


def test_figures_that_were_not_measured_raise_nothing() -> None:
    assert alarms([{}], {}, episodes=PER_STEP) == []
    assert raised(unchanged=None, accuracy_t1=None, delta=None) == []


def steps(*unchanged: float) -> list[Mapping[str, Any]]:
    return [
        {"step": number, "unchanged": share, "tokens": 42.0 * PER_STEP} for number, share in enumerate(unchanged, 1)
    ]


def test_an_alarm_stands_as_long_as_its_cause_and_is_told_once() -> None:
    watch = Watch(PER_STEP)
    standing = [watch.standing(step) for step in steps(*[0.5] * 8, *[1.0] * 6, *[0.5] * 2)]
    assert [bool(found) for found in standing] == [False] * 12 + [True] * 2 + [False] * 2
    assert [alarm.name for alarm in watch.untold(standing[12])] == ["copying"]
    assert watch.untold(standing[13]) == []


def test_a_resumed_run_still_compares_with_its_beginning() -> None:
    whole, resumed = Watch(PER_STEP), Watch(PER_STEP, steps(*[0.5] * 8))
    for step in steps(*[0.5] * 8):
        whole.standing(step)
    late = steps(*[1.0] * 5)
    assert [whole.standing(step) for step in late] == [resumed.standing(step) for step in late]


def test_failed_episodes_and_unrecorded_draws_are_told() -> None:
    steady = {"episodes_failed": 0.05, "calls": 40.0, "draws": 40.0}
    assert alarms([steady] * 5, steady, episodes=40) == []
    told = {
        alarm.name: alarm.words
        for alarm in alarms([{"episodes_failed": 0.2, "calls": 16.0, "draws": 48.0}], {}, episodes=8)
    }
    assert "20.0%" in told["failing"]
    assert "16 of 48 draws were recorded" in told["unrecorded"]


def at_once(*batches: Mapping[str, float]) -> list[list[str]]:
    watch = Watch(PER_STEP)
    return [[alarm.name for alarm in watch.standing(batch)] for batch in batches]


LEARNS = {"accuracy_t1": 0.2, "accuracy_t2": 0.3, "no_signal": 0.5, "grad_norm": 0.1, "truncated": 0.1}


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (LEARNS, []),
        (LEARNS | {"accuracy_t1": 0.0, "accuracy_t2": 0.0}, ["none_correct"]),
        (LEARNS | {"accuracy_t1": 0.0, "accuracy_t2": 0.0, "score_t2": 0.4}, []),  # a checker that gives fractions
        (LEARNS | {"no_signal": 1.0}, ["no_signal"]),
        (LEARNS | {"no_signal": 1.0, "value_loss": 0.3}, []),  # a critic compares with itself
        (LEARNS | {"grad_norm": 0.0}, ["no_gradient"]),
        (LEARNS | {"no_signal": 1.0, "no_verdict": 1.0}, ["no_verdict"]),  # the cause, and what to do about it
        (LEARNS | {"grad_norm": 0.0, "no_verdict": 1.0}, ["no_verdict"]),
        (LEARNS | {"no_signal": 1.0, "no_verdict": 0.3}, ["no_signal"]),
        (LEARNS | {"truncated": 0.51}, ["cut_off"]),
        (LEARNS | {"truncated": 0.5}, []),
    ],
)
def test_the_first_batch_already_shows_that_nothing_can_be_learnt(batch: dict[str, float], names: list[str]) -> None:
    assert at_once(batch) == [names]


def test_a_batch_without_a_correct_answer_after_one_with_some_is_chance() -> None:
    none = LEARNS | {"accuracy_t1": 0.0, "accuracy_t2": 0.0}
    assert at_once(none, LEARNS, none) == [["none_correct"], [], []]


def test_a_run_stops_after_so_many_idle_batches_in_a_row_and_says_what_to_do() -> None:
    idle = LEARNS | {"no_signal": 1.0}
    watch = Watch(PER_STEP, [LEARNS, idle], stop_after_idle=3)
    for batch in (idle, LEARNS, idle, idle):
        watch.standing(batch)
        watch.check()
    watch.standing(idle)
    with pytest.raises(TrainingError, match=r"last 3 batches.*optimiser\.temperature.*optimiser\.stop_after_idle"):
        watch.check()


def test_a_run_that_is_told_never_to_stop_goes_on() -> None:
    watch = Watch(PER_STEP, [LEARNS | {"no_signal": 1.0}] * 50, stop_after_idle=0)
    watch.check()


def test_a_policy_that_answers_as_before_has_hardly_moved() -> None:
    before = [str(n) for n in range(100)]
    moved = [*before[:90], *("other" for _ in range(10))]
    assert standing_still(before, moved) is None
    alarm = standing_still(before, [*before[:91], *("other" for _ in range(9))])
    assert alarm is not None and alarm.name == "standing_still"
    assert "91.0% of 100 greedy answers" in alarm.words and "adapters want ten times" in alarm.words
    assert standing_still(before[:49], before[:49]) is None  # too few to say so
    assert standing_still(before[:50], before[:50]) is not None
    assert standing_still([], []) is None
