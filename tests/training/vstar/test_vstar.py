"""V-STaR end to end on a handful of problems: what a run leaves behind, and that it can be taken up again anywhere."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from selfcorrect.agents.choosing.sample_pool import Sample, read_pool
from selfcorrect.errors import CheckerError, PolicyError, TaskError, TrainingError
from selfcorrect.rewards.verifiers.folder import read_calibration
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.tasks.jsonl import JsonlSettings
from selfcorrect.training.settings import EvaluationSettings, RunSettings
from selfcorrect.training.vstar import rounds, verifiers
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


ASKED = """
import asyncio
from weakref import WeakKeyDictionary

from selfcorrect.agents.policies.transformers import TransformersPolicy

class Player:
    calls, fails_after = 0, 10**9

    def __init__(self):
        self.policy, self.turns = TransformersPolicy.from_pretrained("embedded"), WeakKeyDictionary()

    async def generate(self, messages, sampling, *, after=None):
        async with self.turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):  # one after the other
            if Player.calls >= Player.fails_after:
                raise ConnectionError("the server is gone")
            Player.calls += 1
            return await self.policy.generate(messages, sampling, after=after)
"""


@pytest.fixture(scope="module")
def played_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("own")
    (folder / "elsewhere_now").mkdir()
    (folder / "elsewhere_now" / "__init__.py").write_text("")
    (folder / "elsewhere_now" / "answering.py").write_text(ASKED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("elsewhere_now.answering").Player


@pytest.fixture
def player(played_elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A policy that plays elsewhere: the class, which counts its calls and fails after so many."""
    monkeypatch.setattr(played_elsewhere, "calls", 0)
    monkeypatch.setattr(played_elsewhere, "fails_after", 10**9)
    return played_elsewhere


FROZEN = HeadSettings(body="frozen")


def test_without_rounds_verifiers_of_the_policy_as_it_is_are_made(tmp_path: Path) -> None:
    result = vstar(changed(rounds=0, kinds=["classifier"], classifier=FROZEN), out=tmp_path / "run")
    run = result.directory
    assert result.before == result.after and not (run / "model").exists()
    assert [row["step"] for row in rows(run)] == [1] and rows(run)[0]["optimiser_steps"] == 0
    assert load_verifier(run / "verifiers" / "classifier").card.trained["body"] == "frozen"
    assert len(read_pool(run / "rounds" / "0" / "samples.jsonl")) == 36
    assert json.loads((run / "metrics.json").read_text())["budget"]["generated_tokens"] > 0


def test_verifiers_learn_to_judge_who_answers_elsewhere(tmp_path: Path, player: Any) -> None:
    own = changed(rounds=0, kinds=["classifier"], classifier=FROZEN)
    elsewhere = changed(rounds=0, kinds=["classifier"], classifier=FROZEN, asked="elsewhere_now.answering:Player")
    vstar(own, out=tmp_path / "own")
    vstar(elsewhere, out=tmp_path / "run")
    for file in ("rounds/0/samples.jsonl", "calibration.jsonl", "held_out.jsonl", "verifiers.json"):
        assert (tmp_path / "run" / file).read_text() == (tmp_path / "own" / file).read_text(), file
    assert player.calls > 36


def test_what_was_answered_elsewhere_is_not_asked_again(tmp_path: Path, player: Any) -> None:
    settings = changed(rounds=0, kinds=["classifier"], classifier=FROZEN, asked="elsewhere_now.answering:Player")
    player.fails_after = 30
    with pytest.raises(PolicyError, match="problem '.*': ConnectionError while answering: the server is gone"):
        vstar(settings, out=tmp_path / "run")
    assert not (tmp_path / "run" / "rounds" / "0" / "samples.jsonl").exists()
    player.fails_after = 10**9
    vstar(settings, out=tmp_path / "run", resume=True)
    first = player.calls
    player.calls = 0
    vstar(settings, out=tmp_path / "whole")
    assert first == player.calls > 130


def test_a_generator_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no new generator can be made here: set vstar.rounds=0"):
        VstarSettings(asked="openai:some-model")


def test_a_stepwise_verifier_of_programs_is_refused() -> None:
    with pytest.raises(ValueError, match="leave stepwise out of vstar.kinds"):
        VstarSettings(reads="program")
    assert VstarSettings(reads="program", kinds=["classifier"]).reads == "program"


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
    with pytest.raises(TrainingError, match="only 4 of 10 problems are left.*raise vstar.calibration_problems"):
        vstar(changed(calibration_problems=4), out=tmp_path / "run")


def test_a_task_with_fewer_problems_is_divided_as_they_were_asked_for(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"{n} + 1 =", "answer": str(n + 1)}) for n in range(60)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    task = JsonlSettings(path=tmp_path / "sums.jsonl").open()
    learnt, kept = rounds.draw_problems(changed(problems=500, calibration_problems=100), task)
    count = task.available("train")
    assert len({one.id for one in [*learnt, *kept]}) == count < 60 and len(kept) == round(count / 6)
    learnt, kept = rounds.draw_problems(changed(problems=12, calibration_problems=9), task)
    assert (len(learnt), len(kept)) == (12, 9), "where there are enough"


def pool_of(*outcomes: str) -> list[list[Sample]]:
    """Problems with an answer for each letter: r is right."""
    return [[Sample(str(n), "p", f"{n}{k}", None, one == "r", 1, "stop") for k, one in enumerate(letters)]
            for n, letters in enumerate(outcomes)]  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "begin"),
    [
        (["rw"] + ["ww"] * 9, 2),  # a fifth
        (["ww", "ww", "ww", "rw"] + ["ww"] * 6, 4),  # as many as it takes
        (["ww"] * 4 + ["rr"] + ["ww"] * 5, 5),  # half of them
        (["w", "r", "w", "r", "w"], 2),
    ],
)
def test_calibration_is_fitted_on_right_and_wrong_answers(outcomes: list[str], begin: int) -> None:
    assert verifiers._fitting(pool_of(*outcomes)) == begin


@pytest.mark.parametrize(("letter", "said"), [("w", "wrong"), ("r", "right")])
def test_a_calibration_of_one_kind_is_refused_with_what_to_raise(letter: str, said: str) -> None:
    with pytest.raises(TrainingError, match=f"all {said} are those to the first 5 of 10.*calibration_problems"):
        verifiers._fitting(pool_of(*[letter] * 5, *["rw"] * 5))


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
