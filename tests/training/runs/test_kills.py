"""Killed and starved runs go on: a few rounds of benchmarks/kills.py, and disks that fill up in the middle."""

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from local_server import why_no_postgres
from long_thinker import LongThinker, think
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.training.own_graph import Trained, train
from selfcorrect.training.runs.progress import SilentProgress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and Linux's RLIMIT_FSIZE"),
]
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "kills.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks/ is not installed")
def test_what_is_killed_at_random_moments_ends_as_if_nothing_had_happened(warm_python: str) -> None:
    """Runs of `train_score` and of one's own graph, and episodes in both kinds of store."""
    command = [warm_python, str(SCRIPT), "--what", "score,own,sqlite,postgres", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if reason := why_no_postgres():
        assert told.pop("postgres") == {"skipped": reason}
    assert set(told) >= {"score", "own", "sqlite"}
    assert all(tally["kills"] == 2 and tally["bit_equal"] for tally in told.values())


class FullDisk(SilentProgress):
    """From `step` on no file may grow past `size` bytes: writes fail half-way, as they do on a full disk."""

    def __init__(self, size: int) -> None:
        self._size = size

    def step(self, metrics: Mapping[str, float]) -> None:
        if metrics["step"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, resource.RLIM_INFINITY))


def trained(folder: Path, out: Path, size: int = 0, *, resume: bool = False) -> Trained:
    policy, progress = policy_from(folder), FullDisk(size) if size else None
    return train(
        graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question, held_out=[], kl=0.0,
        config=config(out, steps=3, save_every=1, problems_per_step=2, episodes_per_problem=2),
        progress=progress, resume=resume,
    )  # fmt: skip


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_a_disk_that_is_full_at_a_checkpoint_is_told_and_the_run_goes_on_bit_equal(
    file: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    whole = trained(tiny_model_folder, tmp_path / "whole")
    size = os.path.getsize(tmp_path / "whole" / "checkpoints" / "checkpoint-3" / file) // 2
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainingError, match=r"cannot write .*checkpoint-2: .*; free some space and resume"):
            trained(tiny_model_folder, tmp_path / "full", size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    resumed = trained(tiny_model_folder, tmp_path / "full", resume=True)
    weights = [(run.model_path / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]
    assert [step["tokens"] for step in resumed.steps] == [step["tokens"] for step in whole.steps]


def test_a_disk_that_is_full_in_a_thread_is_told_and_the_episode_goes_on_bit_equal(tmp_path: Path) -> None:
    thinker, store = LongThinker(tmp_path / "notes"), tmp_path / "store.sqlite"
    whole = asyncio.run(think(thinker, tmp_path / "whole.sqlite"))
    asyncio.run(think(thinker, store, turns=3))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.stat().st_size, unlimited[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"store\.sqlite.*(is full|free some space)"):
            asyncio.run(think(thinker, store))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    resumed = asyncio.run(think(thinker, store))
    assert [turn["generation"]["text"] for turn in resumed.turns] == [
        turn["generation"]["text"] for turn in whole.turns
    ]
