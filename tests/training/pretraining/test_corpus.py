"""The corpus of the embedded policy: all of it is true, and it does not tell when to revise."""

import itertools
import random

from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.countdown import CountdownTask, split_of
from selfcorrect.training.pretraining.corpus import Attempted, Mixture, mixed
from selfcorrect.training.pretraining.second_looks import worked_out_once_more

CHECKER = CountdownChecker()


def attempted(count: int) -> list[Attempted]:
    """Half of the attempts are the gold solution or another right one, half are falsified in the last step."""
    rng, items = random.Random(0), []
    for problem in itertools.islice(CountdownTask(3).stream("train", seed=3), count):
        attempt = str(problem.gold)
        if rng.random() < 0.5:
            first, last = attempt.split(" ; ")
            left, operator, right, _, value = last.split()
            attempt = f"{first} ; {left} {operator} {right} = {int(value) - 1 or 7}"
        elif rng.random() < 0.5:
            first, last = attempt.split(" ; ")
            a, operator, b, _, value = first.split()
            if operator in "+*":
                attempt = f"{b} {operator} {a} = {value} ; {last}"
        items.append(Attempted(problem, attempt, CHECKER.check_sync(attempt, problem.reference).correct))
    return items


def test_a_second_look_works_the_last_step_out_truly() -> None:
    assert worked_out_once_more("3 + 5 = 8 ; 8 * 7 = 57") == "8 * 7 = 56 "
    assert worked_out_once_more("9 - 4 = 5 ; 7 / 2 = 3") == "7 / 2 = 0 "
    assert worked_out_once_more("99 * 3 = 60") == "99 * 3 = 0 "
    assert worked_out_once_more("3 + 5") == ""


def test_what_comes_after_wrong_is_always_a_right_answer_and_another_one() -> None:
    for document in itertools.islice(mixed(attempted(2000), Mixture(retries=1.0), random.Random(1)), 2000):
        shown = document.context.split(" : ")[1].split(" <eos>")[0]
        if " wrong " in f" {document.continuation}":
            numbers, target = document.context.split(" : ")[0].split(" get ")
            reference = {"numbers": list(map(int, numbers.split())), "target": int(target)}
            answer = document.continuation.split("wrong ")[1]
            assert CHECKER.check_sync(answer, reference).correct
            assert answer != shown
        else:
            assert document.continuation.split("right ")[1] == shown


def test_the_word_before_a_second_answer_does_not_depend_on_the_first_one() -> None:
    """Else pre-training would teach self-correction itself."""
    items = attempted(4000)
    says_right = {True: [0, 0], False: [0, 0]}
    for document in mixed(items, Mixture(retries=1.0, stands_by=0.45), random.Random(2)):
        numbers, target = document.context.split(" : ")[0].split(" get ")
        reference = {"numbers": list(map(int, numbers.split())), "target": int(target)}
        shown = document.context.split(" : ")[1].split(" <eos>")[0]
        counts = says_right[CHECKER.check_sync(shown, reference).correct]
        counts[0] += "right" in document.continuation
        counts[1] += 1
    shares = {correct: right / total for correct, (right, total) in says_right.items()}
    assert abs(shares[True] - shares[False]) < 0.05
    assert abs(shares[True] - 0.45) < 0.04


def test_train_and_test_problems_cannot_overlap() -> None:
    for split in ("train", "test"):
        for problem in CountdownTask(4).problems(split, 300, seed=5):
            assert split_of(problem.reference["numbers"], problem.reference["target"]) == split
