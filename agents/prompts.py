"""The words around a problem: what the policy is asked first, and what it is asked about its own answer."""

import re
from dataclasses import dataclass

from selfcorrect.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts of an episode. In templates, `{problem}` and `{reason}` are replaced; other braces stay as they are.

    Args:
        attempt: template of the first user message; holds `{problem}`.
        revise: the user message that asks for another answer. It must not say whether the last one was right.
        critique: the user message that asks the policy to judge its own answer (critique "self").
        feedback: template of the user message that passes on what the checker found (critique "feedback"); holds `{reason}`.
        says_wrong: the words by which the policy's critique calls its answer wrong.
        says_right: the words by which it calls it right.
        system: system message; "" for none (some chat templates refuse one).
    """

    attempt: str
    revise: str
    critique: str
    feedback: str
    says_wrong: str
    says_right: str
    system: str = ""

    def __post_init__(self) -> None:
        if "{problem}" not in self.attempt:
            raise ConfigurationError(f"the attempt template must hold {{problem}}, got {self.attempt!r}")
        if "{reason}" not in self.feedback:
            raise ConfigurationError(f"the feedback template must hold {{reason}}, got {self.feedback!r}")

    def calls_wrong(self, critique: str) -> bool | None:
        """Whether a critique ends up calling the answer wrong; None if it says neither. The last verdict in it counts."""
        wrong, right = _last(self.says_wrong, critique), _last(self.says_right, critique)
        return None if wrong == right else wrong > right


def _last(words: str, text: str) -> int:
    """Where `words` last occur in `text` as whole words, in any case; -1 if they do not."""
    found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)]
    return found[-1] if found else -1


_MATH_FORM = (
    'At the end of the Solution, when you give your final answer, write it in the form "Final Answer: The final answer is '
    '$answer$. I hope it is correct."'
)
_PAG_CRITIQUE = (
    "Check the math solution step-by-step. If you find a mistake: state the wrong step, explain why it's wrong, and end "
    "your response with 'The answer is wrong'. If all steps are correct, end your response with 'The answer is correct'."
)

SCORE_MATH = Prompts(
    attempt="You are a math expert. When you respond, respond only with the Solution of the final Problem, thinking step by "
    f"step. {_MATH_FORM}\n\n{{problem}}",
    revise="There might be an error in the solution above because of lack of understanding of the question. Please correct "
    f"the error, if any, and rewrite the solution. Only output the final solution! {_MATH_FORM}",
    critique=_PAG_CRITIQUE,
    feedback=f"A checker looked at the solution above and found: {{reason}}\nPlease write the whole solution again. {_MATH_FORM}",
    says_wrong="The answer is wrong",
    says_right="The answer is correct",
)
"""SCoRe's prompts for MATH (arXiv 2409.12917, appendix C). The critique is PAG's and the feedback ours: SCoRe has neither."""

SCORE_CODE = Prompts(
    attempt="You are an expert Python programmer, and here is your task: {problem}",
    revise="# There might be an error in the code above because of lack of understanding of the question. Please correct the "
    "error, if any, and rewrite the solution. Only output the final correct Python program!",
    critique="Check the code above line by line against the task. If you find a mistake: say which line is wrong and why, and "
    "end your response with 'The code is wrong'. If all of it is correct, end your response with 'The code is correct'.",
    feedback="The tests of the task were run on the code above. Result: {reason}\nPlease write the whole corrected Python "
    "program. Only output the program!",
    says_wrong="The code is wrong",
    says_right="The code is correct",
)
"""SCoRe's prompts for code (same place). The tests that the paper's MBPP prompt shows belong to the problem's own prompt.
Critique and feedback are ours."""

PAG_MATH = Prompts(
    attempt=f"{{problem}}\n\nPlease think step by step. {_MATH_FORM}",
    revise="You indicated that your previous answer was wrong. Please provide the correct solution to the math problem.",
    critique=_PAG_CRITIQUE,
    feedback="A checker looked at your previous answer and found: {reason}\nPlease provide the correct solution to the math "
    "problem.",
    says_wrong="The answer is wrong",
    says_right="The answer is correct",
)
"""PAG's critique and revision prompts (arXiv 2506.10406), for critique "self"; attempt and feedback are ours."""

PLAIN = Prompts(
    attempt="{problem}",
    revise="There might be an error in the answer above. Please correct it, if there is one, and write the whole answer again. "
    "Only write the answer.",
    critique="Check the answer above against the question, step by step. If you find a mistake, explain it and end your response "
    "with 'The answer is wrong'. If there is none, end your response with 'The answer is correct'.",
    feedback="A checker looked at the answer above and found: {reason}\nPlease write the whole answer again, corrected. Only write "
    "the answer.",
    says_wrong="The answer is wrong",
    says_right="The answer is correct",
)
"""For questions of any kind, as agent applications get them: the problem is shown as it is."""

COUNTDOWN = Prompts(
    attempt="{problem}",
    revise="again :",
    critique="check :",
    feedback="hint {reason} again :",
    says_wrong="wrong",
    says_right="right",
)
"""For the embedded policy, whose vocabulary is numbers, operators and a few words. It cannot read a checker's sentences: of the
critiques, use "instruction" or "self" with it."""
