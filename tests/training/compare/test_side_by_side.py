"""A comparison in processes side by side: who waits for whom, what a failing one stops, and what Ctrl-C leaves."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.countdown import CountdownSettings
from selfcorrect.training.arms.registry import arm_specs
from selfcorrect.training.compare.comparison import Comparison, Evaluation, Exam, folder_of, write_evaluation
from selfcorrect.training.compare.result import comparison_result
from selfcorrect.training.compare.side_by_side import COSTS, UNTRAINED, Piece, open_again, part_of, pieces_of
from selfcorrect.training.compare.side_by_side import run_side_by_side as run
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings

ARMS = ("base", "sample-again", "score", "multi-turn")
DONE = asdict(Evaluation("digest", 0.0, {}, []))
EXAM = Exam("more", CountdownSettings(numbers=3), 2)


def comparison(seeds: int = 1, arms: Sequence[str] = ARMS) -> Comparison:
    return Comparison(arm_specs(arms), RunSettings(), range(seeds), more_exams=[EXAM])


class Heard:
    """Notes what it is told, with the pieces under way at the time."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.running: set[str] = set()
        self.most = 0

    def started(self, piece: Piece, log: Path) -> None:
        self.running.add(piece.name)
        self.most = max(self.most, len(self.running))
        self.events.append(f"+{piece.name}")

    def ended(self, piece: Piece, status: int, log: Path) -> None:
        self.running.discard(piece.name)
        self.events.append(f"-{piece.name} {status}")

    def under_way(self, steps: Mapping[str, int]) -> None: ...


PRETENDS = """
import json, sys, time
out, name, arms, seeds, costs, done, status = json.loads(sys.argv[1])
from pathlib import Path
print("log of", name)
time.sleep(0.2)
if status:
    sys.exit(status)
if name == "warm-up":
    Path(out, name).mkdir()
    Path(out, name, "metrics.json").write_text("{}")
if name == "costs":
    Path(out, "costs.json").write_text(costs)
for arm in arms:
    for seed in seeds:
        folder = Path(out, arm, f"seed-{seed}")
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("greedy", "sampled", "more-greedy", "more-sampled"):
            (folder / f"{file}.json").write_text(done)
"""


def pretending(out: Path, fails: Mapping[str, int] | None = None) -> Callable[[Piece], list[str]]:
    """A command that leaves what a piece leaves, or exits with a status of `fails`."""

    def command(piece: Piece) -> list[str]:
        costs = json.dumps({"attempt": 5.0, "revise": 5.0})
        told = [
            str(out),
            piece.name,
            piece.arms,
            piece.seeds,
            costs,
            json.dumps(DONE),
            (fails or {}).get(piece.name, 0),
        ]
        return [sys.executable, "-c", PRETENDS, json.dumps(told)]

    return command


def test_pieces_are_all_that_trains_nothing_then_each_arm_and_seed() -> None:
    names = [piece.name for piece in pieces_of(comparison(seeds=2))]
    assert names == [UNTRAINED, COSTS, "score:0", "multi-turn:0", "score:1", "multi-turn:1"]
    part = part_of(comparison(seeds=2), "multi-turn:1")
    assert [spec.name for spec in part.arm_specs] == ["multi-turn"] and list(part.seeds) == [1]
    with pytest.raises(ConfigurationError, match=r"no piece 'pag:0'; there are untrained, costs, score:0"):
        part_of(comparison(), "pag:0")


def test_where_nothing_is_trained_nothing_is_measured() -> None:
    assert [piece.name for piece in pieces_of(comparison(arms=["base"]))] == [UNTRAINED]


def test_training_waits_for_the_costs_and_no_more_run_at_once_than_may(tmp_path: Path) -> None:
    heard, looks = Heard(), []
    failed = run(
        comparison(2), tmp_path, pretending(tmp_path), heard, at_once=2, changed=lambda: looks.append(len(heard.events))
    )
    assert failed == {} and heard.most == 2 and len(looks) >= 6
    assert set(heard.events[:2]) == {"+untrained", "+costs"}
    assert heard.events.index("-costs 0") < min(heard.events.index(f"+{name}") for name in ("score:0", "multi-turn:0"))
    assert "log of score:0" in (tmp_path / "logs" / "score.0.log").read_text()
    again = Heard()
    assert run(comparison(2), tmp_path, pretending(tmp_path), again, at_once=2, changed=lambda: None) == {}
    assert again.events == [], "what is finished is not done again"


