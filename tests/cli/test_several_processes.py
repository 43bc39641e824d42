"""`torchrun -m selfcorrect train score`: one run, however many processes, told once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from local_server import free_port

from selfcorrect.cli.console import LOST, notes, results

DDP = Path(__file__).parents[2] / "configs" / "ddp.yaml"  # not beside an installed wheel
SMALL = (
    "--preset", "demo", "--set", "score.stage_one_steps=1", "--set", "evaluation.problems=10", "--set",
    "evaluation.every=2", "--set", "optimiser.problems_per_step=4", "--set", "optimiser.episodes_per_problem=2",
    "--set", "optimiser.minibatches=1", "--set", "optimiser.ppo_epochs=1", "--set", "save_every=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a command of several processes changes in its own process."""
    heard, quiet = signal.getsignal(signal.SIGTERM), [(console, console.quiet) for console in (notes, results)]
    yield
    signal.signal(signal.SIGTERM, heard)
    for console, was in quiet:
        console.quiet = was


def command(python: str, *arguments: object) -> list[str]:
    launcher = [python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return [*launcher, "-m", "selfcorrect", *map(str, arguments)]


def launched(python: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in two processes, to its end."""
    return subprocess.run(command(python, *arguments), capture_output=True, text=True, timeout=900, check=False)


def launched_by_accelerate(python: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As `launched`, with a config file of accelerate's, by which nothing is asked."""
    launcher = [python, "-m", "accelerate.commands.launch", "--config_file", str(DDP), "--num_processes", "2"]
    own = ["--main_process_port", str(free_port()), "-m", "selfcorrect", *map(str, arguments)]
    return subprocess.run(
        [*launcher, *own], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )


@contextmanager
def launching(folder: Path, python: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in two processes, which have done a step in the run `folder`."""
    with subprocess.Popen(
        command(python, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        try:
            for _ in range(9000):
                if len(steps(folder)) or launcher.poll() is not None:
                    break
                time.sleep(0.1)
            assert launcher.poll() is None, launcher.communicate()[1][-3000:]
            yield launcher
        finally:
            launcher.kill()


def workers(launcher: int) -> dict[int, int]:
    """Process ids by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            parent = re.search(r"PPid:\s+(\d+)", (folder / "status").read_text("utf-8"))
        except OSError:  # it has just ended, or is somebody else's
            continue
        ranks = [entry[5:] for entry in environment if entry.startswith(b"RANK=")]
        if parent is not None and int(parent[1]) == launcher and ranks:
            found[int(ranks[0])] = int(folder.name)
    return found


def steps(folder: Path) -> list[dict[str, Any]]:
    log = folder / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def rewound(run: Path, to: Path, step: int) -> Path:
    """A copy of a finished run, as if it had been killed after `step`."""
    shutil.copytree(run, to)
    for checkpoint in (to / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(checkpoint)
    (to / "metrics.json").unlink()
    shutil.rmtree(to / "model")
    return to


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(run: Any, tmp_path: Path, warm_python: str) -> None:
    """One process, then two, then one: the episodes are those of a run that was never interrupted, each counted
    once, and the run is told of once."""
    whole = tmp_path / "whole"
    run("train", "score", "--out", whole, *SMALL, "--set", "score.stage_two_steps=3", "--set", "keep_checkpoints=4")
    two = rewound(whole, tmp_path / "two", 2)
    both = (launched_by_accelerate if DDP.is_file() else launched)(warm_python, "train", "score", "--resume", two)
    assert both.returncode == 0, both.stderr[-3000:]
    assert both.stdout.count("accuracy@1") == both.stdout.count("report ") == 1
    assert both.stderr.count("step 3/") == both.stderr.count("evaluating the trained policy") == 1
    one = rewound(two, tmp_path / "one", 3)
    assert run("train", "score", "--resume", one).status == 0
    for folder in (two, one):
        assert [row["step"] for row in steps(folder)] == [1, 2, 3, 4]
        for mine, theirs in zip(steps(folder), steps(whole), strict=True):
            for name in ("tokens", "calls", "accuracy_t1", "accuracy_t2", "episode_reward", "eval_accuracy_t2"):
                assert mine.get(name) == pytest.approx(theirs.get(name)), name
        assert final(folder)["budget"] == final(whole)["budget"]
        assert final(folder)["after"]["accuracy"] == pytest.approx(final(whole)["after"]["accuracy"])
        assert (folder / "model" / "README.md").is_file()


def final(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_all_and_is_told_once(tmp_path: Path, warm_python: str) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    done = launched(warm_python, "train", "score", "--out", tmp_path, *SMALL)
    assert done.returncode != 0
    assert done.stderr.count("already holds a run") == 1


@pytest.mark.slow
def test_a_killed_process_ends_the_others_in_words_and_the_run_goes_on(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ours = ("train", "score", "--out", folder, *SMALL, "--set", "score.stage_two_steps=200")
    with launching(folder, sys.executable, *ours) as both:
        os.kill(workers(both.pid)[1], signal.SIGKILL)
        _, said = both.communicate(timeout=300)
    assert both.returncode != 0
    assert said.count(LOST) == 1
    done = len(steps(folder))
    again = launched_alone(run, folder, done)
    assert [row["step"] for row in again] == list(range(1, len(again) + 1))


def launched_alone(run: Any, folder: Path, done: int) -> list[dict[str, Any]]:
    """The steps of the run after it went on in one process, in which its settings were changed to end soon."""
    config = folder / "config.yaml"
    text = config.read_text("utf-8")
    config.write_text(re.sub(r"stage_two_steps: \d+", f"stage_two_steps: {done + 1}", text), encoding="utf-8")
    assert run("train", "score", "--resume", folder).status == 0
    return steps(folder)


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_after_the_same_step_and_is_told_once(tmp_path: Path, warm_python: str) -> None:
    folder = tmp_path / "run"
    ours = ("train", "score", "--out", folder, *SMALL, "--set", "score.stage_two_steps=200")
    with launching(folder, warm_python, *ours) as both:
        both.send_signal(signal.SIGINT)
        _, said = both.communicate(timeout=300)
    done = len(steps(folder))
    assert 0 < done < 201
    assert said.count("Stopped. What was done is saved") == 1
    assert f"torchrun --nproc_per_node 2 -m selfcorrect train score --resume {folder}" in said
    assert (folder / "checkpoints" / f"checkpoint-{done}").is_dir()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("star", "--set", "star.batch_size=31"), "star.batch_size 31 does not divide into 2 processes"),
        (("pair-sft", "--set", "pair_sft.batch_size=31"), "pair_sft.batch_size 31 does not divide"),
        (("vstar", "--set", "vstar.classifier.batch=3"), "vstar.classifier.batch 3 does not divide"),
        (("quiet-star",), "runs in one process, and 2 were started"),
    ],
)
def test_what_cannot_be_divided_is_refused_at_the_start(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("train", *arguments, "--out", tmp_path / "run")
    assert done.status == 2
    assert words in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["compare", "solve", "scale"])
def test_commands_that_do_not_train_refuse_several_processes(
    run: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run(name)
    assert done.status == 2
    assert f"selfcorrect {name} runs in one process, and 2 were started" in done.stderr


def test_a_process_that_is_not_the_first_writes_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    done = run("train", "star", "--preset", "demo", "--out", "nowhere", "--set", "star.batch_size=31")
    assert (done.status, done.stdout, done.stderr) == (2, "", "")
