"""Data-parallel training: what one process learns from a batch, two learn from its halves."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import train_as_one_of_many
from safetensors.torch import load_file

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.metrics import over_processes

pytestmark = pytest.mark.slow


def test_two_processes_make_the_same_update_as_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Each plays its half of the problems; gradients meet over gloo. Episodes, rewards and so the weights are those
    of one process."""
    trained = train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone")
    alone = {name: tensor.detach() for name, tensor in trained.model.named_parameters()}
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(  # noqa: PLW1510
        [*launcher, train_as_one_of_many.__file__, str(tiny_model_folder), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together = load_file(tmp_path / "model.safetensors")
    start = load_file(tiny_model_folder / "model.safetensors")
    moved = max(float((alone[name] - start[name]).abs().max()) for name in start)
    apart = max(float((alone[name] - together[name]).abs().max()) for name in start)
    assert moved > 1e-3
    assert apart < 1e-3 * moved
    for mine, theirs in zip(
        trained.state.log_history, json.loads((tmp_path / "log.json").read_text(encoding="utf-8")), strict=True
    ):
        for name in {"tokens", "calls", "draws", "no_baseline", "accuracy_t1", "accuracy_t2"} & set(mine):
            assert theirs[name] == pytest.approx(mine[name]), f"{name}, which budgets and tables are made of"


def test_counts_of_processes_are_added_and_shares_averaged_over_those_that_have_them() -> None:
    """Tokens were averaged once, and the budget of a run on two processes was half of what it had cost."""
    first = {"tokens": 100.0, "calls": 8.0, "accuracy_t1": 0.25, "kl_t1": math.nan}
    second = {"tokens": 60.0, "calls": 8.0, "accuracy_t1": 0.75, "kl_t1": 0.5, "offline": 0.5, "entropy": math.nan}
    assert over_processes([first, second]) == {
        "tokens": 160.0, "calls": 16.0, "accuracy_t1": 0.5, "kl_t1": 0.5, "offline": 0.5
    }  # fmt: skip


def test_a_problem_is_never_split_over_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its episodes are each other's baseline."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="3 problems a step do not divide into 2 processes"):
        TurnPPOConfig(output_dir=tmp_path, steps=1, problems_per_step=3, episodes_per_problem=4)
