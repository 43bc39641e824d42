"""The judge of mathematical answers. What counts as the same answer is told in docs/math-answers.md."""

from selfcorrect.rewards.maths.checker import MathChecker, lenient_checker
from selfcorrect.rewards.maths.value_comparison import EquivalenceRules

__all__ = ["EquivalenceRules", "MathChecker", "lenient_checker"]
