"""What a policy did on every held-out problem: kept, so that arms can be compared problem by problem."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import answers, verdict_of
from selfcorrect.files import finite, write_whole
from selfcorrect.rewards.checker import Checker
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one policy.

    Attributes:
        digest: tells the problems.
        temperature: 0 is greedy.
        report: the figures, as `EvaluationReport.as_dict`.
        scores: of the answers of every episode.
    """

    digest: str
    temperature: float
    report: dict[str, Any]
    scores: list[list[Score]]

    def at(self, turn: int) -> list[Score]:
        """The score of every episode at `turn` (from 0); an episode that ended early keeps its last answer."""
        return [episode[min(turn, len(episode) - 1)] if episode else None for episode in self.scores]

    def gained(self) -> list[Score]:
        """Last score minus first, of every episode: 1 fixed, -1 broken; None if one of them is unjudged."""
        return [
            None if first is None or last is None else last - first
            for first, last in zip(self.at(0), self.at(len(max(self.scores, key=len, default=[0]))), strict=True)
        ]


def evaluated(
    graph: CorrectionGraph, problems: Sequence[Problem], checker: Checker, *, temperature: float, seed: int
) -> Evaluation:
    """Play and judge `problems` once each."""
    report, states = evaluate(graph, problems, checker, sampling=Sampling(temperature=temperature), seed=seed)
    scores = []
    for state in states:
        verdicts = [verdict_of(turn) for turn in answers(state)]
        scores.append([None if verdict is None else verdict.score for verdict in verdicts])
    return Evaluation(digest_of(problems), temperature, finite(report.as_dict()), scores)


def digest_of(problems: Sequence[Problem]) -> str:
    """Tells whether two lists of problems are the same."""
    return hashlib.sha256("\n".join(problem.id for problem in problems).encode()).hexdigest()[:16]


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(evaluation)) + "\n")


def read_evaluation(path: Path) -> Evaluation | None:
    """The evaluation in `path`, or None if there is none."""
    return Evaluation(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
