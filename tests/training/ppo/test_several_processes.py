"""Data-parallel training: what one process learns from a batch, two learn from its halves."""

import subprocess
import sys
from pathlib import Path

import pytest
import train_as_one_of_many
from safetensors.torch import load_file

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.config import TurnPPOConfig

pytestmark = pytest.mark.slow


def test_two_processes_make_the_same_update_as_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Each plays its half of the problems; gradients meet over gloo. Episodes, rewards and so the weights are those
    of one process."""
    alone = {
        name: tensor.detach()
        for name, tensor in train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone").model.named_parameters()
    }
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


def test_a_problem_is_never_split_over_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its episodes are each other's baseline."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="3 problems a step do not divide into 2 processes"):
        TurnPPOConfig(output_dir=tmp_path, steps=1, problems_per_step=3, episodes_per_problem=4)
