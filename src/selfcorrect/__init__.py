"""Teach language models to fix their own mistakes: loops as LangGraph graphs, trained in place with per-turn PPO.

The names below are the public ones. Each is loaded when it is first used, so that `import selfcorrect` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcorrect.agents.chat_model import ChatSelfCorrect
    from selfcorrect.agents.chat_model_policy import ChatModelPolicy
    from selfcorrect.agents.episodes import play, play_sync
    from selfcorrect.agents.evaluation import evaluate
    from selfcorrect.agents.graph import build_graph
    from selfcorrect.agents.middleware import SelfCorrectMiddleware
    from selfcorrect.agents.person import AskPerson
    from selfcorrect.agents.policy import GREEDY, Policy, Sampling
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.quiet.policy import QuietPolicy
    from selfcorrect.agents.scripted import ScriptedPolicy
    from selfcorrect.agents.solving import Solution, policy_loop, solve, solve_sync, stream_turns
    from selfcorrect.agents.state import EpisodeState, Generation, Turn
    from selfcorrect.agents.stopping import Budget
    from selfcorrect.agents.transformers_policy import TransformersPolicy
    from selfcorrect.agents.vllm_policy import VLLMPolicy
    from selfcorrect.errors import (
        CheckerError,
        ConfigurationError,
        DivergenceError,
        GraphError,
        PolicyError,
        SandboxError,
        SelfCorrectError,
        TaskError,
        TrainingError,
    )
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.rewards.code import UnitTestChecker
    from selfcorrect.rewards.countdown import CountdownChecker
    from selfcorrect.rewards.equations import EquationChecker
    from selfcorrect.rewards.maths import MathChecker
    from selfcorrect.rewards.verdict import Status, Verdict
    from selfcorrect.tasks.countdown import CountdownTask
    from selfcorrect.tasks.equations import EquationsTask
    from selfcorrect.tasks.jsonl import JsonlTask
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.tasks.validate import validate_task
    from selfcorrect.training.config import PPOConfig
    from selfcorrect.training.foreign import train
    from selfcorrect.training.presets import DEMO, FULL
    from selfcorrect.training.run_directory import RunResult
    from selfcorrect.training.score import train_score
    from selfcorrect.training.settings import RunSettings
    from selfcorrect.training.settings_file import read_settings

_HOMES = {
    "agents.episodes": ("play", "play_sync"),
    "agents.evaluation": ("evaluate",),
    "agents.graph": ("build_graph",),
    "agents.policy": ("GREEDY", "Policy", "Sampling"),
    "agents.prompts": ("Prompts",),
    "agents.quiet.policy": ("QuietPolicy",),
    "agents.scripted": ("ScriptedPolicy",),
    "agents.state": ("EpisodeState", "Generation", "Turn"),
    "agents.transformers_policy": ("TransformersPolicy",),
    "agents.vllm_policy": ("VLLMPolicy",),
    "agents.person": ("AskPerson",),
    "agents.stopping": ("Budget",),
    "agents.chat_model_policy": ("ChatModelPolicy",),
    "agents.chat_model": ("ChatSelfCorrect",),
    "agents.solving": (
        "Solution",
        "policy_loop",
        "solve",
        "solve_sync",
        "stream_turns",
    ),
    "agents.middleware": ("SelfCorrectMiddleware",),
    "training.foreign": ("train",),
    "training.config": ("PPOConfig",),
    "errors": (
        "CheckerError",
        "ConfigurationError",
        "DivergenceError",
        "GraphError",
        "PolicyError",
        "SandboxError",
        "SelfCorrectError",
        "TaskError",
        "TrainingError",
    ),
    "rewards.checker": ("Checker",),
    "rewards.code": ("UnitTestChecker",),
    "rewards.countdown": ("CountdownChecker",),
    "rewards.equations": ("EquationChecker",),
    "rewards.maths": ("MathChecker",),
    "rewards.verdict": ("Status", "Verdict"),
    "tasks.countdown": ("CountdownTask",),
    "tasks.equations": ("EquationsTask",),
    "tasks.jsonl": ("JsonlTask",),
    "tasks.problem": ("Problem", "Task"),
    "tasks.validate": ("validate_task",),
    "training.presets": ("DEMO", "FULL"),
    "training.run_directory": ("RunResult",),
    "training.score": ("train_score",),
    "training.settings": ("RunSettings",),
    "training.settings_file": ("read_settings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DEMO",
    "FULL",
    "GREEDY",
    "AskPerson",
    "Budget",
    "ChatModelPolicy",
    "ChatSelfCorrect",
    "Checker",
    "CheckerError",
    "ConfigurationError",
    "CountdownChecker",
    "CountdownTask",
    "DivergenceError",
    "EpisodeState",
    "EquationChecker",
    "EquationsTask",
    "Generation",
    "GraphError",
    "JsonlTask",
    "MathChecker",
    "PPOConfig",
    "Policy",
    "PolicyError",
    "Problem",
    "Prompts",
    "QuietPolicy",
    "RunResult",
    "RunSettings",
    "Sampling",
    "SandboxError",
    "ScriptedPolicy",
    "SelfCorrectError",
    "SelfCorrectMiddleware",
    "Solution",
    "Status",
    "Task",
    "TaskError",
    "TrainingError",
    "TransformersPolicy",
    "Turn",
    "UnitTestChecker",
    "VLLMPolicy",
    "Verdict",
    "__version__",
    "build_graph",
    "evaluate",
    "play",
    "play_sync",
    "policy_loop",
    "read_settings",
    "solve",
    "solve_sync",
    "stream_turns",
    "train",
    "train_score",
    "validate_task",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("selfcorrect")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'selfcorrect' has no attribute {name!r}")
    return getattr(import_module(f"selfcorrect.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
