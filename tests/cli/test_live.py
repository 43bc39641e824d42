import io

import pytest
from rich.console import Console

from selfcorrect.cli.progress import LivePanel, PlainLines, progress_for
from selfcorrect.cli.tables import FIGURES, figures_in, sparkline
from selfcorrect.training.runs.progress import ProgressSink

STEP = {"accuracy_t1": 0.31, "accuracy_t2": 0.42, "delta": 0.11, "i_to_c": 0.15, "c_to_i": 0.04, "kl_t1": 0.001}
STEP |= {"kl_t2": 0.2, "tokens_per_second": 5123.0}


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def test_a_terminal_gets_a_panel_and_a_file_gets_lines() -> None:
    assert isinstance(progress_for(terminal(), 10), LivePanel)
    assert isinstance(progress_for(plain_console(), 10), PlainLines)
    assert isinstance(progress_for(plain_console(), 10), ProgressSink)


def test_lines_come_about_twenty_times_and_with_every_evaluation() -> None:
    console = plain_console()
    lines = PlainLines(console, 200)
    lines.start(200, "stage 1")
    for step in range(1, 201):
        lines.step({"step": step, **STEP} | ({"eval_delta": 0.05} if step == 77 else {}))
    text = written(console)
    assert len(text.splitlines()) == 1 + 1 + 20 + 1
    assert "stage 1, step 77/200" in text and "held-out delta +0.050" in text
    assert "accuracy@2 0.420" in text and "tokens/s 5,123" in text and "left" in text


def test_the_panel_shows_every_figure_with_its_smoothed_value_and_the_last_evaluation() -> None:
    console = terminal()
    panel = LivePanel(console, 20)
    panel.start(20, "stage 1")
    for step in range(1, 11):
        panel.step({"step": step, **STEP, "delta": step / 100})
    panel.step({"step": 11, **STEP, "delta": 0.11, "eval_delta": 0.044})
    panel.close()
    panel.close()
    console.print(panel.panel())
    text = written(console)
    for figure in FIGURES:
        assert (figure.label in text) == (figure.name in STEP)
    assert "+0.065" in text  # the mean of 0.02 ... 0.11, the last ten steps
    assert "held-out, greedy (step 11)" in text and "+0.044" in text
    assert "step 11/20" in text


def test_figures_that_are_not_measured_are_left_out() -> None:
    console = terminal()
    panel = LivePanel(console, 5)
    panel.step({"step": 1, "accuracy_t1": 0.5})
    console.print(panel.panel())
    assert "KL" not in written(console)


def test_of_long_episodes_the_turns_of_the_reports_are_shown() -> None:
    metrics = {"step": 1, "delta": 0.3, "i_to_c": 0.3, "c_to_i": 0.0}
    for turn in range(1, 10):
        metrics |= {f"accuracy_t{turn}": 0.1 * turn, f"kl_t{turn}": 0.01 * turn, f"delta_t{turn}": 0.1}
    assert [figure.label for figure in figures_in(metrics)] == [
        *(f"accuracy@{turn}" for turn in (1, 2, 4, 8, 9)), "delta", "delta 1→2", "delta 3→4", "delta 7→8", "delta 8→9",
        "i→c", "c→i", *(f"KL turn {turn}" for turn in (1, 2, 4, 8, 9)),
    ]  # fmt: skip


def test_of_short_episodes_every_turn_is_shown() -> None:
    names = [f"{name}_t{turn}" for name in ("accuracy", "kl") for turn in range(1, 5)]
    assert [figure.name for figure in figures_in(names)] == names
    assert [figure.name for figure in figures_in(["eval_accuracy_t1", "eval_accuracy_t3"])] == [
        "accuracy_t1", "accuracy_t3",
    ]  # fmt: skip


def test_a_message_is_shown_until_the_next_step() -> None:
    console = terminal()
    panel = LivePanel(console, 5)
    panel.message("evaluating the base policy")
    console.print(panel.panel())
    assert "evaluating the base policy" in written(console)
    panel.start(5, "stage 1")
    panel.step({"step": 1, **STEP})
    panel.close()
    console.file = io.StringIO()
    console.print(panel.panel())
    assert "evaluating" not in written(console)


def test_a_resumed_run_counts_only_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("selfcorrect.cli.progress.time.monotonic", lambda: now)
    console = plain_console()
    lines = PlainLines(console, 110)
    lines.step({"step": 100, **STEP})
    assert "left" not in written(console)
    now += 30.0
    lines.step({"step": 105, **STEP})  # six seconds a step, whatever the first hundred took
    assert "0:00:30 left" in written(console)


def test_sparklines_run_from_the_least_to_the_largest_value() -> None:
    assert sparkline([0, 1, 2]) == "▁▄█"
    assert sparkline([3, 3]) == "▁▁"


def test_a_long_sparkline_is_the_means_of_equal_parts() -> None:
    assert sparkline([0, 2, 3, 3, 8, 0], width=3) == "▁▅█"


def test_an_alarm_is_shown_as_long_as_it_stands() -> None:
    console = terminal()
    panel = LivePanel(console, 5)
    panel.start(5, "stage 1")
    panel.step({"step": 1, **STEP, "alarm/copying": 1.0})
    console.print(panel.panel())
    assert "alarm: copying" in written(console)
    panel.step({"step": 2, **STEP})
    panel.close()
    console.file = io.StringIO()
    console.print(panel.panel())
    assert "alarm" not in written(console)
