"""The judge of programs: unit tests, run where the program cannot reach them."""

from selfcorrect.rewards.code.checker import UnitTestChecker
from selfcorrect.rewards.code.suites import Asserts, Calls, CheckFunction, StdinStdout, Suite, read_suite

__all__ = ["Asserts", "Calls", "CheckFunction", "StdinStdout", "Suite", "UnitTestChecker", "read_suite"]
