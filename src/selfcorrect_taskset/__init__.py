"""The name by which the library verifiers finds our tasks: it takes a task set from a module of the top level."""

from selfcorrect.tasks.as_taskset import SelfCorrectTaskset

__all__ = ["SelfCorrectTaskset"]
