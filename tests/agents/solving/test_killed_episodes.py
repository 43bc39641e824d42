"""Episodes killed with SIGKILL at random moments give the answer they would have given, and no stored turn is
written twice."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import long_thinker
import pytest
from long_thinker import TURNS, LongThinker, think

pytestmark = pytest.mark.slow

KILLS = 50


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, warm_python: str) -> Any:
    folder = tmp_path_factory.mktemp("killed")
    command = [warm_python, long_thinker.__file__, str(folder), str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fifty_processes_were_killed(played: Any) -> None:
    assert played["kills"] == KILLS


def test_every_episode_ends_as_if_nothing_had_happened(played: Any, tmp_path: Path) -> None:
    undisturbed = asyncio.run(think(LongThinker(tmp_path / "notes"), None))
    texts = [turn["generation"]["text"] for turn in undisturbed.turns]
    for episode in played["episodes"]:
        assert episode["solution"] == {"answer": undisturbed.answer, "turns": texts}


def test_no_stored_turn_is_written_again(played: Any) -> None:
    for episode in played["episodes"]:
        expected = 0
        for note in episode["notes"]:
            kind, number = note.split()
            if kind == "run":
                expected = int(number) + 1  # a run begins after the turns that were stored when it was started
            else:
                assert int(number) == expected
                expected += 1


def test_the_kills_hit_the_middle_of_episodes(played: Any) -> None:
    resumed = [int(note.split()[1]) for episode in played["episodes"] for note in episode["notes"] if note[:3] == "run"]
    assert len({saved for saved in resumed if 0 < saved < TURNS}) > 3
