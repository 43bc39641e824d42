"""First answers that the policy does not draw itself, as prompts of its second ones in Stage II (SCoRe, arXiv
2409.12917, section 5.3): from a file, or drawn from the base policy before the run.

They are a share of a problem's episodes and never all of them: with such first answers alone the paper's policy learnt
nothing (Table 4). Their tokens are context, exactly as they were sampled or tokenised once; they are never learnt from,
and take no part in the baseline of the first answers that are.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.runtime import Runtime

from selfcorrect.agents.episodes import initial_state, play_sync
from selfcorrect.agents.nodes import Attempt, EpisodeContext
from selfcorrect.agents.policies.rendering import Encoder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, TaskError, UnreadablePromptError
from selfcorrect.files import json_line, write_whole
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.rollouts import Episode

SHARE_OF_FILE = 0.5
"""The largest share of a problem's episodes that attempts of a file begin."""
_DRAWS = 53
"""Tells the seeds of these draws from those of the episodes."""


@dataclass(frozen=True)
class OfflineAttempts:
    """Which episodes begin with which first answer.

    Args:
        by_problem: the attempts, by the problem's id.
        share: of the episodes of a problem that begin with one, if it has so many.
        first_batch: the batch of episodes in which Stage II begins.
    """

    by_problem: Mapping[str, Sequence[Generation]]
    share: float
    first_batch: int

    def begin(self, problems: Sequence[Problem], episodes: int, batch: int) -> list[Episode | None]:
        """For each row of a batch, whose every `episodes` rows are one problem's, the episode as it is begun, if it is.
        The same batch always gets the same."""
        if batch < self.first_batch:
            return [None] * len(problems)
        rows: list[Episode | None] = []
        for problem in problems[::episodes]:
            known = self.by_problem.get(problem.id, ())
            count = min(len(known), episodes_of(self.share, episodes))
            chosen = random.Random(f"{batch} {problem.id}").sample(list(known), count)
            rows += [*[None] * (episodes - count), *(Episode.begun(problem, attempt) for attempt in chosen)]
        return rows


def episodes_of(share: float, episodes: int) -> int:
    """How many of a problem's episodes are meant by a share."""
    return round(share * episodes)


def sampled_attempts(
    graph: Any, problems: Sequence[Problem], each: int, *, temperature: float, seed: int, kept: Path
) -> dict[str, list[Generation]]:
    """`each` first answers of every problem, drawn in `graph` and written to `kept`, from where a resumed run takes
    them.

    Args:
        graph: plays first answers only, of the base policy.
    """
    distinct = list({problem.id: problem for problem in problems}.values())
    asked = [problem for problem in distinct for _ in range(each)]
    if kept.is_file():
        drawn = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    else:
        states = play_sync(graph, asked, sampling=Sampling(temperature=temperature), seed=derive_seed(seed, _DRAWS))
        drawn = [{"id": state["problem"]["id"], **state["turns"][0]["generation"]} for state in states]
        write_whole(kept, "".join(map(json_line, drawn)))
    found: dict[str, list[Generation]] = {}
    for row in drawn:
        found.setdefault(row.pop("id"), []).append(row)
    return found


def attempts_in(
    path: Path, problems: Sequence[Problem], policy: TransformersPolicy, prompts: Prompts
) -> dict[str, list[Generation]]:
    """The attempts of a file, JSON Lines of `{"id": ..., "text": ...}`, at those of `problems`; others are left out.

    Raises:
        TaskError: the file cannot be read, a line is none of these, or a text has no token of the policy's.
        ConfigurationError: no line is of one of the problems.
    """
    by_id = {problem.id: problem for problem in problems}
    writer = _Writer(policy, prompts)
    found: dict[str, list[Generation]] = {}
    lines = _lines(path)
    for number, row in lines:
        if row["id"] in by_id:
            where = f"{path}, line {number}"
            found.setdefault(row["id"], []).append(writer.written(by_id[row["id"]], row["text"], where))
    if not found:
        shown = ", ".join(repr(row["id"]) for _, row in lines[:3])
        raise ConfigurationError(
            f"score.offline_attempts: no line of {path} is of a problem that Stage II trains on; its ids are {shown}, "
            f"the problems' {', '.join(repr(problem.id) for problem in problems[:3])}"
        )
    return found


def _lines(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    try:
        texts = path.read_text(encoding="utf-8").split("\n")  # a program may hold Unicode's other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"score.offline_attempts: {path} cannot be read: {error}") from error
    rows = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            rows.append((number, _row(text, f"{path}, line {number}")))
    if not rows:
        raise TaskError(f"score.offline_attempts: {path} holds no attempt")
    return rows


def _row(text: str, where: str) -> Mapping[str, str]:
    wanted = 'expected {"id": a problem\'s id, "text": an attempt at it}'
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(f"{where}: {wanted}; it is no JSON: {error}") from error
    if not isinstance(row, dict) or set(row) != {"id", "text"} or not all(isinstance(v, str) for v in row.values()):
        raise TaskError(f"{where}: {wanted}, got {text[:80]}")
    if not row["text"].strip():
        raise TaskError(f"{where}: the attempt is empty")
    return row


class _Writer:
    """Writes a text as the policy's first answer: after the prompt that the graph would have shown, in its tokens.

    It stands in for the policy in the graph's own node. The end of the answer is the template's: what comes after an
    answer that was not ended begins with it.
    """

    def __init__(self, policy: TransformersPolicy, prompts: Prompts) -> None:
        self._template, self._encoder = policy.template, Encoder(policy.tokenizer)
        self._attempt = Attempt(self, prompts)
        self._ids: tuple[str, list[int]] = "", []

    def written(self, problem: Problem, text: str, where: str) -> Generation:
        try:
            self._ids = text, list(self._encoder.encode(text, False))
        except UnreadablePromptError as error:
            raise TaskError(f"{where}: the attempt cannot be read by this model: {error}") from error
        runtime = Runtime(context=EpisodeContext())
        update = asyncio.run(self._attempt(initial_state(problem, 0), runtime))
        generation: Generation = update["turns"][0]["generation"]
        return generation

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        text, ids = self._ids
        return Generation(
            text=text,
            messages=list(messages),
            prompt_ids=self._template.first(messages),
            completion_ids=ids,
            logprobs=[0.0] * len(ids),  # unknown, and never asked for: the tokens do not learn
            finish_reason="stop",
        )
