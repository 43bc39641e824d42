"""Real servers on 127.0.0.1 or a socket, for tests that drive them with real clients."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

PATIENCE = 120.0
"""Seconds until a server that does not answer counts as failed; idle machines need two."""


@contextmanager
def serving_app(app: Any) -> Iterator[str]:
    """The address of `app`, served by uvicorn in a thread."""
    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    wait_for(f"{address}/health")
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextmanager
def running(
    command: Sequence[str],
    health: str,
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Iterator[None]:
    """A server process that answers at `health`; what it wrote is shown if it does not."""
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        try:
            wait_for(health, process, log, patience)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(
    url: str,
    process: "subprocess.Popen[bytes] | None" = None,
    log: Path | None = None,
    patience: float = PATIENCE,
) -> None:
    end = time.monotonic() + patience
    while True:
        written = log.read_text() if log else ""
        assert process is None or process.poll() is None, f"the server ended: {written}"
        assert time.monotonic() < end, f"no answer from {url}: {written}"
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def script(name: str) -> str:
    """The path of a console script of this environment."""
    return str(Path(sys.executable).parent / name)


def why_no_postgres() -> str | None:
    """Why no Postgres server can be started here; None if one can."""
    if _postgres_program("initdb") is None:
        return "no Postgres server is installed (apt-get install postgresql)"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "a Postgres server refuses to run as root, and there is no runuser to be somebody else"
    return None


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a Postgres server of one's own, on a socket in a temporary folder."""
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    as_user = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []  # the server refuses to run as root

    with TemporaryDirectory(prefix="postgres-") as made:
        shutil.chown(made, user)  # pytest's own folders are closed to all but who runs the tests

        def run(name: str, *arguments: str) -> None:
            command = [*as_user, str(_postgres_program(name)), "-D", f"{made}/data", *arguments]
            done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

        run("initdb", "-A", "trust", "-U", user)
        run("pg_ctl", "-l", f"{made}/log", "-w", "-o", f"-c listen_addresses='' -k {made} -F", "start")
        try:
            yield f"postgresql://{user}@/postgres?host={made}"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")


def _postgres_program(name: str) -> Path | None:
    """Debian keeps the server's programs off the path."""
    found = shutil.which(name)
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return Path(found) if found else beside[-1] if beside else None
