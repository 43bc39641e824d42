"""Whole comparisons with arms that only pretend to train, and policies that say what they are told."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.tasks.countdown import CountdownSettings, CountdownTask
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.arms.specs import ArmSpec, Budget
from selfcorrect.training.compare.comparison import Comparison, evaluation_of, run_comparison
from selfcorrect.training.compare.report import markdown_table
from selfcorrect.training.compare.result import against_reference, held_out_alarms, write_comparison
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import EvaluationSettings, PolicySettings, RunSettings

pytestmark = pytest.mark.slow

PROBLEMS = 8
COST = Budget(generated_tokens=1000, optimiser_steps=10)


class PretendedTraining:
    """An arm: leaves the tiny model behind as if trained. `dies_at` is the number of the call in which Ctrl-C is
    pressed."""

    def __init__(self, model: Path, *, dies_at: int | None = None) -> None:
        self.model, self.dies_at = model, dies_at
        self.calls: list[tuple[int, bool]] = []

    def __call__(
        self, settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
    ) -> RunResult:
        self.calls.append((settings.seed, resume))
        run = RunDirectory.create(out, settings, resume=resume)
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        run.append_metrics(
            {"step": 1, "tokens": 1000.0, "eval_accuracy_t1": 0.5, "eval_accuracy_t2": 0.75, "eval_delta": 0.25}
        )
        run.append_metrics({"step": 2, "tokens": 500.0, "alarm/copying": 1.0})
        shutil.copytree(self.model, run.model_path)
        run.write_final({}, {}, budget=COST)
        return RunResult(out, {}, {})


def says(right_first: int, right_second: int) -> Callable[..., Any]:
    """A loop whose policy solves the first so many problems at the first and at the second turn."""
    problems = CountdownTask(numbers=3).problems("test", PROBLEMS, seed=0)
    script = {
        problem.prompt: [str(problem.gold) if number < right else "no" for right in (right_first, right_second)]
        for number, problem in enumerate(problems)
    }
    return lambda settings, policy, checker: build_graph(ScriptedPolicy(script), prompts=COUNTDOWN)


def arm_spec(name: str, training: PretendedTraining | None, loop: Callable[..., Any], cost: Budget = COST) -> ArmSpec:
    if training is None:
        return ArmSpec(name, "pretends", loop)
    return ArmSpec(name, "pretends", loop, lambda: training, lambda settings, costs: settings, lambda *_: cost)


@pytest.fixture
def comparison(tiny_model_folder: Path) -> Callable[..., Comparison]:
    def make(made: Sequence[ArmSpec], *, seeds: Sequence[int] = (0, 1), **changes: Any) -> Comparison:
        settings = RunSettings(
            task=CountdownSettings(numbers=3),
            policy=PolicySettings(model=str(tiny_model_folder), max_new_tokens=2),
            evaluation=EvaluationSettings(problems=4),
        )
        return Comparison(made, settings, seeds, **{"problems": PROBLEMS, **changes})

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a comparison whose costs are measured already."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "costs.json").write_text(json.dumps({"attempt": 10.0, "revise": 20.0}))
    return tmp_path / "out"


def test_the_table_has_the_figures_of_every_arm(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    training = PretendedTraining(tiny_model_folder)
    made = comparison([arm_spec("base", None, says(4, 4)), arm_spec("mends", training, says(4, 8))])
    result = write_comparison(made, out, run_comparison(made, out), reference="mends")
    for way in ("greedy", "sampled"):
        figures = {
            name: result[way]["mends"][name]["mean"] for name in ("accuracy_t1", "accuracy_t2", "delta", "i_to_c")
        }
        assert figures == {"accuracy_t1": 0.5, "accuracy_t2": 1.0, "delta": 0.5, "i_to_c": 0.5}
    assert result["greedy"]["base"]["delta"]["by_seed"] == [0.0]  # greedy answers of the base know no seeds
    assert result["sampled"]["base"]["delta"]["by_seed"] == [0.0, 0.0]
    # both arms are paired over 8 problems: four ones and four zeros; 2 seeds agree, so only problems are noise
    test = result["greedy_tests"]["accuracy_t2"]["base"]
    assert test["mean"] == 0.5 and (test["seeds"], test["problems"]) == (2, 8)
    assert result["budgets"]["mends"] == {
        "planned": {"generated_tokens": 1000, "optimiser_steps": 10},
        "measured": {"generated_tokens": 1000, "optimiser_steps": 10},
    }
    assert result["curves"]["mends"] == [{"tokens": 1000.0, "accuracy_t1": 0.5, "accuracy_t2": 0.75, "delta": 0.25}]
    assert result["alarms"] == {"mends": {"copying": [0, 1]}}
    assert result["held_out_alarms"] == {}
    assert "| mends | 2 | 0.500 [0.500, 0.500] | 1.000 [1.000, 1.000] | +0.500" in markdown_table(result, "greedy")


def test_worse_first_answers_with_a_higher_delta_are_called_sandbagging() -> None:
    figures = {"unchanged": 0.5, "tokens_per_episode": 42.0, "truncated": 0.0, "unjudged": 0.0}

    def row(first: float, delta: float) -> dict[str, Any]:
        means = {"accuracy_t1": {"mean": first}, "delta": {"mean": delta}, "unchanged": {"mean": 0.5}}
        return {**figures, **means}

    rows = {"base": row(0.44, 0.0), "fair": row(0.43, 0.05), "sandbags": row(0.30, 0.1), "worse": row(0.30, -0.1)}
    assert list(held_out_alarms(rows, 2000)) == ["sandbags"]
    assert held_out_alarms({"fair": rows["fair"]}, 2000) == {}


def test_the_page_needs_nothing_from_elsewhere(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    made = comparison(
        [arm_spec("base", None, says(4, 4)), arm_spec("mends", PretendedTraining(tiny_model_folder), says(4, 8))]
    )
    write_comparison(made, out, run_comparison(made, out), reference="mends")
    page = (out / "compare.html").read_text()
    assert "<svg" in page and "mends" in page and "copying" in page
    assert "<script" not in page and "src=" not in page and '<link rel="stylesheet"' not in page


def test_what_is_finished_is_not_done_again(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    training = PretendedTraining(tiny_model_folder)
    made = comparison([arm_spec("arm", training, says(4, 8))])
    run_comparison(made, out)
    run_comparison(made, out)
    assert training.calls == [(0, False), (1, False)]
    more = comparison([arm_spec("arm", training, says(4, 8))], seeds=(0, 1, 2))
    run_comparison(more, out)
    assert training.calls == [(0, False), (1, False), (2, False)]


def test_an_interrupted_comparison_resumes_the_run_it_was_in(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    training = PretendedTraining(tiny_model_folder, dies_at=2)
    made = comparison([arm_spec("arm", training, says(4, 8))])
    with pytest.raises(KeyboardInterrupt):
        run_comparison(made, out)
    partial = write_comparison(made, out, {"arm": COST}, reference="arm")
    assert partial["greedy"]["arm"]["seeds"] == [0] and partial["sampled"] == {}
    run_comparison(made, out)
    assert training.calls == [(0, False), (1, False), (1, True)]


def test_unequal_budgets_are_refused_before_anything_is_trained(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    training = PretendedTraining(tiny_model_folder)
    cheap = Budget(generated_tokens=940, optimiser_steps=10)
    made = [arm_spec("dear", training, says(4, 8)), arm_spec("cheap", training, says(4, 8), cheap)]
    with pytest.raises(ConfigurationError, match="cheap: 940 generated tokens, 10 optimiser steps"):
        run_comparison(comparison(made), out)
    assert not training.calls
    run_comparison(comparison(made, allow_unequal=True, seeds=(0,)), out)
    assert len(training.calls) == 2


def test_budgets_within_the_tolerance_are_equal_and_untrained_arms_do_not_count(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    training = PretendedTraining(tiny_model_folder)
    nearly = Budget(generated_tokens=960, optimiser_steps=10)
    made = [
        arm_spec("a", training, says(4, 8)),
        arm_spec("b", training, says(4, 8), nearly),
        arm_spec("c", None, says(1, 1)),
    ]
    run_comparison(comparison(made, seeds=(0,)), out)
    assert len(training.calls) == 2


def test_other_problems_are_refused(comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path) -> None:
    arm = arm_spec("arm", PretendedTraining(tiny_model_folder), says(4, 8))
    run_comparison(comparison([arm], seeds=(0,)), out)
    with pytest.raises(TrainingError, match="evaluated on other problems"):
        run_comparison(comparison([arm], seeds=(0,), problems=4), out)


def test_every_outcome_is_kept(comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path) -> None:
    run_comparison(comparison([arm_spec("arm", PretendedTraining(tiny_model_folder), says(2, 3))], seeds=(0,)), out)
    kept = evaluation_of(out, "arm", 0, "greedy")
    assert kept is not None
    assert kept.scores == [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], *[[0.0, 0.0]] * 5]
    assert kept.gained() == [0.0, 0.0, 1.0, *[0.0] * 5]


def test_differences_within_the_noise_are_called_none(
    comparison: Callable[..., Comparison], out: Path, tiny_model_folder: Path
) -> None:
    made = [arm_spec("one", None, says(4, 5)), arm_spec("other", None, says(4, 4))]
    run_comparison(comparison(made), out)
    found = {name: {seed: evaluation_of(out, name, seed, "greedy") for seed in (0, 1)} for name in ("one", "other")}
    test = against_reference("one", found)["accuracy_t2"]["other"]  # type: ignore[arg-type]
    assert test["mean"] == 0.125 and test["verdict"] == "no difference"


def looks(right_after: int) -> Callable[..., Any]:
    """A loop of nine answers whose policy solves the first three problems from answer number `right_after` on."""
    script = {
        problem.prompt: ["no"] * (right_after - 1) + [str(problem.gold)] * 9 if number < 3 else ["no"] * 9
        for number, problem in enumerate(CountdownTask(numbers=3).problems("test", PROBLEMS, seed=0))
    }
    return lambda settings, policy, checker: build_graph(ScriptedPolicy(script), prompts=COUNTDOWN, revisions=8)


def test_where_answers_are_revised_often_the_table_says_what_came_of_it(
    comparison: Callable[..., Comparison], out: Path
) -> None:
    made = comparison([arm_spec("one", None, looks(3)), arm_spec("other", None, says(1, 1))], seeds=(0,))
    planned = run_comparison(made, out)
    result = write_comparison(made, out, planned, reference="one")
    head, _, one, other = markdown_table(result, "greedy").splitlines()
    assert head.split(" | ")[-6:] == ["accuracy@4", "accuracy@8", "answers", "tokens", "stopped", "of those right |"]
    cells = [cell.partition(" [")[0] for cell in one.split(" | ")]
    assert cells[2:4] == ["0.000", "0.000"] and cells[8:11] == ["0.375", "0.375", "9.0"]
    assert other.split(" | ")[8:11] == ["0.125", "0.125", "2.0"]  # a shorter episode keeps its answer
    assert result["greedy_tests"]["accuracy_final"]["other"]["mean"] == 0.25
    assert "accuracy@8" in (out / "compare.html").read_text()


def told(*rights: str) -> Callable[..., Any]:
    """A loop whose policy answers the n-th problem right where the n-th word has a 1: "0110" is wrong, right, right,
    wrong."""
    problems = CountdownTask(numbers=3).problems("test", PROBLEMS, seed=0)
    words = [*rights, *["0" * len(rights[0])] * (PROBLEMS - len(rights))]
    script = {
        problem.prompt: [str(problem.gold) if right == "1" else "no" for right in word]
        for problem, word in zip(problems, words, strict=True)
    }
    revisions = len(rights[0]) - 1
    return lambda settings, policy, checker: build_graph(ScriptedPolicy(script), prompts=COUNTDOWN, revisions=revisions)


def test_of_three_and_four_answers_the_table_has_what_every_turn_changed(
    comparison: Callable[..., Comparison], out: Path
) -> None:
    arms = [arm_spec("four", None, told("1111", "0110", "0011")), arm_spec("three", None, told("101", "010"))]
    made = comparison(arms, seeds=(0,))
    result = write_comparison(made, out, run_comparison(made, out), reference="four")
    head, _, *rows = markdown_table(result, "greedy").splitlines()
    names = head.strip("| ").split(" | ")[1:]
    four, three = (
        dict(zip(names, (cell.partition(" [")[0] for cell in row.strip("| ").split(" | ")[2:]), strict=True))
        for row in rows
    )
    assert [four[f"accuracy@{turn}"] for turn in (1, 2, 3, 4)] == ["0.125", "0.250", "0.375", "0.250"]
    assert [four[f"delta {turn}→{turn + 1}"] for turn in (1, 2, 3)] == ["+0.125", "+0.125", "-0.125"]
    assert [four[f"i→c {turn}→{turn + 1}"] for turn in (1, 2, 3)] == ["0.125", "0.125", "0.000"]
    assert [four[f"c→i {turn}→{turn + 1}"] for turn in (1, 2, 3)] == ["0.000", "0.000", "0.125"]
    assert [three[f"accuracy@{turn}"] for turn in (1, 2, 3, 4)] == ["0.125"] * 4
    assert [three[f"delta {turn}→{turn + 1}"] for turn in (1, 2, 3)] == ["+0.000", "+0.000", "–"]
    assert [three[f"i→c {turn}→{turn + 1}"] for turn in (1, 2, 3)] == ["0.125", "0.125", "–"]
    assert "delta 3→4" in (out / "compare.html").read_text()
    assert result["greedy_tests"]["accuracy_final"]["three"]["mean"] == 0.125


def test_of_two_answers_the_table_has_no_columns_of_single_turns(
    comparison: Callable[..., Comparison], out: Path
) -> None:
    made = comparison([arm_spec("two", None, told("11", "01"))], seeds=(0,))
    result = write_comparison(made, out, run_comparison(made, out), reference="two")
    assert markdown_table(result, "greedy").splitlines()[0].endswith("| delta | i→c | c→i | unchanged |")


def test_an_unknown_arm_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean multi-turn"):
        arm_specs(["base", "multiturn"])
    assert [found.name for found in arm_specs(["score", "base", "score"])] == ["score", "base"]
