"""reasoning-gym's problems: its own scorers judge, and never run what a policy wrote."""

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.registry import Registry
from selfcorrect.rewards import Status, checker_named
from selfcorrect.rewards.reasoning_gym import (
    EXPRESSIONS,
    LITERALS,
    ReasoningGymChecker,
    _evaluates,
    _guarded,
    _reward,
    found_answer,
    from_plain,
    to_plain,
)
from selfcorrect.tasks import TASKS, open_task, task_settings, validate_problems

installed = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="the extra reasoning-gym is not installed; see .ci/doors"
)

KEYS = st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.integers())
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
def test_entries_survive_json(value):
    import json

    assert from_plain(json.loads(json.dumps(to_plain(value)))) == value


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="a object cannot be written as JSON"):
        to_plain({"a": object()})


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so <answer> 12 </answer>", "12"),
        ("<answer>1</answer> no: <answer>2</answer>", "2"),
        (r"\boxed{7}", "7"),
        ("I think.\n**Answer: 42**", "42"),
        ("Final answer: left right", "left right"),
        ("it is 42", None),
        ("<answer></answer>", None),
        ("<think><answer>1</answer>", None),
        ("<think><answer>1</answer></think> <answer>2</answer>", "2"),
    ],
)
def test_the_answer_is_what_the_response_marks(response, answer):
    assert found_answer(response) == answer


ATTACKS = [
    "__import__('os').system('id')",
    "(lambda: 1)()",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "open('/etc/passwd').read()",
    "exit()",
    "1 if 1 else 2",
    "x.func",
    "9!",
    "S('1')",
    "f'{1}'",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", sorted(LITERALS | EXPRESSIONS))
def test_a_scorer_that_evaluates_never_meets_what_is_no_answer(name, attack):
    assert _guarded(name, attack, {"answer": "x**2 + 1", "metadata": {"variable": "x", "valid_answers": []}})


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("countdown", "(3 + 5) * 7"),
        ("puzzle24", "8/(3 - 8/3)"),
        ("polynomial_multiplication", "x**2 + 1"),
        ("simple_integration", "x**3/3 + sin(x) + C"),
        ("binary_matrix", "[[0, 1], [1, 0]]"),
        ("n_queens", "[['Q', '_'], ['_', 'Q']]"),
    ],
)
def test_ordinary_answers_reach_the_scorer(name, answer):
    assert not _guarded(name, answer, {"answer": "x**2 + 1", "metadata": {"variable": "x"}})


def test_countdown_has_no_powers():
    assert _guarded("countdown", "9**9**9", {"answer": "1 + 1", "metadata": {}})


@pytest.mark.parametrize(
    ("source", "evaluates"),
    [
        ("def f(a): return eval(a)", True),
        ("import sympy\ndef f(a): return sympy.parse_expr(a)", True),
        ("def parse_expr(a): return a\nparse_expr('1')", False),
        ("import ast\nast.literal_eval('1')", False),
    ],
)
def test_modules_that_run_text_are_found(source, evaluates):
    assert _evaluates(source) is evaluates


def test_without_the_library_the_task_says_what_to_install():
    if importlib.util.find_spec("reasoning_gym") is not None:
        pytest.skip("it is installed")
    with pytest.raises(TaskError, match="reasoning-gym is not installed: pip install"):
        open_task("reasoning-gym:chain_sum")


def test_the_parameters_of_a_data_set_are_read_from_its_name():
    settings = task_settings("reasoning-gym:chain_sum,min_terms=2,max_terms=3,partial=true")
    assert settings.dataset == "chain_sum" and settings.config == {"min_terms": 2, "max_terms": 3}
    assert settings.partial is True
    assert isinstance(TASKS, Registry)


def test_a_parameter_without_a_value_is_refused():
    with pytest.raises(ConfigurationError, match="expected key=value after chain_sum, got 'min_terms'"):
        task_settings("reasoning-gym:chain_sum,min_terms")


class Scorer:
    """Fails on what it cannot read; or on everything."""

    def __init__(self, broken):
        self.broken = broken

    def score_answer(self, answer, entry):
        if self.broken:
            raise KeyError("metadata")
        return float(int(answer) == int(entry["answer"]))


def test_a_scorer_that_cannot_read_an_answer_pays_nothing_and_one_that_fails_on_gold_abstains():
    assert _reward(Scorer(broken=False), "seven", {"answer": "7"}) == 0.0
    assert _reward(Scorer(broken=False), "7", {"answer": "7"}) == 1.0
    with pytest.raises(KeyError):
        _reward(Scorer(broken=True), "7", {"answer": "7"})


def test_a_data_set_must_be_named():
    with pytest.raises(ConfigurationError, match="dataset"):
        task_settings("reasoning-gym")


@installed
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("chain_sums", "no data set 'chain_sums'"),
        ("chain_sum,min_term=2", "does not take"),
        ("chain_sum,seed=2", "leave out seed: how many problems, and by which seed"),
        ("composite", "name one of them"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_refused(name, complaint):
    with pytest.raises(TaskError, match=complaint):
        open_task(f"reasoning-gym:{name}")


@installed
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["chain_sum", "countdown", "simple_integration", "n_queens", "game_of_life_halting", "maze", "arc_1d"]
)
def test_gold_is_accepted_and_nothing_is_paid_for_junk(name):
    task = open_task(f"reasoning-gym:{name}")
    problems = task.problems("train", 4)
    assert not {p.id for p in problems} & {p.id for p in task.problems("test", 4)}
    assert problems == task.problems("train", 4) != task.problems("train", 4, seed=1)
    checker = checker_named("reasoning-gym")
    for problem in problems:
        assert checker.validate_reference(problem.reference) is None
        assert checker.check_sync(problem.gold, problem.reference).status is Status.CORRECT
        for junk in ("zzz", "__import__('os')._exit(0)"):
            assert checker.check_sync(f"<answer>{junk}</answer>", problem.reference).status is Status.WRONG
        assert checker.check_sync("I cannot say", problem.reference).status is Status.UNREADABLE
    assert validate_problems(problems, task.checker).passed


@installed
@pytest.mark.slow
def test_fractions_are_paid_above_the_floor_only_when_asked_for():
    problem = open_task("reasoning-gym:countdown").problems("train", 1)[0]
    gold = problem.gold.removeprefix("<answer>").removesuffix("</answer>")
    near = f"<answer>{gold} + 0 - 0</answer>"  # other numbers: the scorer pays 0.05 for a form that it can read
    assert ReasoningGymChecker().check_sync(near, problem.reference).score == 0.0
    paid = ReasoningGymChecker(partial=True).check_sync(near, problem.reference)
    assert paid.score == pytest.approx((0.05 - 0.01) / 0.99)
    assert ReasoningGymChecker(partial=True).check_sync("<answer>zzz</answer>", problem.reference).score == 0.0


@installed
@pytest.mark.slow
def test_an_answer_that_keeps_the_scorer_busy_is_wrong():
    problem = open_task("reasoning-gym:polynomial_multiplication").problems("train", 1)[0]
    verdict = ReasoningGymChecker(deadline=2.0).check_sync("<answer>9**9**9**9</answer>", problem.reference)
    assert verdict.status is Status.WRONG and "too costly" in verdict.reason
