"""Our tasks as a task set of the library verifiers (0.4), whose name there is selfcorrect-taskset:

    vf-eval selfcorrect-taskset --env.taskset.task_name countdown-4

The reward is our checker's verdict. An answer that could not be judged raises, so that the rollout is an error there
and no zero.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import verifiers.v1 as vf

from selfcorrect.rewards.checker import judged
from selfcorrect.tasks.naming import open_task
from selfcorrect.tasks.problem import Split, Task

__all__ = ["SelfCorrectTaskset"]


class ProblemData(vf.TaskData):
    """A problem on verifiers' wire."""

    reference: Any
    """What the checker compares with."""
    task_name: str
    """The task the problem is of, as `--task` names it."""
    words: bool
    """Whether it is asked in English sentences."""


class ProblemTask(vf.Task[ProblemData]):
    """A problem, scored by its task's checker."""

    @vf.reward(weight=1.0)
    async def verdict(self, trace: Any) -> float:
        """1 for a right answer, 0 or a fraction for a wrong one."""
        checker = _opened(self.data.task_name, self.data.words).checker
        found = await judged(checker, trace.last_reply, self.data.reference, self.data.prompt_text)
        if found.score is None:
            raise RuntimeError(f"the answer could not be judged: {found.reason}")
        return found.score


class SelfCorrectConfig(vf.TasksetConfig):
    """Which problems."""

    task_name: str = "countdown-4"
    """As `--task` names it."""
    words: bool = True
    """Ask problems that are made up in English sentences; False is for the embedded policy."""
    split: Split = "test"
    count: int = 100
    seed: int = 0


class SelfCorrectTaskset(vf.Taskset[ProblemTask, SelfCorrectConfig]):
    """The problems of one of our tasks."""

    def load(self) -> Iterable[ProblemTask]:
        """Each of `count` problems of the split."""
        config = self.config
        task = _opened(config.task_name, config.words)
        for problem in task.problems(config.split, config.count, seed=config.seed):
            data = ProblemData(
                id=problem.id,
                prompt=problem.prompt,
                reference=problem.reference,
                task_name=config.task_name,
                words=config.words,
            )
            yield ProblemTask(data, config.task)


@cache
def _opened(name: str, words: bool) -> Task:
    return open_task(name, words=words)
