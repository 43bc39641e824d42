"""Data-parallel training: what one process learns from a batch, two learn from its halves."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import train_as_one_of_many
from safetensors.torch import load_file

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.metrics import over_processes

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Together:
    """What two processes made of `train_as_one_of_many.everything`: its folder, and what each wrote."""

    folder: Path
    wrote: list[dict[str, Any]]


@pytest.fixture(scope="module")
def two(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    out = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(  # noqa: PLW1510
        [*launcher, train_as_one_of_many.__file__, str(tiny_model_folder), str(out)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Together(out, [json.loads((out / f"rank-{rank}.json").read_text("utf-8")) for rank in (0, 1)])


def test_two_processes_make_the_same_update_as_one(tiny_model_folder: Path, tmp_path: Path, two: Together) -> None:
    """Each plays its half of the problems; gradients meet over gloo. Episodes, rewards and so the weights are those
    of one process."""
    trained = train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone")
    alone = {name: tensor.detach() for name, tensor in trained.model.named_parameters()}
    together = load_file(two.folder / "model.safetensors")
    start = load_file(tiny_model_folder / "model.safetensors")
    moved = max(float((alone[name] - start[name]).abs().max()) for name in start)
    apart = max(float((alone[name] - together[name]).abs().max()) for name in start)
    assert moved > 1e-3
    assert apart < 1e-3 * moved
    for mine, theirs in zip(
        trained.state.log_history, json.loads((two.folder / "log.json").read_text(encoding="utf-8")), strict=True
    ):
        for name in {"tokens", "calls", "draws", "no_baseline", "accuracy_t1", "accuracy_t2"} & set(mine):
            assert theirs[name] == pytest.approx(mine[name]), f"{name}, which budgets and tables are made of"


def test_all_processes_have_the_critic_of_one(tiny_model_folder: Path, tmp_path: Path, two: Together) -> None:
    trained: Any = train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone", **train_as_one_of_many.CRITIC)
    alone = [parameter.flatten().tolist() for parameter in trained._critic._head.parameters()]
    first, second = (wrote["critic"] for wrote in two.wrote)
    assert first == second
    assert max(map(abs, alone[0])) > 0.1
    for mine, theirs in zip(alone, first, strict=True):
        flat = theirs[0] if isinstance(theirs[0], list) else theirs
        assert flat == pytest.approx(mine, abs=1e-3)


def test_the_prior_of_given_previous_is_that_of_all_processes(two: Together) -> None:
    """The problem's own episodes are compared first; what is expected beside them comes from all problems played."""
    first, second = two.wrote[0]["advantages"]
    assert first + second == pytest.approx(train_as_one_of_many.advantages(slice(None)))
    assert train_as_one_of_many.advantages(slice(0, 4)) != pytest.approx(first), "one process alone expects otherwise"


def test_an_evaluation_is_shared_and_its_figures_are_those_of_one_process(
    tiny_model_folder: Path, two: Together
) -> None:
    alone = train_as_one_of_many.evaluated(tiny_model_folder)
    assert [wrote["evaluated"] for wrote in two.wrote] == [alone, alone]


def test_what_the_first_does_alone_the_others_get_and_an_error_in_one_ends_all(two: Together) -> None:
    assert [wrote["first alone"] for wrote in two.wrote] == ["rank 0", "rank 0"]
    assert {wrote["agreed"] for wrote in two.wrote} == {"TrainingError: no room on the second"}
    assert sorted(wrote["first to tell"] for wrote in two.wrote) == [False, True]


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
