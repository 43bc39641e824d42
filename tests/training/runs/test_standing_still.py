"""A run whose policy answers as the base did says so when it ends."""

from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.tasks.jsonl import JsonlTask
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.runs.held_out import HeldOut
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import EvaluationSettings, RunSettings


class Told(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def graph(attempt: str, revision: str) -> Any:
    return build_graph(ScriptedPolicy([attempt, revision]), prompts=PLAIN)


@pytest.mark.parametrize(
    ("attempt", "revision", "still"), [("4", "5", True), ("4", "6", False), ("3", "5", False), ("3", "6", False)]
)
def test_answers_of_all_turns_are_compared_with_those_before(
    tmp_path: Path, attempt: str, revision: str, still: bool
) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(f'{{"prompt": "{n} + 1", "answer": {n + 1}}}\n' for n in range(30)))
    run = RunDirectory.create(tmp_path / "run", RunSettings())
    told = Told()
    held_out = HeldOut.of(EvaluationSettings(problems=30), JsonlTask(file, test_share=1.0), run, told)
    before = held_out.before(graph("4", "5"))
    held_out.finish(graph(attempt, revision), before, Budget(0, 0))
    warned = [text for text in told.messages if text.startswith("warning: ")]
    assert len(warned) == still
    assert not still or "100.0% of 60 greedy answers are word for word those of before" in warned[0]
