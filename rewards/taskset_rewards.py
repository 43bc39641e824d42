"""The judge of task sets of the library verifiers: their own rewards, in a killable worker that holds no runtime."""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.worker_pool import Outcome, WorkerPool

HANDLER = "selfcorrect.rewards.taskset_rewards:scored"
_SUCCESS = 1.0 - 1e-9


class TasksetChecker:
    """Judges an answer against `{"taskset", "config", "most", "index", "key"}`, as `task verifiers:...` writes them.

    The score is the weighted mean of the task's rewards; CORRECT is all of it. A reward that needs a runtime (a
    container, say) or a judge with a key cannot be had here: such tasks are left out when they are loaded.

    Args:
        partial: WRONG verdicts carry the weighted mean as their score.
        deadline: seconds for one answer; one that keeps the rewards busy for longer is WRONG.
        workers: how many processes at most; None means the number of processors, at most 4.
    """

    def __init__(self, *, partial: bool = False, deadline: float = 30.0, workers: int | None = None) -> None:
        self._partial = partial
        self._pool = WorkerPool(HANDLER, workers=workers, deadline=deadline, memory_mb=8192)

    def check_sync(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """Judge `response`; blocks until a worker has."""
        return self._verdict(self._pool.run({**reference, "answer": response}), response)

    async def check(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """As `check_sync`, in a thread."""
        return await asyncio.to_thread(self.check_sync, response, reference, problem=problem)

    def validate_reference(self, reference: Any) -> str | None:
        """Why `reference` names no task, or None; whether its rewards can be had is found when a task set is loaded."""
        if isinstance(reference, Mapping) and {"taskset", "config", "most", "index", "key"} <= set(reference):
            return None
        return "expected {'taskset': NAME, 'config': {...}, 'most': N, 'index': N, 'key': HASH}"

    def answer_key(self, response: str, problem: str) -> str | None:
        """The whole response: only the task's own rewards know what of it is the answer."""
        return response.strip() or None

    def close(self) -> None:
        """End the workers; they start anew when they are needed again."""
        self._pool.close()

    def _verdict(self, outcome: Outcome, response: str) -> Verdict:
        answer, seconds = response.strip(), outcome.seconds
        if outcome.kind == "done":
            score = weighted_mean(outcome.result["rewards"])
            if score is None:
                return Verdict(Status.UNJUDGED, None, "none of the task's rewards could be had", seconds)
            if score >= _SUCCESS:
                return Verdict(Status.CORRECT, answer, "", seconds)
            rewards = outcome.result["rewards"].items()
            said = ", ".join(f"{name} {value:g}" for name, (value, weight) in sorted(rewards) if weight > 0)
            share = min(max(score, 0.0), 1.0) if self._partial else None
            return Verdict(Status.WRONG, answer, f"its rewards: {said}", seconds, share)
        busy = outcome.kind == "timed out" and outcome.kept_busy and outcome.stage == "scoring"
        if busy or outcome.kind == "crashed" or outcome.result in ("MemoryError", "RecursionError"):
            return Verdict(Status.WRONG, answer, f"too costly for the rewards: {outcome.result}", seconds)
        return Verdict(Status.UNJUDGED, None, f"the rewards failed: {outcome.result}", seconds)


def weighted_mean(rewards: Mapping[str, tuple[float, float]]) -> float | None:
    """Of rewards and their weights, those of weight 0 left out; None if there are none.

    >>> weighted_mean({"right": (1.0, 3.0), "form": (0.0, 1.0), "length": (9.0, 0.0)})
    0.75
    """
    weighed = [(value, weight) for value, weight in rewards.values() if weight > 0]
    if not weighed:
        return None
    return sum(value * weight for value, weight in weighed) / sum(weight for _, weight in weighed)


# In the worker, and where a task set is loaded.


def tasks_of(taskset: str, config: Mapping[str, Any], most: int) -> tuple[Any, ...]:
    """The first `most` tasks of an installed task set; the last few sets are kept.

    Raises:
        CheckerError: it is not installed, or does not take the configuration.
    """
    return _tasks_of(taskset, json.dumps(dict(config), sort_keys=True), most)


@lru_cache(maxsize=4)
def _tasks_of(taskset: str, config: str, most: int) -> tuple[Any, ...]:
    try:
        from verifiers.v1 import load_taskset
        from verifiers.v1.configs.taskset import TasksetConfig
        from verifiers.v1.utils.generic import concrete_type
        from verifiers.v1.utils.loaders import taskset_class
    except ImportError as error:
        from selfcorrect.distribution import install_command

        raise CheckerError(f"task sets of verifiers need version 0.4 of it: {install_command('verifiers')}") from error
    try:
        kind = taskset_class(taskset)
        settings = (concrete_type(kind, TasksetConfig) or TasksetConfig)(id=taskset, **json.loads(config))
        tools = kind.toolsets(settings)
        tasks = () if tools else tuple(load_taskset(settings).take(most))
    except Exception as error:
        # Other people's code: a set may look for docker, for a key in the environment, for another library, and each
        # says what is missing by an error of its own choice.
        said = error if isinstance(error, ImportError | ValueError) else f"{type(error).__name__}: {error}"
        raise CheckerError(f"verifiers:{taskset} cannot be loaded: {said}") from error
    if tools:
        raise CheckerError(f"verifiers:{taskset} gives tools to who answers, and answers here are written without any")
    return tasks


def unjudgeable(task: Any) -> str:
    """Why nobody here can score answers to `task`, or ""."""
    if task.NEEDS_CONTAINER:
        return "it needs a container"
    if task.config.judges:
        return "it is scored by a judge, which needs a model and a key"
    if not task.data.prompt_text.strip():
        return "it has no prompt"
    if not _is_one_text(task.data.prompt):
        return "its prompt is not one text: it shows images, or what others have said before"
    if task.toolsets(task.config):
        return "it gives tools to who answers, and answers here are written without any"
    rewards = task.hooks("reward")
    needing = [method.__name__ for method in rewards if _needs_runtime(method)]
    if needing:
        return f"its rewards {', '.join(needing)} need a runtime"
    if not rewards:
        return "it has no rewards of its own: what pays is its environment, which plays the other side"
    prepared = [name for name in _STAGES if _is_own(task, name)]
    return f"it needs a runtime for its {', '.join(prepared)}" if prepared else ""


def _is_one_text(prompt: Any) -> bool:
    """Whether a prompt is a text, or messages that are texts of the system and of the user."""
    if prompt is None or isinstance(prompt, str):
        return True
    parts = [part for message in prompt if not isinstance(message.content, str) for part in message.content or ()]
    return {message.role for message in prompt} <= {"system", "user"} and all(part.type == "text" for part in parts)


_STAGES = ("setup", "finalize", "stage_verifier")
"""What verifiers does in a runtime before and after an answer; NeMo Gym's rewards ask a server that `setup` begins."""


def _is_own(task: Any, name: str) -> bool:
    """Whether the task does something at that stage, which the library's plain `Task` does not."""
    from verifiers.v1 import Task

    return getattr(type(task), name) is not getattr(Task, name)


def _needs_runtime(method: Callable[..., Any]) -> bool:
    parameter = inspect.signature(method).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def scored(job: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """The rewards of one answer: {"rewards": {name: [score, weight]}}."""
    task = tasks_of(job["taskset"], job["config"], job["most"])[job["index"]]
    if task.key != job["key"]:
        raise ValueError(f"task {job['index']} of {job['taskset']} is no longer the one it was")
    stage("scoring")
    trace = _trace_of(task, job["answer"])
    asyncio.run(task.score(trace, None))
    return {
        "rewards": {name: [reward.score, reward.weight] for name, reward in trace.rewards.items() if reward is not None}
    }


def _trace_of(task: Any, answer: str) -> Any:
    """A finished trace in which `answer` was said to the task's prompt."""
    from verifiers.v1 import AgentConfig, AgentInfo, MessageNode, Trace, TraceTask
    from verifiers.v1.types import AssistantMessage, UserMessage

    trace = Trace(
        task=TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=AgentInfo(config=AgentConfig()),
    )
    trace.nodes.append(MessageNode(message=UserMessage(content=task.data.prompt_text)))
    trace.nodes.append(MessageNode(parent=0, message=AssistantMessage(content=answer), sampled=True))
    trace.is_completed = trace.ok = True
    return trace
