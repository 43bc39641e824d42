"""Services that are told of a run: files that TensorBoard, MLflow, trackio and W&B write offline are read back."""

import json
import sqlite3
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_trainer import trainer_on

from selfcorrect.errors import ConfigurationError
from selfcorrect.settings import combine
from selfcorrect.training.arms.reinforced import score
from selfcorrect.training.arms.sft import sft
from selfcorrect.training.ppo import keeping
from selfcorrect.training.reporting.services import REPORTED
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings

pytestmark = pytest.mark.slow


def settings_for(folder: Path, *services: str, **changes: Any) -> RunSettings:
    small: dict[str, Any] = {
        "policy": {"model": str(folder), "max_new_tokens": 5},
        "score": {"stage_one_steps": 1, "stage_two_steps": 1},
        "optimiser": {"problems_per_step": 4, "episodes_per_problem": 2},
        "evaluation": {"problems": 4, "every": 1},
        "report_to": list(services),
    }
    return combine(RunSettings(), small | changes, [])


def figures_in(folder: Path) -> tuple[Mapping[str, list[tuple[int, float]]], Mapping[str, str]]:
    """The scalars of an event file by name as (step, value), and the last of its texts by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {name: [(one.step, one.value) for one in events.Scalars(name)] for name in tags["scalars"]}
    texts = {name: events.Tensors(name)[-1].tensor_proto.string_val[0].decode() for name in tags["tensors"]}
    return scalars, texts


def test_tensorboard_has_every_steps_figures_held_out_ones_too_and_episodes(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    score(settings_for(tiny_model_folder, "tensorboard"), out=tmp_path / "run")
    scalars, texts = figures_in(tmp_path / "run" / "tensorboard")
    steps = RunDirectory(tmp_path / "run").read_metrics()
    for name in ("accuracy_t1", "episode_reward", "tokens"):
        assert scalars[f"train/{name}"] == [(row["step"], pytest.approx(row[name])) for row in steps]
    assert [value for _, value in scalars["eval/accuracy_t2"]] == [row["eval_accuracy_t2"] for row in steps]
    table = texts["episodes/text_summary"]
    assert table.startswith("| step | problem | prompt | turn | text | reward |")
    assert "| answer 1 |" in table and "| answer 2 |" in table


def test_the_fits_of_a_supervised_arm_are_told_with_what_they_learn(tiny_model_folder: Path, tmp_path: Path) -> None:
    changes = {
        "sft": {"problems": 8, "steps": 4, "batch_size": 4},
        "policy": {"model": str(tiny_model_folder), "max_new_tokens": 40},
    }
    sft(settings_for(tiny_model_folder, "tensorboard", **changes), out=tmp_path / "run")
    scalars, texts = figures_in(tmp_path / "run" / "loops" / "loop-1" / "tensorboard")
    (row,) = RunDirectory(tmp_path / "run").read_metrics()
    assert scalars["train/loss"][0] == (1, pytest.approx(row["sft_loss_first"]))
    assert scalars["train/examples"][-1][1] == row["examples"]
    assert scalars["eval/accuracy_t1"][-1][1] == row["eval_accuracy_t1"]
    assert texts["examples/text_summary"].startswith("| step | problem | kind | first | answer |")


def test_a_trainer_of_ones_own_reports_beside_its_checkpoints(tiny_model_folder: Path, tmp_path: Path) -> None:
    trainer, log = trainer_on(tiny_model_folder, tmp_path, report_to=["tensorboard"])
    trainer.train()
    scalars, _ = figures_in(tmp_path / "tensorboard")
    assert [value for _, value in scalars["train/tokens"]] == [row["tokens"] for row in log.steps]


@pytest.mark.filterwarnings("ignore:For backward compatibility, 'str' dtypes")  # MLflow with pandas 3
def test_mlflow_files_hold_figures_and_a_table_of_all_steps(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("DISABLE_MLFLOW_INTEGRATION")  # tests/conftest.py; TRL looked when it was imported
    monkeypatch.setattr("trl.extras.profiling.mlflow", mlflow, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its default is a database, which mlflow-skinny lacks
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlflow")
    try:
        score(settings_for(tiny_model_folder, "mlflow"), out=tmp_path / "run")
        assert mlflow.active_run() is None
        (run,) = mlflow.search_runs(output_format="list")
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "accuracy_t1")
        episodes = mlflow.load_table("episodes.json", run_ids=[run.info.run_id])
    finally:
        mlflow.set_tracking_uri(None)
    steps = RunDirectory(tmp_path / "run").read_metrics()
    assert run.info.run_name == "run"
    assert sorted((one.step, one.value) for one in history) == [(row["step"], row["accuracy_t1"]) for row in steps]
    assert set(episodes["step"]) == {1, 2} and set(episodes["turn"]) == {"answer 1", "answer 2"}


def test_trackio_keeps_figures_and_episodes_in_its_own_folder(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trackio = pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    for module in ("sqlite_storage", "media"):
        monkeypatch.setattr(f"trackio.{module}.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    score(settings_for(tiny_model_folder, "trackio"), out=tmp_path / "run")
    assert trackio and capfd.readouterr().out == "", "standard output is for results"
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as rows:
        told = [json.loads(row[0]) for row in rows.execute("select metrics from metrics order by id")]
    steps = RunDirectory(tmp_path / "run").read_metrics()
    assert [one["train/episode_reward"] for one in told if "train/episode_reward" in one] == [
        row["episode_reward"] for row in steps
    ]
    assert sum("episodes" in one for one in told) == 2


def test_wandb_offline_writes_its_run_and_the_tables(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    score(settings_for(tiny_model_folder, "wandb"), out=tmp_path / "run")
    assert wandb.run is None, "the next fit of this process gets a run of its own"
    tables = [json.loads(path.read_text()) for path in tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")]
    assert len(tables) == 2 and all(table["columns"][-1] == "reward" for table in tables)


def test_a_service_that_is_not_installed_is_refused_before_anything_is_written(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    with pytest.raises(ConfigurationError, match=r"report_to: wandb is not installed: pip install .*wandb"):
        score(settings_for(tiny_model_folder, "tensorboard", "wandb"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_service_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="report_to: expected 'tensorboard', 'trackio', 'wandb' or 'mlflow'"):
        settings_for(Path("m"), "wandb", "papyrus")


def test_every_reporter_that_can_be_named_has_a_way_to_show_a_table() -> None:
    from typing import get_args

    assert set(REPORTED) == set(get_args(keeping.ReporterName))
