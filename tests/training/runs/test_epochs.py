"""The order of problems in runs that are longer than their problems."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.training.runs.fitting import epochs

COUNTS = st.integers(1, 6)


@given(COUNTS, COUNTS, st.integers(0, 20), st.integers(0, 3))
def test_a_longer_run_begins_like_a_shorter_one(batches: int, per_batch: int, spare: int, seed: int) -> None:
    """What a resumed run relies on."""
    problems = range(per_batch + spare)
    short = epochs(problems, batches=batches, per_batch=per_batch, seed=seed)
    long = epochs(problems, batches=batches + 3, per_batch=per_batch, seed=seed)
    assert len(short) == batches * per_batch
    assert long[: len(short)] == short


@given(COUNTS, COUNTS, st.integers(0, 20))
def test_no_batch_holds_a_problem_twice_and_all_come_about_as_often(batches: int, per_batch: int, spare: int) -> None:
    order = epochs(range(per_batch + spare), batches=batches, per_batch=per_batch, seed=0)
    for start in range(0, len(order), per_batch):
        assert len(set(order[start : start + per_batch])) == per_batch
    whole = (per_batch + spare) // per_batch * per_batch
    times = Counter(order[: len(order) // whole * whole])
    assert sum(times.values()) % whole == 0
    assert all(count <= len(order) // whole for count in times.values())


def test_too_few_problems_are_left_for_the_trainer_to_refuse() -> None:
    assert epochs([1, 2], batches=3, per_batch=4, seed=0) == [1, 2]
