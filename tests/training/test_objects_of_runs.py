"""An arm takes objects in the place of names: a task of one's own, a policy, a graph, prompts, an objective."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN, prompts_of
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.shaping import Score
from selfcorrect.settings import combine, settings_as_yaml
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.training.arms.reinforced import single_turn, train_score
from selfcorrect.training.arms.sft import pair_sft
from selfcorrect.training.arms.star import star
from selfcorrect.training.arms.untrained import sample_again, self_refine
from selfcorrect.training.ppo.objectives import objective_named
from selfcorrect.training.runs.given import with_objects
from selfcorrect.training.runs.opening import open_graph, open_policy, prompts_for, score_schedule
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import (
    EvaluationSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)
from selfcorrect.training.vstar.rounds import vstar


def is_even(response: str, reference: int) -> bool:
    return sum(map(ord, response)) % 2 == reference


class Talking:
    """Say something whose letters add up to an even number: a toss, for a policy that has learnt nothing."""

    name = "talking"
    checker = is_even
    prompts = "short"

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        first = 10 if split == "train" else 50
        return [
            Problem(id=f"{split}-{n}", prompt=f"{n} get {n} :", reference=0, checker="talk")
            for n in range(first, first + count)
        ]


class OnlyLast:
    """Pays the last answer twice its score."""

    name = "only last"

    def __init__(self, beta1: float = 0.5) -> None:
        self.beta1 = beta1

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return [None] * (len(scores) - 1) + [None if scores[-1] is None else 2 * scores[-1]]

    def critique_rewards(self, scores: Sequence[Score], says_wrong: Sequence[bool | None]) -> list[Score]:
        return [None] * len(says_wrong)

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta1


SETTINGS = RunSettings(
    policy=PolicySettings(max_new_tokens=6),
    score=ScoreSettings(stage_one_steps=1, stage_two_steps=1),
    optimiser=OptimiserSettings(problems_per_step=2, episodes_per_problem=2),
    evaluation=EvaluationSettings(problems=4),
)


@pytest.fixture
def policy(tiny_model_folder: Path) -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(tiny_model_folder, max_new_tokens=6)


def test_a_run_is_made_of_objects_alone(policy: TransformersPolicy, tmp_path: Path) -> None:
    seen: list[Any] = []

    def graph_of(given: Any) -> Any:
        seen.append(given)
        return build_graph(given, prompts=COUNTDOWN)

    before = policy.model.state_dict()["lm_head.weight"].clone()
    result = train_score(
        SETTINGS,
        out=tmp_path / "run",
        task=Talking(),
        policy=policy,
        graph=graph_of,
        prompts=COUNTDOWN,
        objective=OnlyLast(),
    )
    assert result.after["n"] == 4 and set(seen) == {policy}
    assert not (policy.model.state_dict()["lm_head.weight"].cpu() == before.cpu()).all()
    saved = RunDirectory.saved_settings(tmp_path / "run")
    assert saved.task.title == "talking" and saved.policy.model == saved.graph.build == "(given)"
    with pytest.raises(ConfigurationError, match=r"made with a task object \(talking\): give it again as task="):
        saved.task.open()
    for opens in (lambda: open_policy(saved.policy), lambda: score_schedule(saved)):
        with pytest.raises(ConfigurationError, match="give it again as"):
            opens()
    rows = RunDirectory(tmp_path / "run").read_metrics()
    assert [row["stage"] for row in rows] == [1, 2]


def test_the_words_a_policy_was_trained_with_stay_with_it(policy: TransformersPolicy, tmp_path: Path) -> None:
    words = {"prompts": {"revise": "again again :"}}
    settings = combine(SETTINGS, words, [])
    train_score(settings, out=tmp_path / "run", policy=policy, task=Talking())
    trained = TransformersPolicy.from_pretrained(tmp_path / "run" / "model")
    assert prompts_of(trained, english=PLAIN).revise == "again again :"


@pytest.mark.parametrize("arm", [pair_sft, pytest.param(star, marks=pytest.mark.slow)])
def test_arms_that_load_their_policy_again_save_a_given_one(
    arm: Callable[..., Any], policy: TransformersPolicy, tmp_path: Path
) -> None:
    supervised = {"problems": 16, "samples_per_problem": 6, "steps": 1, "batch_size": 2}
    settings = combine(
        SETTINGS, {"star": {**supervised, "loops": 1, "data": "multi+correct"}, "pair_sft": supervised}, []
    )
    arm(settings, out=tmp_path / "run", task=Talking(), policy=policy)
    assert RunDirectory.saved_settings(tmp_path / "run").policy.model == str(tmp_path / "run" / "policy")


def test_an_arm_with_a_loop_of_its_own_refuses_a_graph(policy: TransformersPolicy, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a loop of its own"):
        single_turn(SETTINGS, out=tmp_path / "run", policy=policy, graph=build_graph(policy), task=Talking())


@pytest.mark.parametrize(
    ("arm", "given"),
    [
        (star, {"objective": OnlyLast()}),
        (pair_sft, {"objective": OnlyLast()}),
        (vstar, {"objective": OnlyLast()}),
        (sample_again, {"objective": OnlyLast()}),
        (self_refine, {"graph": build_graph}),
    ],
)
def test_an_object_that_has_no_effect_is_refused(
    arm: Callable[..., Any], given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"{arm.__name__} does not use {next(iter(given))}"):
        arm(SETTINGS, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_compiled_graph_needs_the_policy_it_holds(policy: TransformersPolicy, tiny_model_folder: Path) -> None:
    graph = build_graph(policy)
    other = TransformersPolicy.from_pretrained(tiny_model_folder)
    settings = with_objects(SETTINGS, {"graph": graph, "policy": policy})
    assert open_graph(settings, policy, Talking.checker) is graph  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"give policy=\.\.\. too"):
        open_graph(settings, other, Talking.checker)  # type: ignore[arg-type]


def test_what_is_none_of_its_kind_is_told(policy: TransformersPolicy) -> None:
    for given, told in (
        ({"task": 3}, "the task is no task"),
        ({"policy": "embedded"}, "expected a TransformersPolicy, got a str"),
        ({"objective": 3}, "objective is no objective: it lacks answer_rewards"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            score_schedule(with_objects(SETTINGS, given))  # type: ignore[arg-type]


# A loop and an objective of one's own by name, in a file of settings.


def build_mine(policy: Any) -> Any:
    return build_graph(policy, prompts=COUNTDOWN, revisions=2)


def test_a_graph_and_an_objective_of_ones_own_are_settings(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own_objective.py").write_text(
        "from selfcorrect.agents import build_graph\n"
        "from selfcorrect.training import StageTwo\n"
        "class Mine(StageTwo):\n    def answer_rewards(self, scores):\n        return [0.0 for _ in scores]\n"
        "FIXED = Mine(alpha=3.0)\n"
        "def build(policy):\n    return build_graph(policy, revisions=2)\n"
        "NUMBER = 3\ndef nothing(policy):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = combine(RunSettings(), {"score": {"objective": "own_objective:Mine", "alpha": 7.0, "beta1": 0.3}}, [])
    two = score_schedule(settings).stages[1][0]
    assert (two.alpha, two.answer_rewards([1.0, 0.0])) == (7.0, [0.0, 0.0])  # type: ignore[attr-defined]
    assert two.kl_coefficient(0, 2) == 0.3 and "own_objective:Mine" in settings_as_yaml(settings)
    fixed = objective_named("own_objective:FIXED", settings.score)
    assert fixed.alpha == 3.0  # type: ignore[attr-defined]
    built = combine(RunSettings(), {"graph": {"build": "own_objective:build"}}, [])
    assert open_graph(built, policy, Talking.checker).name == "intrinsic correction"  # type: ignore[arg-type]
    for name, told in {"nothing": "which returned an int", "StageTwoo": "did you mean StageTwo"}.items():
        wrong = combine(RunSettings(), {"graph": {"build": f"own_objective:{name}"}}, [])
        with pytest.raises(ConfigurationError, match=told):
            open_graph(wrong, policy, Talking.checker)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is no objective: expected name, answer_rewards"):
        objective_named("own_objective:NUMBER", settings.score)


def test_prompts_are_those_of_the_task_where_none_are_named() -> None:
    assert prompts_for(RunSettings(), object()) == COUNTDOWN  # type: ignore[arg-type]
