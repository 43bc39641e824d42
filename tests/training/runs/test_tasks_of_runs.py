"""Runs on tasks and policies of every kind: what they can read, and in which words they are talked to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import COUNTDOWN, SCORE_MATH
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.countdown import CountdownSettings
from selfcorrect.tasks.equations import EquationsSettings
from selfcorrect.tasks.jsonl import JsonlSettings
from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.runs.opening import open_policy, prompts_for
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import (
    EvaluationSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)

pytestmark = pytest.mark.slow


def settings_for(folder: Path, **changes: Any) -> RunSettings:
    """One step of training."""
    return RunSettings(
        **(
            {
                "policy": PolicySettings(model=str(folder), max_new_tokens=4),
                "score": ScoreSettings(stage_one_steps=1, stage_two_steps=0),
                "optimiser": OptimiserSettings(problems_per_step=2, episodes_per_problem=2),
                "evaluation": EvaluationSettings(problems=4),
            }
            | changes
        )
    )


class Notes(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_a_file_that_holds_out_fewer_rows_than_asked_for_is_used_whole_with_a_note(tmp_path: Path) -> None:
    from selfcorrect.tasks.jsonl import JsonlTask
    from selfcorrect.training.runs.held_out import held_out_problems

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} + 1", "answer": n + 1}) + "\n" for n in range(60)))
    task, told = JsonlTask(path), Notes()
    problems = held_out_problems(EvaluationSettings(problems=2000), task, told)
    assert len(problems) == task.available("test") > 0
    assert told.messages == [
        f"rows holds out {len(problems)} problems, fewer than evaluation.problems=2000: all are used"
    ]
    assert len(held_out_problems(EvaluationSettings(problems=2), task, told)) == 2 and len(told.messages) == 1


def test_a_task_that_the_policy_cannot_read_is_refused_before_any_training(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"What is {n} plus one?", "answer": n + 1}) + "\n" for n in range(60))
    )
    settings = settings_for(tiny_model_folder, task=JsonlSettings(path=path))
    with pytest.raises(ConfigurationError, match="cannot read 'What is .*it does not know 'What', 'is', 'plus', 'one"):
        train_score(settings, out=tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_prompts_on_record_reach_the_graph_and_the_trained_policy(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from selfcorrect.agents.prompts import PLAIN, prompts_of, record_prompts

    own = replace(COUNTDOWN, revise="check again :")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    record_prompts(tokenizer, own)
    tokenizer.save_pretrained(tmp_path / "policy")
    AutoModelForCausalLM.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "policy")
    settings = settings_for(tmp_path / "policy")
    assert prompts_for(settings, open_policy(settings.policy)) == own
    train_score(settings, out=tmp_path / "run")
    trained = ScriptedPolicy(lambda messages: "", tokenizer=AutoTokenizer.from_pretrained(tmp_path / "run" / "model"))
    assert prompts_of(trained, english=PLAIN) == own


@pytest.mark.parametrize("task", [CountdownSettings(), EquationsSettings()])
def test_short_problems_are_asked_in_short_words_even_of_policies_that_read_english(task: Any) -> None:
    reader = ScriptedPolicy(lambda messages: "")
    assert prompts_for(RunSettings(task=task), reader) == COUNTDOWN
    in_words = task.model_copy(update={"words": True})
    assert prompts_for(RunSettings(task=in_words), reader) == SCORE_MATH


def test_a_run_on_equations_and_its_report(tmp_path: Path) -> None:
    from selfcorrect.training.pretraining import pretrain

    few = (
        "--hidden 16 --layers 1 --heads 2 --intermediate 16 --rows 4 --solution-steps 1 --mixed-steps 1 "
        "--verdict-steps 1 --retry-steps 1 --attempts 4"
    )
    pretrain.main(["--task", "equations", "--out", str(tmp_path / "policy"), *few.split()])
    result = train_score(settings_for(tmp_path / "policy", task=EquationsSettings()), out=tmp_path / "run")
    assert result.after["n"] == 4
    assert "equations with 3 unknowns" in (tmp_path / "run" / "report.html").read_text()
