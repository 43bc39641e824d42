"""A comparison in pieces, each in a process of its own: several arms on one card, and a piece that fails stops none of
the others.

The processes are started anew, never forked: nothing that one knows of CUDA, threads or tokenizers is in another. What
they leave behind is what `run_comparison` leaves, so that pieces can be carried out one by one, or again, in any order.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.compare.comparison import (
    WAYS,
    Comparison,
    evaluation_of,
    folder_of,
    has_costs,
    plan_budgets,
)
from selfcorrect.training.compare.warm_ups import WARM_UP, is_warm
from selfcorrect.training.runs.run_directory import RunDirectory

COSTS, UNTRAINED = "costs", "untrained"
"""The pieces that are no arm: measuring the base policy's lengths, and all arms that train nothing."""
_LOOK = 0.5
"""Seconds between two looks at the processes."""
_TELL = 20.0
"""Seconds after which it is told how far they are."""
_PATIENCE = 120.0
"""Seconds that a stopped process has for the end of its step and its checkpoint."""


@dataclass(frozen=True)
class Piece:
    """What one process does.

    Attributes:
        name: `WARM_UP`, `COSTS`, `UNTRAINED`, or "ARM:SEED".
        arms, seeds: of the comparison, that it carries out.
    """

    name: str
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether it is an arm and a seed that are trained."""
        return self.name not in (WARM_UP, COSTS, UNTRAINED)


def pieces_of(comparison: Comparison) -> list[Piece]:
    """Everything that there is to do: what trains nothing first, then arm by arm, seed by seed."""
    seeds = tuple(comparison.seeds)
    untrained = tuple(spec.name for spec in comparison.arm_specs if spec.load is None)
    trained = [spec.name for spec in comparison.arm_specs if spec.load is not None]
    pieces = [Piece(WARM_UP)] if comparison.warm_ups else []
    pieces += [Piece(UNTRAINED, untrained, seeds)] if untrained else []
    pieces += [Piece(COSTS)] if trained else []
    return pieces + [Piece(f"{arm}:{seed}", (arm,), (seed,)) for seed in seeds for arm in trained]


def part_of(comparison: Comparison, name: str) -> Comparison:
    """The part of `comparison` that the piece called `name` is.

    Raises:
        ConfigurationError: there is no such piece.
    """
    piece = next((piece for piece in pieces_of(comparison) if piece.name == name), None)
    if piece is None:
        known = ", ".join(piece.name for piece in pieces_of(comparison))
        raise ConfigurationError(f"there is no piece {name!r}; there are {known}")
    if piece.name in (WARM_UP, COSTS):
        return comparison
    specs = [spec for spec in comparison.arm_specs if spec.name in piece.arms]
    return replace(comparison, arm_specs=specs, seeds=piece.seeds)


def is_done(comparison: Comparison, piece: Piece, out: Path) -> bool:
    """Whether everything that `piece` leaves behind is there."""
    if piece.name == WARM_UP:
        return is_warm(comparison.warm_ups, out)
    if piece.name == COSTS:
        return has_costs(comparison, out)
    return all(
        evaluation_of(out, arm, seed, way, exam.name) is not None
        for arm in piece.arms
        for seed in piece.seeds
        for way in WAYS
        for exam in comparison.exams
    )


def open_again(comparison: Comparison, out: Path) -> list[str]:
    """Make runs that the clock ended unfinished again, so that they are trained on and evaluated anew; which these
    are."""
    opened = []
    for spec in comparison.arm_specs:
        for seed in comparison.seeds:
            run = RunDirectory(folder_of(out, spec.name, seed))
            if "stopped" not in (run.read_final() or {}):
                continue
            run.final_path.unlink()
            for evaluation in run.path.glob("*.json"):
                if evaluation.stem.rpartition("-")[2] in WAYS:
                    evaluation.unlink()
            opened.append(f"{spec.name}:{seed}")
    return opened


class PiecesProgress(Protocol):
    """Is told how the pieces go on."""

    def started(self, piece: Piece, log: Path) -> None: ...

    def ended(self, piece: Piece, status: int, log: Path) -> None:
        """Exit status 0 is success."""
        ...

    def under_way(self, steps: Mapping[str, int]) -> None:
        """The training step that each running piece has finished, by its name."""
        ...


@dataclass
class _Running:
    piece: Piece
    process: "subprocess.Popen[bytes]"
    log: Path


def run_side_by_side(
    comparison: Comparison,
    out: Path,
    command: Callable[[Piece], Sequence[str]],
    progress: PiecesProgress,
    *,
    at_once: int,
    changed: Callable[[], None],
) -> dict[str, Path]:
    """Carry out what is missing in `out`, `at_once` pieces at a time.

    Args:
        command: the command line that carries out a piece.
        changed: called whenever a piece has ended, and now and then.

    Returns:
        The log of every piece that failed, by its name. All others need the warm-up, where there is one, and those that
        train need the costs: without them they are among those that failed.

    Raises:
        ConfigurationError: the arms would not cost the same, and that was not allowed.
        KeyboardInterrupt: Ctrl-C was pressed, or the process was told to end; the pieces were told to save and end.
    """
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    waiting = [piece for piece in pieces_of(comparison) if not is_done(comparison, piece, out)]
    running: list[_Running] = []
    failed: dict[str, Path] = {}
    told = time.monotonic()
    try:
        with _terminated_as_interrupted():
            while waiting or running:
                while len(running) < at_once and (piece := _next(waiting, comparison, out)) is not None:
                    waiting.remove(piece)
                    running.append(_start(piece, command(piece), logs, at_once))
                    progress.started(piece, running[-1].log)
                if not running:
                    lacking = next(name for name in (WARM_UP, COSTS) if not is_done(comparison, Piece(name), out))
                    failed |= {piece.name: _log_of(Piece(lacking), logs) for piece in waiting}
                    break
                time.sleep(_LOOK)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    progress.ended(one.piece, one.process.returncode, one.log)
                    if one.process.returncode:
                        failed[one.piece.name] = one.log
                    elif one.piece.name == COSTS:
                        plan_budgets(comparison, out)
                    changed()
                if time.monotonic() - told > _TELL:
                    told = time.monotonic()
                    progress.under_way(_steps(running, out))
                    changed()
    finally:
        _stop(running)
    return failed


def _next(waiting: Sequence[Piece], comparison: Comparison, out: Path) -> Piece | None:
    """The first piece that can begin: all wait for the warm-up, and those that train for the costs."""
    warm, known = (is_done(comparison, Piece(name), out) for name in (WARM_UP, COSTS))
    return next(
        (piece for piece in waiting if piece.name == WARM_UP or (warm and (known or not piece.trains))),
        None,
    )


def _log_of(piece: Piece, logs: Path) -> Path:
    return logs / f"{piece.name.replace(':', '.')}.log"


def _start(piece: Piece, command: Sequence[str], logs: Path, at_once: int) -> _Running:
    log = _log_of(piece, logs)
    threads = max(1, len(os.sched_getaffinity(0)) // at_once) if hasattr(os, "sched_getaffinity") else 1
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", **os.environ}
    with log.open("ab") as written:  # in a session of its own: Ctrl-C reaches it through us, once
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, env=environment, start_new_session=True
        )
    return _Running(piece, process, log)


def _steps(running: Sequence[_Running], out: Path) -> dict[str, int]:
    steps: dict[str, int] = {}
    for one in running:
        if one.piece.trains:
            rows = RunDirectory(folder_of(out, one.piece.arms[0], one.piece.seeds[0])).read_metrics()
            steps[one.piece.name] = int(rows[-1]["step"]) if rows else 0
    return steps


def _stop(running: Collection[_Running]) -> None:
    """Ask what still runs to save and end; end it at once where that takes too long."""
    for one in running:
        one.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _PATIENCE
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()


class _terminated_as_interrupted:
    """Inside the block, being told to end (SIGTERM, as `timeout` and schedulers do) is what Ctrl-C is."""

    def __enter__(self) -> None:
        def interrupt(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        try:
            self._before = signal.signal(signal.SIGTERM, interrupt)
        except ValueError:  # not in the main thread
            self._before = None

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
