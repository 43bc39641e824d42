"""V-STaR end to end on a handful of problems: what a run leaves behind, and that it can be taken up again anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from selfcorrect.agents.choosing.sample_pool import read_pool
from selfcorrect.errors import CheckerError, TaskError, TrainingError
from selfcorrect.rewards.verifiers.folder import read_calibration
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.training.settings import EvaluationSettings, RunSettings
from selfcorrect.training.vstar import rounds
from selfcorrect.training.vstar.rounds import vstar
from selfcorrect.training.vstar.settings import GeneratorSettings, HeadSettings, PreferenceSettings, VstarSettings

pytestmark = pytest.mark.slow

SMALL = RunSettings(
    evaluation=EvaluationSettings(problems=4),
    vstar=VstarSettings(
        rounds=2,
        problems=6,
        samples_per_problem=6,
        generator=GeneratorSettings(epochs=1),
        likelihood=PreferenceSettings(pairs_per_problem=4, batch=16),
        classifier=HeadSettings(batch=32),
        stepwise=HeadSettings(batch=32),
        calibration_problems=10,
        calibration_samples=8,
        candidates=4,
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vstar(SMALL, out=tmp_path_factory.mktemp("vstar") / "run").directory


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_generators_and_verifiers_behind(finished: Path) -> None:
    assert [row["step"] for row in rows(finished)] == [1, 2, 3, 4, 5]
    for kind in ("likelihood", "classifier", "stepwise"):
        verifier = load_verifier(finished / "verifiers" / kind)
        scores = verifier.score_all([("3 5 7 9 get 56 :", "3 + 5 = 8 ; 8 * 7 = 56")])
        assert scores[0] is not None and 0 < scores[0] < 1
        assert set(read_calibration(finished / "verifiers" / kind).answers) == {"attempt", "best_of_8"}
    assert len(read_pool(finished / "rounds" / "2" / "samples.jsonl")) == 36


def test_the_published_model_is_the_last_generator_and_none_is_a_verifier(finished: Path) -> None:
    last, published, verifier = (
        load_file(finished / place / "model.safetensors")
        for place in ("rounds/2/generator", "model", "verifiers/likelihood/model")
    )
    assert all(bool((last[name] == published[name]).all()) for name in last)
    assert any(not bool((last[name] == verifier[name]).all()) for name in last)


def test_figures_and_page_tell_what_choosing_is_worth(finished: Path) -> None:
    figures = json.loads((finished / "verifiers.json").read_text())
    assert set(figures) == {"likelihood", "classifier", "stepwise"}
    for one in figures.values():
        last = one["choosing"]["4"]
        assert 0 <= last["best_of_k"]["mean"] <= last["oracle"]["mean"] <= 1
    page = (finished / "verifiers.html").read_text()
    assert page.count("<svg") == 3 and "http://" not in page.replace("http://www.w3.org", "")
    final = json.loads((finished / "metrics.json").read_text())
    assert final["budget"]["generated_tokens"] == sum(row["tokens"] for row in rows(finished))
    assert final["budget"]["optimiser_steps"] == sum(row["optimiser_steps"] for row in rows(finished)) > 0


def test_calibration_problems_are_nobody_elses(finished: Path) -> None:
    learnt = {one.id for number in (1, 2) for one in read_pool(finished / "rounds" / str(number) / "samples.jsonl")}
    kept = {one.id for one in read_pool(finished / "calibration.jsonl")}
    held_out = {one.id for one in read_pool(finished / "held_out.jsonl")}
    assert not learnt & kept and not (learnt | kept) & held_out


def test_a_run_that_died_goes_on_and_ends_as_if_it_had_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], rounds.train_verifier

    def dying(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(rounds, "train_verifier", dying)
    with pytest.raises(KeyboardInterrupt):
        vstar(SMALL, out=tmp_path / "run")
    vstar(SMALL, out=tmp_path / "run", resume=True)
    assert rows(tmp_path / "run") == rows(finished)
    assert (tmp_path / "run" / "verifiers.json").read_text() == (finished / "verifiers.json").read_text()


def changed(**changes: Any) -> RunSettings:
    return SMALL.model_copy(update={"vstar": SMALL.vstar.model_copy(update=changes)})


def test_a_policy_that_is_never_right_stops_the_run_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(problems=2, samples_per_problem=2)
    monkeypatch.setattr("selfcorrect.rewards.countdown.CountdownChecker._judge", never_right)
    with pytest.raises(TrainingError, match="none of 4 sampled answers is right"):
        vstar(settings, out=tmp_path / "run")


def never_right(self: Any, response: str, numbers: Any, target: Any) -> Any:
    from selfcorrect.rewards.checker import Status

    return Status.WRONG, response, "no"


def test_too_few_problems_for_calibration_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="only 4 problems are left.*raise vstar.calibration_problems"):
        vstar(changed(calibration_problems=4), out=tmp_path / "run")


def test_a_pool_that_is_empty_or_no_pool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(TaskError, match="is empty"):
        read_pool(tmp_path / "empty.jsonl")
    (tmp_path / "other.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(TaskError, match=r"other.jsonl, line 1: this is no sample"):
        read_pool(tmp_path / "other.jsonl")
    with pytest.raises(TaskError, match="cannot read the pool"):
        read_pool(tmp_path / "nothing.jsonl")
    with pytest.raises(CheckerError):
        load_verifier(tmp_path)
