"""Episodes in a real Postgres server, started for these tests; skipped where none is installed."""

import asyncio
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from local_server import free_port
from long_thinker import LongThinker, NeverRight

from selfcorrect.agents.solving.solve import Solution, policy_loop, solve
from selfcorrect.agents.stopping import Budget

pytestmark = pytest.mark.skipif(
    shutil.which("initdb") is None or (os.getuid() == 0 and shutil.which("runuser") is None),
    reason="no Postgres server that could be started",
)
USER = "postgres" if os.getuid() == 0 else getpass.getuser()


@pytest.fixture(scope="module")
def server_folder() -> Iterator[Path]:
    """A folder of the server's user; pytest's own temporary folders are closed to all but who runs the tests."""
    with TemporaryDirectory(prefix="postgres-") as made:
        shutil.chown(made, USER)
        yield Path(made)


@pytest.fixture(scope="module")
def address(server_folder: Path) -> Iterator[str]:
    folder = server_folder
    as_user = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []  # the server refuses to run as root
    data, port = folder / "data", free_port()
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F"
    log = folder / "log"

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "-D", str(data), "-A", "trust")
    run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-o", settings, "start")
    try:
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def think(folder: Path, address: str, turns: int) -> Solution:
    graph = policy_loop(LongThinker(folder / "notes"), critique="feedback", checker=NeverRight())
    return asyncio.run(solve("think", graph, budget=Budget(turns=turns), checkpointer=address, thread_id="t"))


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
