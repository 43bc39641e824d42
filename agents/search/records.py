"""What a comparison of strategies leaves behind, and the files that hold it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfcorrect.agents.search.fitting import Outcome


@dataclass(frozen=True, slots=True)
class Measured(Outcome):
    """An outcome, and where it comes from.

    Attributes:
        family: of the strategy; see `families`.
        saved: tokens that early stopping saved.
        stop_reason: of the search.
    """

    family: str
    saved: int
    stop_reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem, as its first answers show it.

    Attributes:
        problem: id, with the seed.
        correct: of each first answer (None: not judged).
        difficulty: as its first `samples` answers estimate it, by measure ("verifier", "agreement").
    """

    problem: str
    correct: list[float | None]
    difficulty: dict[str, float]

    @property
    def pass_rate(self) -> float:
        judged = [score for score in self.correct if score is not None]
        return sum(judged) / len(judged) if judged else 0.0


def write_chunk(path: Path, asked: Sequence[Asked], measured: Sequence[Measured]) -> None:
    """Keep a chunk of problems; the file appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    rows = {"asked": [asdict(one) for one in asked], "measured": [asdict(one) for one in measured]}
    unfinished.write_text(json.dumps(rows), encoding="utf-8")
    unfinished.replace(path)


def read_chunk(path: Path) -> tuple[list[Asked], list[Measured]]:
    """What `write_chunk` kept."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Asked(**row) for row in rows["asked"]], [Measured(**row) for row in rows["measured"]]
