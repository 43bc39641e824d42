"""Episodes in a real Postgres server, started for these tests; skipped, with the reason, where none can be."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import postgres_server, why_no_postgres
from long_thinker import LongThinker, NeverRight

from selfcorrect.agents.solving.solve import Solution, policy_loop, solve
from selfcorrect.agents.stopping import Budget
from selfcorrect.errors import ConfigurationError, GraphError

pytestmark = pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgres_server() as started:
        yield started


def think(folder: Path, address: str, turns: int, thread: str = "t") -> Solution:
    graph = policy_loop(LongThinker(folder / "notes"), critique="feedback", checker=NeverRight())
    return asyncio.run(solve("think", graph, budget=Budget(turns=turns), checkpointer=address, thread_id=thread))


@pytest.mark.slow
def test_an_episode_goes_on_where_it_ended_and_old_checkpoints_are_forgotten(tmp_path: Path, address: str) -> None:
    import psycopg

    for turns in (3, 11, 20):
        solution = think(tmp_path, address, turns)
        assert len(solution.turns) == turns
    written = (tmp_path / "notes").read_text().split()
    assert written == [word for number in range(1, 21) for word in ("call", str(number))]
    with psycopg.connect(address) as connection:
        for table in ("checkpoints", "checkpoint_blobs"):
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert rows is not None and rows[0] < 40, f"{table} holds {rows}"


HOLDS = """
import asyncio, sys
from selfcorrect.agents.solving.checkpoints import held, opened

async def hold():
    async with opened(sys.argv[1]) as saver, held(sys.argv[1], saver, sys.argv[2]):
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(hold())
"""


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", ["its own end", "kill -9"])
def test_a_thread_is_held_against_other_processes(ended_by: str, tmp_path: Path, address: str) -> None:
    command = [sys.executable, "-c", HOLDS, address, ended_by]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(GraphError, match="played by another process"):
            think(tmp_path, address, 2, thread=ended_by)
        assert len(think(tmp_path, address, 2, thread=f"not {ended_by}").turns) == 2
        if ended_by == "kill -9":
            other.kill()
        else:
            other.stdin.close()
        other.wait()
    assert len(think(tmp_path, address, 2, thread=ended_by).turns) == 2


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot reach the Postgres server"):
        think(tmp_path, f"postgresql://nobody@/postgres?host={tmp_path}", 1)
