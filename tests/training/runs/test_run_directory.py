import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.state import EpisodeState, Generation, Turn
from selfcorrect.errors import ConfigurationError, TaskError, TrainingError
from selfcorrect.settings import combine
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import DEMO, FULL, RunSettings, read_settings


def turn(role: Any, text: str, status: str | None) -> Turn:
    generation = Generation(
        text=text, messages=[], prompt_ids=[1], completion_ids=[2, 3], logprobs=[-0.1, -0.2], finish_reason="stop"
    )
    verdict = None if status is None else {"status": status, "answer": text, "reason": "because", "seconds": 0.1}
    return Turn(role=role, generation=generation, verdict=verdict)  # type: ignore[typeddict-item]


def episode() -> EpisodeState:
    problem = {
        "id": "p1",
        "prompt": "3 5 get 8 :",
        "reference": {"numbers": [3, 5], "target": 8},
        "checker": "countdown",
    }
    turns = [turn("attempt", "5 - 3 = 2", "wrong"), turn("revise", "5 + 3 = 8", "correct")]
    return EpisodeState(problem=problem, seed=0, turns=turns, stop_reason="revisions")


def test_a_new_run_writes_its_settings_and_leaves_no_probe(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a" / "run", DEMO)
    assert read_settings(run.config_path) == DEMO
    assert sorted(os.listdir(run.path)) == ["checkpoints", "config.yaml"]


def test_a_second_run_does_not_overwrite_the_first(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, DEMO)
    with pytest.raises(TrainingError, match="already holds a run"):
        RunDirectory.create(tmp_path, DEMO)


def refused(out: Path, settings: RunSettings, *, resume: bool = False, note: str | None = None) -> None:
    """A run that is refused once it has its folder: its data are not what they should be, say."""
    with opened_run("score", settings, out=out, progress=SilentProgress(), resume=resume) as (run, _):
        if note is not None:
            (run.path / note).write_text("")
        raise TaskError("wrong columns")


def test_a_run_that_was_refused_leaves_the_folder_free_for_another(tmp_path: Path) -> None:
    for settings in (DEMO, FULL):
        with pytest.raises(TaskError):
            refused(tmp_path, settings)
    RunDirectory.create(tmp_path, DEMO, arm="score")
    with pytest.raises(TaskError):
        refused(tmp_path, DEMO, resume=True)
    with pytest.raises(TrainingError, match="already holds a run"):  # nothing of it is lost
        refused(tmp_path, DEMO)


@pytest.mark.parametrize("note", ["metrics.jsonl", "checkpoints/before.json", "notes.txt"])
def test_a_run_of_which_something_came_stays(note: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError):
        refused(tmp_path, DEMO, note=note)
    assert read_settings(tmp_path / "config.yaml") == DEMO
    with pytest.raises(TrainingError, match="already holds a run"):
        refused(tmp_path, FULL)


def test_resuming_takes_the_same_settings_only(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, DEMO)
    assert RunDirectory.create(tmp_path, DEMO, resume=True).path == tmp_path
    assert RunDirectory.create(tmp_path, combine(DEMO, {}, ["save_every=3"]), resume=True).path == tmp_path
    with pytest.raises(ConfigurationError, match=r"other settings of score\.stage_one_steps"):
        RunDirectory.create(tmp_path, FULL, resume=True)


def test_resuming_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no run to resume"):
        RunDirectory.create(tmp_path, DEMO, resume=True)


def test_a_file_in_the_way_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="nothing was trained"):
        RunDirectory.create(tmp_path / "file" / "run", DEMO)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder_is_told_before_anything_starts(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TrainingError, match="Permission denied"):
        RunDirectory.create(tmp_path / "run", DEMO)


@pytest.fixture
def disk_of_one_megabyte() -> Iterator[None]:
    """No file may grow past 1 MiB: writes fail half-way, as they do on a full disk."""
    import resource
    import signal

    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, old_limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
    signal.signal(signal.SIGXFSZ, old_handler)


needs_file_limit = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's RLIMIT_FSIZE")


@needs_file_limit
@pytest.mark.usefixtures("disk_of_one_megabyte")
def test_a_full_disk_is_told_before_anything_starts_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Free some space"):
        RunDirectory.create(tmp_path / "run", DEMO)
    assert os.listdir(tmp_path / "run") == []


@needs_file_limit
def test_a_disk_that_fills_up_later_keeps_the_old_file_and_says_how_to_go_on(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    run.write_final({"n": 1}, {"n": 1})
    request.getfixturevalue("disk_of_one_megabyte")
    with pytest.raises(TrainingError, match=r"metrics\.json: File too large; free some space and resume"):
        run.write_final({"n": 2}, {"words": "x" * 2**21})
    assert run.read_final() == {"before": {"n": 1}, "after": {"n": 1}}


def test_metrics_after_the_checkpoint_are_dropped_and_a_torn_line_with_them(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    for step in range(1, 6):
        run.append_metrics({"step": step, "delta": step / 10})
    with run.metrics_log_path.open("a") as file:
        file.write('{"step": 6, "del')
    run.truncate_metrics(3)
    run.append_metrics({"step": 4, "delta": 0.9})
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4]
    assert run.read_metrics()[-1]["delta"] == 0.9


def test_metrics_are_plain_json_even_when_they_are_not_finite(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    run.append_metrics({"step": 1, "loss": float("nan"), "list": [float("inf"), 1.0]})
    assert json.loads(run.metrics_log_path.read_text()) == {"step": 1, "loss": None, "list": [None, 1.0]}


def test_metrics_need_their_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step"):
        RunDirectory.create(tmp_path, DEMO).append_metrics({"delta": 1.0})


def test_final_figures_come_back_as_written(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    assert run.read_final() is None
    run.write_final({"n": 2, "delta": 0.0}, {"n": 2, "delta": 0.5})
    assert run.read_final() == {"before": {"n": 2, "delta": 0.0}, "after": {"n": 2, "delta": 0.5}}


def test_episodes_are_readable_and_hold_no_token_ids(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    run.write_episodes([episode()], before=[episode()])
    after, before = run.read_episodes()
    assert (after["policy"], before["policy"]) == ("after", "before")
    assert [(row["role"], row["text"], row["verdict"]) for row in after["turns"]] == [
        ("attempt", "5 - 3 = 2", "wrong"),
        ("revise", "5 + 3 = 8", "correct"),
    ]
    assert "completion_ids" not in run.episodes_path.read_text()
