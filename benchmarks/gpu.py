"""How busy a GPU is kept: the graph both ways of `decoding`, plain and static `generate`, a PPO step by parts, memory,
and whether steps that are captured as CUDA graphs give what they must. One NVIDIA GPU.

    python benchmarks/gpu.py --json gpu.json       # 125 M and 1.4 B parameters in bf16; under five minutes on an H100
    python benchmarks/gpu.py --tiny --device cpu   # every line of it on a tiny model, to see that it runs

Every job of `JOBS` runs in a process of its own (`gpu_rows.py`), the most telling first, while the next one imports.
What takes too long is killed, what fails is a row with its traceback, and the others go on. Rows lie beside the JSON
file as soon as they are measured.

Two-turn episodes, all at once, of models with random weights: their sizes count, their words do not. "tokens/s" are
sampled tokens. `generate` is transformers' own on the prompts that the graph showed, without log-probabilities and
without text:

- generate: as it comes. On NVIDIA GPUs cuDNN's attention made a plan for every length of the cache (1.3 to 1.5 ms a
  call); `TransformersPolicy` leaves it out. The row "generate, no cuDNN" is the same with it left out: if that one is
  twice as fast, the trap is there, and "graph, dynamic" has to be near the second and not near the first;
- generate, static: a compiled step with a static cache, timed after its warm-up.

GPU % is the mean of NVML's utilisation every quarter of a second, "peak" what torch allocated at most, "held" what it
still had allocated afterwards.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = Path(__file__).with_name("gpu_rows.py")
AHEAD = 3
"""Processes that import, or wait, while a job is measured, the one that measures included."""


@dataclass(frozen=True)
class Job:
    """What one process measures, and how many seconds it may take once it has begun."""

    name: str
    """Of `gpu_rows.JOBS`; several, one after the other, with commas between them."""
    size: str
    seconds: float


JOBS = [
    Job("static", "125m", 90),  # with its imports, for which no other job leaves time
    Job("plain", "125m", 70),
    Job("static", "1.4b", 60),
    Job("plain", "1.4b", 60),
    Job("check", "small", 60),
    Job("ppo", "125m", 40),
    Job("ppo-dynamic", "125m", 40),
    Job("ppo", "1.4b", 40),
    Job("ppo-dynamic", "1.4b", 40),
    Job("ppo-lora", "1.4b", 40),
    Job("ppo-checkpointing", "1.4b", 40),
    Job("ppo-lora-checkpointing", "1.4b", 40),
    Job("whole-logits", "1.4b", 30),
    Job("no-cudnn", "125m", 40),
    Job("no-cudnn", "1.4b", 40),
    Job("generate-static", "125m", 90),
]


class Child:
    """The process of a job: it imports at once, and measures when it is told to."""

    def __init__(self, job: Job, arguments: argparse.Namespace, rows: Path) -> None:
        self.job, self._rows = job, rows
        command = [sys.executable, str(ROWS), job.name, job.size, str(rows), "--device", arguments.device]
        command += ["--profile", str(arguments.profile)] if arguments.profile else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def measure(self, seconds: float) -> None:
        """Let it measure for at most so many seconds."""
        begun = time.perf_counter()
        try:
            self._process.communicate("go\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            self._note(f"killed after {seconds:.0f} seconds")
            self.end()
        else:
            if self._process.returncode:
                self._note(f"ended with status {self._process.returncode}")
        print(f"# {self.job.name} {self.job.size}: {time.perf_counter() - begun:.1f} s", flush=True)

    def end(self) -> None:
        """Kill it and all that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _note(self, error: str) -> None:
        row = {"size": self.job.size, "what": self.job.name, "error": error}
        with self._rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{self.job.size:8}{self.job.name:40}{error}", flush=True)


def measure(jobs: Sequence[Job], arguments: argparse.Namespace, rows: Path, written: Path | None) -> None:
    """One job after the other, as long as there is time."""
    deadline = time.perf_counter() + arguments.seconds
    children = [Child(job, arguments, rows) for job in jobs[:AHEAD]]
    try:
        for number, job in enumerate(jobs):
            left = deadline - time.perf_counter()
            if left < min(10.0, job.seconds):
                print(f"# no time left for: {', '.join(f'{job.name} {job.size}' for job in jobs[number:])}", flush=True)
                break
            if number + AHEAD < len(jobs):
                children.append(Child(jobs[number + AHEAD], arguments, rows))
            children[number].measure(min(left, job.seconds))
            if written is not None:
                write(rows, written, arguments)
    finally:
        for child in children:
            child.end()


def found_in(rows: Path) -> list[dict[str, Any]]:
    """The rows as far as they are written."""
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()] if rows.exists() else []


def ratios_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of everything to plain `generate` as it comes, for each size."""
    speed = {(row["size"], row["what"]): row["tokens_per_second"] for row in rows if row.get("tokens_per_second")}
    return {
        f"{size} {what}": speed[size, what] / speed[size, "generate"]
        for size, what in speed
        if what != "generate" and (size, "generate") in speed
    }


def write(rows: Path, written: Path, arguments: argparse.Namespace) -> None:
    found = found_in(rows)
    told = {"command": " ".join(["python", *sys.argv]), "rows": found, "ratios": ratios_of(found)}
    written.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def chosen_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Those that were asked for; with --tiny each on the tiny model, once, in two processes that take turns."""
    jobs = [job for job in JOBS if arguments.size is None or job.size in arguments.size]
    jobs = [job for job in jobs if arguments.job is None or job.name in arguments.job]
    if arguments.tiny:
        names = list(dict.fromkeys(job.name for job in jobs))
        return [Job(",".join(part), "tiny", 1800) for part in (names[::2], names[1::2]) if part]
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=sorted({job.size for job in JOBS}), action="append", help="default: all")
    parser.add_argument("--job", choices=sorted({job.name for job in JOBS}), action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=290.0, help="begin nothing after so many, and end by then")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that everything runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="folder for what torch's profiler says of the static step")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not has_gpu():
        print("skipped: this machine has no NVIDIA GPU (--tiny --device cpu runs everything on a tiny model)")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # no process of ours outlives this one
    if arguments.tiny:
        arguments.seconds = max(arguments.seconds, 3600.0)
    columns = ("tokens/s", "GPU %", "peak GiB", "held GiB")
    print(f"{'size':8}{'what':40}{'seconds':>10}" + "".join(f"{name:>12}" for name in columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.jsonl") if arguments.json is None else arguments.json.with_suffix(".jsonl")
        rows.unlink(missing_ok=True)
        measure(chosen_jobs(arguments), arguments, rows, arguments.json)
        print("  ".join(f"{what}: {ratio:.2f} x generate" for what, ratio in ratios_of(found_in(rows)).items()))


def has_gpu() -> bool:
    """Whether the driver knows of any; torch is imported by the jobs alone."""
    if Path("/dev/nvidia0").exists():
        return True
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout.startswith(b"GPU")
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
