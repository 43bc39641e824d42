"""Load on `selfcorrect serve`, on this machine alone: latencies and memory, beside slow clients and such as hang up.

    python benchmarks/serve_load.py                      # 64 clients, 4,000 requests, 200 slow and 100 hung-up clients
    python benchmarks/serve_load.py --minutes 10         # the soak: the same clients, for ten minutes

The server is a process of its own with the embedded policy; everything is sent to 127.0.0.1.
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

BODY = {"model": "embedded", "messages": [{"role": "user", "content": "3 5 7 9 get 56"}]}


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    memory_mb: list[float] = field(default_factory=list)

    def note(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.seconds.append(seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_mb(process: "subprocess.Popen[bytes]") -> float:
    """Resident memory, as Linux tells it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


async def client(address: str, seen: Seen, left: list[int], end: float) -> None:
    """One client: a request after the other, until none is left or the time is over."""
    async with httpx.AsyncClient(base_url=address, timeout=300) as http:
        while left[0] > 0 and time.monotonic() < end:
            left[0] -= 1
            began = time.monotonic()
            answer = await http.post("/v1/chat/completions", json=BODY)
            seen.note(answer.status_code, time.monotonic() - began)


async def hung_up(port: int) -> None:
    """Asks, and is gone before the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    writer.write(head + body)
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.transport.abort()


async def slow(port: int) -> None:
    """Sends half of a request and waits to be closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    await reader.read()
    writer.close()


async def watch(process: "subprocess.Popen[bytes]", seen: Seen) -> None:
    while True:
        seen.memory_mb.append(memory_mb(process))
        await asyncio.sleep(1)


async def load(port: int, process: "subprocess.Popen[bytes]", chosen: argparse.Namespace) -> tuple[Seen, float]:
    address, seen = f"http://127.0.0.1:{port}", Seen()
    warm = Seen()
    await asyncio.gather(*(client(address, warm, [8], time.monotonic() + 60) for _ in range(chosen.clients)))
    watching = asyncio.create_task(watch(process, seen))
    end = time.monotonic() + (chosen.minutes * 60 if chosen.minutes else 3600)
    left = [10**9 if chosen.minutes else chosen.requests]
    beside = [*(slow(port) for _ in range(chosen.slow)), *(hung_up(port) for _ in range(chosen.hung_up))]
    began = time.monotonic()
    others = asyncio.gather(*beside, return_exceptions=True)
    await asyncio.gather(*(client(address, seen, left, end) for _ in range(chosen.clients)))
    seconds = time.monotonic() - began
    await others
    watching.cancel()
    return seen, seconds


def report(seen: Seen, seconds: float) -> dict[str, Any]:
    ordered = sorted(seen.seconds)
    third = max(1, len(seen.memory_mb) // 3)
    first, last = median(seen.memory_mb[:third]), median(seen.memory_mb[-third:])
    return {
        "requests": sum(seen.statuses.values()),
        "statuses": seen.statuses,
        "requests_per_second": round(len(ordered) / seconds, 1),
        "p50_seconds": round(ordered[len(ordered) // 2], 3),
        "p95_seconds": round(ordered[int(len(ordered) * 0.95)], 3),
        "memory_mb": {"first third": round(first), "last third": round(last), "change": f"{last / first - 1:+.1%}"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--hung-up", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=0.0, help="instead of --requests")
    chosen = parser.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "selfcorrect", "serve", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until_ready(port)
            print(json.dumps(report(*asyncio.run(load(port, process, chosen))), indent=2))
        finally:
            process.terminate()


def until_ready(port: int) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError("the server did not begin")


if __name__ == "__main__":
    main()