def test_a_piece_that_fails_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    heard = Heard()
    fails = {"score:0": 1, UNTRAINED: 137}
    failed = run(comparison(), tmp_path, pretending(tmp_path, fails), heard, at_once=3, changed=lambda: None)
    assert failed == {name: tmp_path / "logs" / f"{name.replace(':', '.')}.log" for name in fails}
    assert "-multi-turn:0 0" in heard.events
    again = Heard()
    run(comparison(), tmp_path, pretending(tmp_path), again, at_once=1, changed=lambda: None)
    assert again.events == ["+untrained", "-untrained 0", "+score:0", "-score:0 0"]


def test_without_the_costs_what_trains_has_failed_too(tmp_path: Path) -> None:
    failed = run(comparison(), tmp_path, pretending(tmp_path, {COSTS: 2}), Heard(), at_once=2, changed=lambda: None)
    assert set(failed) == {COSTS, "score:0", "multi-turn:0"}
    assert {log.name for log in failed.values()} == {"costs.log"}


WAITS = """
import signal, sys, time
from pathlib import Path
def heard(number, frame):
    Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGINT, heard)
Path(sys.argv[1]).write_text("begun")
time.sleep(600)
"""


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_who_is_told_to_end_lets_the_pieces_save(told: signal.Signals, tmp_path: Path) -> None:
    saved = tmp_path / "saved"

    def tell() -> None:
        while not (saved.is_file() and saved.read_text() == "begun"):
            time.sleep(0.05)
        os.kill(os.getpid(), told)

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(
            comparison(arms=["base"]),
            tmp_path,
            lambda piece: [sys.executable, "-c", WAITS, str(saved)],
            Heard(),
            at_once=1,
            changed=lambda: None,
        )
    assert saved.read_text() == "saved"


def test_what_the_clock_ended_is_opened_again_and_what_ended_by_itself_is_not(tmp_path: Path) -> None:
    made = comparison(seeds=2)
    for seed, steps in ((0, (3, 9)), (1, None)):
        run_directory = RunDirectory.create(folder_of(tmp_path, "score", seed), RunSettings(seed=seed))
        run_directory.write_final({}, {}, steps=steps)
        for name in ("greedy.json", "more-sampled.json"):
            write_evaluation(run_directory.path / name, Evaluation(**DONE))
    assert open_again(made, tmp_path) == ["score:0"]
    assert not list(folder_of(tmp_path, "score", 0).glob("*.json"))
    kept = {path.name for path in folder_of(tmp_path, "score", 1).glob("*.json")}
    assert kept == {"metrics.json", "greedy.json", "more-sampled.json"}


@pytest.mark.slow
def test_costs_that_do_not_tell_how_often_the_policy_judges_itself_are_measured_anew(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps({"attempt": 5.0, "revise": 5.0}))
    heard = Heard()
    arms: list[Any] = ["base", "pag"]
    run(comparison(arms=arms), tmp_path, pretending(tmp_path), heard, at_once=1, changed=lambda: None)
    assert "+costs" in heard.events


def test_everything_waits_for_the_warm_up_and_fails_with_it(tmp_path: Path) -> None:
    made = replace(comparison(), warm_ups={"warm-up": RunSettings()})
    heard = Heard()
    failed = run(made, tmp_path, pretending(tmp_path, {"warm-up": 1}), heard, at_once=3, changed=lambda: None)
    assert heard.events == ["+warm-up", "-warm-up 1"] and {log.name for log in failed.values()} == {"warm-up.log"}
    again = Heard()
    assert run(made, tmp_path, pretending(tmp_path), again, at_once=3, changed=lambda: None) == {}
    assert again.events[:2] == ["+warm-up", "-warm-up 0"]


def test_what_is_there_so_far_is_told_without_reading_the_data_again(tmp_path: Path) -> None:
    """It is told every few seconds: of a file of programs that meant trying all its tests each time."""

    class Closed(CountdownSettings):
        def open(self) -> Any:
            raise AssertionError("the task was opened")

    asked = comparison(arms=["base"])
    asked = replace(
        asked,
        settings=asked.settings.model_copy(update={"task": Closed()}),
        more_exams=[Exam("more", Closed(numbers=3), 2)],
    )
    told = comparison_result(asked, tmp_path, {}, reference="base")
    assert told["task"] == "countdown with 4 numbers" and told["exams"]["more"]["task"] == "countdown with 3 numbers"
