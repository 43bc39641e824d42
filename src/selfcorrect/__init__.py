"""Teach language models to fix their own mistakes: loops as LangGraph graphs, trained in place with per-turn PPO.

The names below are the public ones. Each is loaded when it is first used, so that `import selfcorrect` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcorrect.agents.episodes import play, play_sync
    from selfcorrect.agents.evaluation import evaluate
    from selfcorrect.agents.graph import build_graph
    from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
    from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
    from selfcorrect.agents.plugins.middleware import SelfCorrectMiddleware
    from selfcorrect.agents.policies.scripted import ScriptedPolicy
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.policies.vllm import VLLMPolicy
    from selfcorrect.agents.policy import GREEDY, Policy, Sampling
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.quiet.policy import QuietPolicy
    from selfcorrect.agents.solving.human import AskHuman
    from selfcorrect.agents.solving.solve import Solution, policy_loop, solve, solve_sync, stream_turns
    from selfcorrect.agents.state import EpisodeState, Generation, Turn
    from selfcorrect.agents.stopping import Budget
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
    from selfcorrect.rewards.checker import Checker, Status, Verdict
    from selfcorrect.rewards.code import UnitTestChecker
    from selfcorrect.rewards.countdown import CountdownChecker
    from selfcorrect.rewards.equations import EquationChecker
    from selfcorrect.rewards.maths import MathChecker
    from selfcorrect.tasks.countdown import CountdownTask
    from selfcorrect.tasks.equations import EquationsTask
    from selfcorrect.tasks.jsonl import JsonlTask
    from selfcorrect.tasks.problem import Problem, Task
    from selfcorrect.tasks.validate import validate_task
    from selfcorrect.training.arms.reinforced import train_score
    from selfcorrect.training.own_graph import train
    from selfcorrect.training.ppo.config import TurnPPOConfig
    from selfcorrect.training.runs.run_directory import RunResult
    from selfcorrect.training.settings import DEMO, FULL, RunSettings, read_settings

_HOMES = {
    "agents.episodes": ("play", "play_sync"),
    "agents.evaluation": ("evaluate",),
    "agents.graph": ("build_graph",),
    "agents.plugins.chat_model": ("ChatSelfCorrect",),
    "agents.plugins.chat_model_policy": ("ChatModelPolicy",),
    "agents.plugins.middleware": ("SelfCorrectMiddleware",),
    "agents.policies.scripted": ("ScriptedPolicy",),
    "agents.policies.transformers": ("TransformersPolicy",),
    "agents.policies.vllm": ("VLLMPolicy",),
    "agents.policy": ("GREEDY", "Policy", "Sampling"),
    "agents.prompts": ("Prompts",),
    "agents.quiet.policy": ("QuietPolicy",),
    "agents.solving.human": ("AskHuman",),
    "agents.solving.solve": ("Solution", "policy_loop", "solve", "solve_sync", "stream_turns"),
    "agents.state": ("EpisodeState", "Generation", "Turn"),
    "agents.stopping": ("Budget",),
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
    "rewards.checker": ("Checker", "Status", "Verdict"),
    "rewards.code": ("UnitTestChecker",),
    "rewards.countdown": ("CountdownChecker",),
    "rewards.equations": ("EquationChecker",),
    "rewards.maths": ("MathChecker",),
    "tasks.countdown": ("CountdownTask",),
    "tasks.equations": ("EquationsTask",),
    "tasks.jsonl": ("JsonlTask",),
    "tasks.problem": ("Problem", "Task"),
    "tasks.validate": ("validate_task",),
    "training.arms.reinforced": ("train_score",),
    "training.own_graph": ("train",),
    "training.ppo.config": ("TurnPPOConfig",),
    "training.runs.run_directory": ("RunResult",),
    "training.settings": ("DEMO", "FULL", "RunSettings", "read_settings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DEMO",
    "FULL",
    "GREEDY",
    "AskHuman",
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
    "TurnPPOConfig",
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
