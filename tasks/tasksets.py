"""Task sets of the library verifiers (0.4) as our tasks: `--task verifiers:PACKAGE`. See docs/environments.md."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from selfcorrect.errors import CheckerError, TaskError
from selfcorrect.rewards.taskset_rewards import TasksetChecker, tasks_of, unjudgeable
from selfcorrect.setting_groups import Share
from selfcorrect.tasks.jsonl import split_of
from selfcorrect.tasks.naming import with_parameters
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.published import PublishedTask
from selfcorrect.tasks.registry import TaskSettings

_MOST_SHOWN = 3


class VerifiersSettings(TaskSettings):
    """A task set that is installed, with its own settings in `config`.

    Task sets know no splits: a task is held out by a hash of its prompt. Tasks whose rewards cannot be had in a process
    (they need a container, a runtime or a judge) are left out, counted and named.
    """

    prompts: ClassVar[str] = "plain"
    file: ClassVar[str | None] = "taskset"

    kind: Literal["verifiers"] = "verifiers"
    taskset: str
    """The package that holds it, or its id on the Environments Hub, once installed."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Its own settings."""
    most: int = Field(default=10_000, ge=2)
    """How many tasks are read: some sets never end."""
    test_share: Share = 0.1
    """The part of the tasks that is held out."""
    partial: bool = False
    """Wrong answers are paid the weighted mean of the task's rewards."""

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, values: Any) -> Any:
        """`PACKAGE,key=value,...` of the command line."""
        return with_parameters(values, "taskset", ("most", "test_share", "partial"))

    def open(self) -> PublishedTask:
        """Reads the tasks.

        Raises:
            TaskError: the set is not installed, or none of its tasks can be judged here.
        """
        try:
            tasks = tasks_of(self.taskset, self.config, self.most)
        except CheckerError as error:
            raise TaskError(str(error)) from error
        splits: dict[Split, list[Problem]] = {"train": [], "test": []}
        refused: list[tuple[int, str, str]] = []
        prompts: set[str] = set()
        repeated = 0
        for index, task in enumerate(tasks):
            why = unjudgeable(task)
            if why:
                refused.append((index, "", why))
                continue
            problem = self._problem(task, index)
            if problem.prompt in prompts:
                repeated += 1
            else:
                splits[split_of(problem.prompt, self.test_share)].append(problem)
            prompts.add(problem.prompt)
        if not prompts:
            reasons = list(dict.fromkeys(why for *_, why in refused))[:_MOST_SHOWN] or ["it is empty"]
            raise TaskError(f"verifiers:{self.taskset} has no task that can be judged here: {'; '.join(reasons)}")
        checker = TasksetChecker(partial=self.partial)
        return PublishedTask(f"verifiers-{self.taskset}", checker, splits, tuple(refused), repeated)

    def _problem(self, task: Any, index: int) -> Problem:
        data = task.data
        system = f"{data.system_prompt}\n\n" if data.system_prompt else ""
        where = {"taskset": self.taskset, "config": self.config, "most": self.most, "index": index, "key": task.key}
        return Problem(
            id=f"{self.taskset}-{data.id or data.name or index}",
            prompt=system + data.prompt_text,
            reference=where,
            checker="verifiers",
            metadata={"source": "verifiers"},
        )

    @classmethod
    def spellings(cls, name: str) -> str:
        return f"{name}:PACKAGE[,key=value...]"

    @property
    def title(self) -> str:
        return f"verifiers' {self.taskset}"
