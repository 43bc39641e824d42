"""What is asked: problems, and the protocol of a source of problems."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Checker

Split = Literal["train", "test"]


class Problem(BaseModel):
    """One thing to solve.

    Attributes:
        id: unique within its task; errors and result files name it.
        prompt: what the policy is shown.
        reference: what the checker compares with (an answer, numbers and target, tests); plain JSON data, never shown.
        checker: the checker that judges it: "countdown", "equations", "math" or "code".
        gold: a response that the checker accepts, if one is known.
        difficulty: larger is harder, on a scale of the task's own.
        metadata: whatever else the source knows; plain JSON data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    reference: Any
    checker: str
    gold: str | None = None
    difficulty: float = 0.0
    metadata: dict[str, Any] = Field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """A source of problems whose train and test splits do not overlap."""

    @property
    def name(self) -> str:
        """Short name, used in file names and tables."""
        ...

    @property
    def checker(self) -> Checker:
        """The judge of this task's answers."""
        ...

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        """`count` distinct problems of `split`; the same arguments give the same problems.

        Raises:
            TaskError: the split holds fewer than `count` problems.
        """
        ...


# What somebody wants solved: a problem of a task, or a text of their own.


def as_problem(problem: Problem | str, kind: str) -> Problem:
    """A text as a problem without a reference, whose id is `kind` and a hash of the text; a problem as it is.

    Raises:
        ConfigurationError: the text is blank.
    """
    if isinstance(problem, Problem):
        return problem
    if not problem.strip():
        raise ConfigurationError("the problem is blank")
    name = hashlib.blake2b(problem.encode(), digest_size=8).hexdigest()
    return Problem(id=f"{kind}-{name}", prompt=problem, reference=None, checker="none")
