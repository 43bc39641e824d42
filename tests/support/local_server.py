"""Real servers on 127.0.0.1, for tests that drive them with real clients."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
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
    command: Sequence[str], health: str, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server process that answers at `health`; what it wrote is shown if it does not."""
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        try:
            wait_for(health, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes] | None" = None, log: Path | None = None) -> None:
    end = time.monotonic() + PATIENCE
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
