"""Bars of the libraries below: where a person looks, never in a pipe, a log file or over a run's own; and afterwards as
the user had them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import datasets
import pytest
from transformers.utils import logging

from selfcorrect import bars
from selfcorrect.agents import TransformersPolicy, embedded_folder
from selfcorrect.bars import no_foreign_bars, no_unseen_bars
from selfcorrect.settings import combine
from selfcorrect.training.arms.registry import ARMS
from selfcorrect.training.settings import DEMO

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def as_a_user_finds_them(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bars on, as the libraries have them; whatever runs in this process has left them."""
    monkeypatch.setattr(logging, "_tqdm_active", True)
    datasets.enable_progress_bars()
    yield
    assert not datasets.are_progress_bars_disabled()


def draw(libraries: str = "both") -> None:
    """Let transformers and datasets draw a bar each."""
    for _ in logging.tqdm([1], desc="Loading weights"):
        pass
    if libraries == "both":
        datasets.Dataset.from_dict({"a": [1]}).map(lambda row: row)


def test_loading_a_policy_draws_nothing_into_a_pipe(capfd: Captured) -> None:
    TransformersPolicy.from_pretrained(embedded_folder())
    assert capfd.readouterr().err == ""


def test_loading_a_policy_draws_where_a_person_looks(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "looked_at", lambda: True)
    TransformersPolicy.from_pretrained(embedded_folder())
    assert "Loading weights: 100%" in capfd.readouterr().err


def test_a_person_looks_at_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(asked, raising=False)
    assert not bars.looked_at()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert bars.looked_at()


def test_bars_come_back_when_the_last_block_ends(capfd: Captured) -> None:
    with pytest.raises(RuntimeError), no_foreign_bars(), no_unseen_bars():
        draw()
        raise RuntimeError
    assert capfd.readouterr().err == ""
    draw()
    assert "Loading weights: 100%" in (drawn := capfd.readouterr().err) and "Map: 100%" in drawn


def test_blocks_in_several_threads_restore_once(capfd: Captured) -> None:
    with no_foreign_bars():
        other = Thread(target=no_foreign_bars()(draw))
        other.start()
        other.join()
        draw()
    assert capfd.readouterr().err == ""
    draw()
    assert "Map: 100%" in capfd.readouterr().err


def test_what_the_user_has_set_stays(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def hook(factory: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        asked.append(options)
        return factory(*given, **options)

    before = logging.set_tqdm_hook(hook)
    datasets.disable_progress_bars()
    try:
        with no_foreign_bars():
            draw()
        assert not asked and datasets.are_progress_bars_disabled()
        draw("of transformers")
        assert [options["desc"] for options in asked] == ["Loading weights"]
    finally:
        assert logging.set_tqdm_hook(before) is hook
        datasets.enable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_DISABLE_PROGRESS_BARS", False)  # asked for by the environment
    with no_foreign_bars():
        assert not datasets.are_progress_bars_disabled()


SMALL = {
    "score": ["score.stage_one_steps=1", "score.stage_two_steps=1", "optimiser.problems_per_step=2"],
    "sft": ["sft.problems=8", "sft.steps=1", "sft.batch_size=4", "policy.lora.rank=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("arm", SMALL)
@pytest.mark.parametrize("looks", [False, True])
def test_a_run_from_python_draws_no_foreign_bars(
    arm: str, looks: bool, tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    if looks:  # but it has opened its policy by then: that is inside of the run
        monkeypatch.setattr(bars, "looked_at", lambda: True)
    load = ARMS[arm].load
    assert load is not None
    load()(combine(DEMO, {}, [*SMALL[arm], "evaluation.problems=2"]), out=tmp_path, progress=None, resume=False)
    assert "|" not in capfd.readouterr().err
