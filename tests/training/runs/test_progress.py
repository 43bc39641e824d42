"""What a Python program shows of a run where it gives no sink of its own."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from selfcorrect.errors import TrainingError
from selfcorrect.training.runs.progress import (
    BarProgress,
    NotebookProgress,
    ProgressSink,
    SilentProgress,
    usual_progress,
)
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import DEMO


def test_a_bar_is_shown_where_a_person_looks_and_nothing_in_a_pipe() -> None:
    assert isinstance(usual_progress(Console(file=io.StringIO(), force_terminal=True)), BarProgress)
    assert isinstance(usual_progress(Console(file=io.StringIO(), force_jupyter=True)), NotebookProgress)
    assert isinstance(usual_progress(Console(file=io.StringIO())), SilentProgress)
    assert isinstance(usual_progress(), ProgressSink)


def test_the_bar_counts_the_steps_of_all_stages_and_shows_the_last_figures() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    bar = BarProgress(console)
    bar.message("evaluating [the] base policy")
    bar.start(3, "stage 1")
    bar.step({"step": 3, "accuracy_t1": 0.25, "accuracy_t2": 0.5})
    bar.start(2, "stage 2")
    bar.step({"step": 4, "accuracy_t1": 0.25, "accuracy_t2": 0.75})
    bar.close()
    bar.close()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "evaluating [the] base policy" in shown and "stage 2" in shown
    assert "4/5" in shown and "accuracy@1 0.250, accuracy@2 0.750" in shown


def test_a_notebook_gets_a_line_that_counts_the_steps_of_all_stages(capsys: pytest.CaptureFixture[str]) -> None:
    line = NotebookProgress()
    line.message("evaluating [the] base policy")
    line.start(3, "stage 1")
    line.step({"step": 3, "accuracy_t1": 0.25})
    line.start(2, "stage 2")
    line.step({"step": 5, "accuracy_t1": 0.25, "accuracy_t2": 0.75})
    line.close()
    line.close()
    shown = capsys.readouterr()
    assert "evaluating [the] base policy" in shown.out
    assert "stage 2" in shown.err and "5/5" in shown.err and "accuracy@1 0.250, accuracy@2 0.750" in shown.err


def test_a_second_start_of_a_script_says_how_to_go_on(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", DEMO)
    with pytest.raises(TrainingError, match=r"already holds a run: go on with it by resume=True \(--resume .*run\)"):
        RunDirectory.create(tmp_path / "run", DEMO)
