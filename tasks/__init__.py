"""What is asked: problems, sources of problems, and the proof that their references can be judged."""

if __name__ == "tasks":
    raise ImportError("this folder is selfcorrect.tasks; install the project and import it by that name")

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcorrect.tasks.countdown import CountdownTask
    from selfcorrect.tasks.jsonl import JsonlTask
    from selfcorrect.tasks.problem import Problem, Split, Task
    from selfcorrect.tasks.validate import ValidationReport, validate_task

__all__ = ["CountdownTask", "JsonlTask", "Problem", "Split", "Task", "ValidationReport", "validate_task"]

_HOMES = {
    "CountdownTask": "countdown",
    "JsonlTask": "jsonl",
    "Problem": "problem",
    "Split": "problem",
    "Task": "problem",
    "ValidationReport": "validate",
    "validate_task": "validate",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: countdown brings sympy along.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
