"""The public names, one a line: `from .home import Name as Name`. Each is loaded when it is first used."""

from .checker import Checker as Checker
from .checker import Status as Status
from .checker import Verdict as Verdict
from .code.checker import UnitTestChecker as UnitTestChecker
from .code.suites import Asserts as Asserts
from .code.suites import Calls as Calls
from .code.suites import Case as Case
from .code.suites import CheckFunction as CheckFunction
from .code.suites import StdinCase as StdinCase
from .code.suites import StdinStdout as StdinStdout
from .code.suites import Suite as Suite
from .code.suites import read_suite as read_suite
from .countdown import CountdownChecker as CountdownChecker
from .equations import EquationChecker as EquationChecker
from .maths.checker import MathChecker as MathChecker
from .maths.comparison import EquivalenceRules as EquivalenceRules
from .shaping import Score as Score
from .shaping import pag as pag
from .shaping import per_turn as per_turn
from .shaping import score_stage_one as score_stage_one
from .shaping import score_stage_two as score_stage_two
from .shaping import terminal as terminal
from .verifier import ScriptedVerifier as ScriptedVerifier
from .verifier import StepVerifier as StepVerifier
from .verifier import Verifier as Verifier
from .verifiers.loading import load_verifier as load_verifier
