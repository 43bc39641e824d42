"""reasoning-gym's procedural problems (over a hundred kinds, arXiv 2505.24760), judged by their own scorers.

`--task reasoning-gym:NAME` or `--task reasoning-gym:NAME,min_terms=2,max_terms=4`; the extra "reasoning-gym".
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from selfcorrect.errors import CheckerError, TaskError
from selfcorrect.rewards.reasoning_gym import ReasoningGymChecker, opened, to_plain
from selfcorrect.tasks.jsonl import split_of
from selfcorrect.tasks.naming import with_parameters
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import TaskSettings

_TEST_SHARE = 0.25
_BATCH = 64
_MOST_REPEATS = 2_000
"""So many questions in a row that were all there before, or of the other split: the data set has no more."""
_SHOWN = "\n\nWrite your final answer between <answer> and </answer>."


class ReasoningGymTask:
    """Problems of one of reasoning-gym's data sets. A question is a training or a test question by its text alone.

    Args:
        dataset: its name, such as "chain_sum".
        partial: wrong answers are paid what the data set's scorer pays for them.
        **config: what the data set is made with; `seed` and `size` are not among it.

    Raises:
        TaskError: there is no such data set, or it does not take the configuration.
    """

    def __init__(self, dataset: str, *, partial: bool = False, **config: Any) -> None:
        self.dataset, self.config = dataset, config
        self.checker = ReasoningGymChecker(partial=partial)
        fixed = {"seed", "size"} & set(config)
        if fixed:
            raise TaskError(
                f"reasoning-gym:{dataset}: leave out {' and '.join(sorted(fixed))}: how many problems, and by which "
                "seed, says whoever uses the task (as by -n of eval)"
            )
        self._opened(0)

    @property
    def name(self) -> str:
        """Short name, used in file names and tables."""
        return f"reasoning-gym-{self.dataset}"

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        """`count` distinct problems of `split`; see `Task.problems`."""
        found: dict[str, Problem] = {}
        for entry in self._entries(split, seed):
            if len(found) == count:
                break
            question = " ".join(str(entry["question"]).split())
            if question not in found and split_of(question, _TEST_SHARE) == split:
                found[question] = self._problem(entry)
        if len(found) < count:
            raise TaskError(f"{self.name}: {count:,} {split} problems were asked for, but there are {len(found):,}")
        return list(found.values())

    def _entries(self, split: Split, seed: int) -> Iterator[Mapping[str, Any]]:
        """The data set's entries, batch after batch of other seeds; ends when it only repeats itself."""
        seen: set[str] = set()
        repeats, batch = 0, 0
        while repeats < _MOST_REPEATS:
            start = hashlib.blake2b(f"{self.dataset}-{split}-{seed}-{batch}".encode(), digest_size=4).digest()
            dataset = self._opened(int.from_bytes(start))
            for place in range(_BATCH):
                entry = dataset[place]
                question = str(entry["question"])
                repeats = repeats + 1 if question in seen else 0
                seen.add(question)
                yield entry
            batch += 1

    def _problem(self, entry: Mapping[str, Any]) -> Problem:
        question, gold = str(entry["question"]), entry["answer"]
        digest = hashlib.blake2b(question.encode(), digest_size=6).hexdigest()
        reference = {"dataset": self.dataset, "config": to_plain(self.config), "entry": to_plain(dict(entry))}
        return Problem(
            id=f"{self.dataset}-{digest}",
            prompt=question + _SHOWN,
            reference=reference,
            checker="reasoning-gym",
            gold=None if gold is None else f"<answer>{gold}</answer>",
            metadata={"source": "reasoning-gym"},
        )

    def _opened(self, seed: int) -> Any:
        try:
            return opened(self.dataset, {**self.config, "seed": seed, "size": _BATCH})
        except CheckerError as error:
            raise TaskError(str(error)) from error


class ReasoningGymSettings(TaskSettings):
    """One of reasoning-gym's data sets, with its own parameters in `config`."""

    prompts: ClassVar[str] = "plain"
    file: ClassVar[str | None] = "dataset"

    kind: Literal["reasoning-gym"] = "reasoning-gym"
    dataset: str
    """Its name, such as chain_sum."""
    config: dict[str, Any] = Field(default_factory=dict)
    """What it is made with, such as {min_terms: 2}."""
    partial: bool = False
    """Wrong answers are paid what the data set's scorer pays for them, less what it pays for none."""

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, values: Any) -> Any:
        """`NAME,key=value,...` of the command line."""
        return with_parameters(values, "dataset", ("partial",))

    def open(self) -> ReasoningGymTask:
        return ReasoningGymTask(self.dataset, partial=self.partial, **self.config)

    @classmethod
    def spellings(cls, name: str) -> str:
        return f"{name}:NAME[,key=value...]"

    @property
    def title(self) -> str:
        return f"reasoning-gym's {self.dataset}"
