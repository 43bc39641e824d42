"""Ways to ask for a revision, by name: what is played between an answer and the next, and when the loop ends by itself.

A new way is a `CritiqueMode` and one line in `CRITIQUES`; a user's own is a `CritiqueMode`, as `package.module:Name`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.registry import Registry
from selfcorrect.rewards.checkers import ExecutingChecker

if TYPE_CHECKING:
    from selfcorrect.agents.nodes import Node
    from selfcorrect.agents.policy import Policy
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.stopping import Stop
    from selfcorrect.rewards.checker import Checker

Step = tuple[str, "Node"]
"""A node of the graph and its name. Of a mode's steps, the last writes the next answer (a turn "revise"); those before
it write turns "critique"."""


@dataclass(frozen=True)
class CritiqueMode:
    """One way to critique.

    Attributes:
        says: its help.
        setting: name of the graphs, which reports carry: feedback must never be taken for self-correction.
        steps: what is played between an answer and the next, in order.
        turns: how many turns these steps write.
        stop: the natural rule for ending before all revisions are used.
        needs_checker: whether the steps pass on what a checker found, or the rule asks for it.
        shows_findings: of a mode that needs a checker: whether its findings are shown in sentences, or only decide what
            comes next.
        runs_examples: whether programs are tried on the examples of their problem, whose findings are shown.
        judges_itself: whether the policy writes a verdict of its own, which `OwnVerdict` reads.
        prompts: other words for the policy in this mode, by name: {"math": "pag"} takes PAG's for those of MATH.
    """

    says: str
    setting: str
    steps: "Callable[[Policy, Prompts], Sequence[Step]]"
    stop: "Callable[[Prompts], Stop]"
    turns: int = 1
    needs_checker: bool = False
    shows_findings: bool = True
    runs_examples: bool = False
    judges_itself: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)


def _revise(policy: "Policy", prompts: "Prompts") -> list[Step]:
    from selfcorrect.agents.nodes import Revise

    return [("revise", Revise(policy, prompts))]


def _critique_and_revise(policy: "Policy", prompts: "Prompts") -> list[Step]:
    from selfcorrect.agents.nodes import Critique, Revise

    return [("critique", Critique(policy, prompts)), ("revise", Revise(policy, prompts))]


def _reflect_and_revise(policy: "Policy", prompts: "Prompts") -> list[Step]:
    from selfcorrect.agents.nodes import Critique, Revise

    return [("reflect", Critique(policy, prompts)), ("revise", Revise(policy, prompts))]


def _revise_with_feedback(policy: "Policy", prompts: "Prompts") -> list[Step]:
    from selfcorrect.agents.nodes import ReviseWithFeedback

    return [("revise", ReviseWithFeedback(policy, prompts))]


def _revise_by_examples(policy: "Policy", prompts: "Prompts") -> list[Step]:
    from selfcorrect.agents.nodes import ReviseByExamples

    return [("revise", ReviseByExamples(policy, prompts))]


def _never(prompts: "Prompts") -> "Stop":
    from selfcorrect.agents.stopping import FixedRevisions

    return FixedRevisions()


def _own_verdict(prompts: "Prompts") -> "Stop":
    from selfcorrect.agents.stopping import OwnVerdict

    return OwnVerdict(prompts)


def _checker_verdict(prompts: "Prompts") -> "Stop":
    from selfcorrect.agents.stopping import CheckerVerdict

    return CheckerVerdict()


def _examples_hold(prompts: "Prompts") -> "Stop":
    from selfcorrect.agents.stopping import ExamplesHold

    return ExamplesHold()


CRITIQUES: Registry[CritiqueMode] = Registry(
    "critique mode",
    {
        "instruction": CritiqueMode("a fixed instruction", "intrinsic correction", _revise, _never),
        "self": CritiqueMode(
            "the policy's own critique",
            "correction after own critique",
            _critique_and_revise,
            _own_verdict,
            turns=2,
            judges_itself=True,
            prompts={"math": "pag"},
        ),
        "feedback": CritiqueMode(
            "the checker's finding",
            "correction with checker feedback",
            _revise_with_feedback,
            _checker_verdict,
            needs_checker=True,
        ),
        "refine": CritiqueMode(
            "the policy's own critique, and a revision whatever it says",
            "correction after own critique, always",
            _critique_and_revise,
            _never,
            turns=2,
            prompts={"math": "pag"},
        ),
        "examples": CritiqueMode(
            "what came of the examples that the problem shows; for code",
            "correction by the problem's own examples",
            _revise_by_examples,
            _examples_hold,
            runs_examples=True,
        ),
        "try-again": CritiqueMode(
            "a fixed instruction until the checker is content",
            "correction with unary checker feedback",
            _revise,
            _checker_verdict,
            needs_checker=True,
            shows_findings=False,
        ),
        "reflect": CritiqueMode(
            "the policy's own critique of what the checker calls wrong",
            "correction with unary checker feedback, after own critique",
            _reflect_and_revise,
            _checker_verdict,
            turns=2,
            needs_checker=True,
            shows_findings=False,
            prompts={"math": "pag"},
        ),
    },
    expects=CritiqueMode,
)
"""instruction: a fixed message asks for another answer (SCoRe, intrinsic self-correction). self: the policy first
writes a verdict on its own answer (PAG). feedback: the checker's finding is part of the message, which is another
setting than the other two and is reported as such. examples: for code, the examples that the prompt shows are run, and
the next message tells what came of them (Self-Debugging, Chen et al. 2023, arXiv 2304.05128; RLEF, Gehring et al.
2024, arXiv 2410.02089, which is paid by tests that are not shown). refine: as self, but a revision always follows
(Self-Refine). try-again and reflect: as instruction and refine, but the checker says when to end, which is a finding
too."""


def critique_mode(given: str | CritiqueMode) -> CritiqueMode:
    """The mode of that name; a mode as it is.

    Raises:
        ConfigurationError: there is none.
    """
    return CRITIQUES.find(given) if isinstance(given, str) else given


def has_findings(mode: CritiqueMode, checker: "Checker | None") -> bool:
    """Whether what `mode` shows or goes by can be had of answers that `checker` judges; None is nobody."""
    if mode.runs_examples:
        return isinstance(checker, ExecutingChecker)
    return checker is not None or not mode.needs_checker


def refuse_without_programs(mode: CritiqueMode, checker: "Checker | None") -> None:
    """Raise a ConfigurationError if programs are to be run, and the answers that `checker` judges are none."""
    if mode.runs_examples and not has_findings(mode, checker):
        judged_by = "nobody judges" if checker is None else f"a {type(checker).__name__} judges"
        raise ConfigurationError(
            f"critique 'examples' runs programs on the examples that their problems show, and {judged_by} the answers "
            "here: take a task of code, such as humaneval or mbpp, or show doctests or asserts in the question"
        )


# The loop that a policy was trained in. As its prompts, it is on record in tokenizer_config.json, and goes with what is
# saved.

_LOOP = "selfcorrect_loop"


@dataclass(frozen=True, slots=True)
class Loop:
    """A way to critique, by its name, and how often an answer is revised. The defaults are the commands' own."""

    critique: str = "instruction"
    revisions: int = 1


def record_loop(tokenizer: Any, loop: Loop) -> None:
    """Keep `loop` with `tokenizer`, which saves it: commands play a policy in the loop that it knows."""
    tokenizer.init_kwargs[_LOOP] = {"critique": loop.critique, "revisions": loop.revisions}


def recorded_loop(policy: Any) -> Loop | None:
    """The loop in which `policy` was trained, as evaluation and use play it; None where nothing is on record.

    Raises:
        PolicyError: what is on record is no loop.
    """
    kept = getattr(getattr(policy, "tokenizer", None), "init_kwargs", {}).get(_LOOP)
    if kept is None:
        return None
    match kept:
        case {"critique": str(critique), "revisions": int(revisions)} if revisions >= 1:
            return Loop(critique, revisions)
    raise PolicyError(
        f"{_LOOP} in the policy's tokenizer_config.json must be a way to critique and a number of revisions, such as "
        f'{{"critique": "self", "revisions": 8}}, got {kept!r}'
    )
