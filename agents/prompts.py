"""The words around a problem: what the policy is asked first, and what it is asked about its own answer."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.registry import Registry
from selfcorrect.setting_groups import Settings
from selfcorrect.settings import load_settings

if TYPE_CHECKING:
    from selfcorrect.agents.critiques import CritiqueMode


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts of an episode. In templates, `{problem}` and `{reason}` are replaced; other braces stay as they are.

    Args:
        attempt: template of the first user message; holds `{problem}`.
        revise: the user message that asks for another answer. It must not say whether the last one was right.
        critique: the user message that asks the policy to judge its own answer (critique "self").
        feedback: template of the user message that passes on what the checker found (critique "feedback"); holds
            `{reason}`.
        says_wrong: the words by which the policy's critique calls its answer wrong.
        says_right: the words by which it calls it right.
        system: system message; "" for none (some chat templates refuse one).

    Raises:
        ConfigurationError: a template lacks what it must hold.
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
        """Whether a critique ends up calling the answer wrong; None if it says neither. The last verdict in it
        counts."""
        wrong, right = _last(self.says_wrong, critique), _last(self.says_right, critique)
        return None if wrong == right else wrong > right


def _last(words: str, text: str) -> int:
    """Where `words` last occur in `text` as whole words, in any case; -1 if they do not."""
    found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)]
    return found[-1] if found else -1


_MATH_FORM = (
    'At the end of the Solution, when you give your final answer, write it in the form "Final Answer: The final answer '
    'is $answer$. I hope it is correct."'
)
_PAG_CRITIQUE = (
    "Check the math solution step-by-step. If you find a mistake: state the wrong step, explain why it's wrong, and "
    "end your response with 'The answer is wrong'. If all steps are correct, end your response with 'The answer is "
    "correct'."
)

SCORE_MATH = Prompts(
    attempt="You are a math expert. When you respond, respond only with the Solution of the final Problem, thinking "
    f"step by step. {_MATH_FORM}\n\n{{problem}}",
    revise="There might be an error in the solution above because of lack of understanding of the question. Please "
    f"correct the error, if any, and rewrite the solution. Only output the final solution! {_MATH_FORM}",
    critique=_PAG_CRITIQUE,
    feedback=f"A checker looked at the solution above and found: {{reason}}\n"
    f"Please write the whole solution again. {_MATH_FORM}",
    says_wrong="The answer is wrong",
    says_right="The answer is correct",
)
"""SCoRe's prompts for MATH (arXiv 2409.12917, appendix C). The critique is PAG's and the feedback ours: SCoRe has
neither."""

SCORE_CODE = Prompts(
    attempt="You are an expert Python programmer, and here is your task: {problem}",
    revise="# There might be an error in the code above because of lack of understanding of the question. Please "
    "correct the error, if any, and rewrite the solution. Only output the final correct Python program!",
    critique="Check the code above line by line against the task. If you find a mistake: say which line is wrong and "
    "why, and end your response with 'The code is wrong'. If all of it is correct, end your response with 'The code is "
    "correct'.",
    feedback="The tests of the task were run on the code above. Result: {reason}\n"
    "Please write the whole corrected Python program. Only output the program!",
    says_wrong="The code is wrong",
    says_right="The code is correct",
)
"""SCoRe's prompts for code (same place). The tests that the paper's MBPP prompt shows belong to the problem's own
prompt. Critique and feedback are ours."""

PAG_MATH = Prompts(
    attempt=f"{{problem}}\n\nPlease think step by step. {_MATH_FORM}",
    revise="You indicated that your previous answer was wrong. Please provide the correct solution to the math "
    "problem.",
    critique=_PAG_CRITIQUE,
    feedback="A checker looked at your previous answer and found: {reason}\n"
    "Please provide the correct solution to the math problem.",
    says_wrong="The answer is wrong",
    says_right="The answer is correct",
)
"""PAG's critique and revision prompts (arXiv 2506.10406), for critique "self"; attempt and feedback are ours."""

PLAIN = Prompts(
    attempt="{problem}",
    revise="There might be an error in the answer above. Please correct it, if there is one, and write the whole "
    "answer again. Only write the answer.",
    critique="Check the answer above against the question, step by step. If you find a mistake, explain it and end "
    "your response with 'The answer is wrong'. If there is none, end your response with 'The answer is correct'.",
    feedback="A checker looked at the answer above and found: {reason}\n"
    "Please write the whole answer again, corrected. Only write the answer.",
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
"""For the embedded policy, whose vocabulary is numbers, operators and a few words. It cannot read a checker's
sentences: of the critiques, use "instruction" or "self" with it."""


PROMPTS: Registry[Prompts] = Registry(
    "set of prompts",
    {"math": SCORE_MATH, "code": SCORE_CODE, "pag": PAG_MATH, "plain": PLAIN, "short": COUNTDOWN},
    expects=Prompts,
)
"""The words of a loop, by name; a task says which are its own."""


def named_prompts(name: str, mode: "CritiqueMode | None" = None) -> Prompts:
    """The prompts called `name`; a critique mode may have others in their place (PAG's for those of MATH).

    Raises:
        ConfigurationError: there are none.
    """
    return PROMPTS.find(name if mode is None else mode.prompts.get(name, name))


# Prompts as settings: a name, or a name and what is changed of it, as in a YAML file of a user's own.


class Example(Settings):
    """A problem and an answer that a policy is shown before its own problem."""

    problem: str
    answer: str


class PromptSettings(Settings):
    """The words of the loop. Nothing set: the policy's own if it has any on record, else those of the task."""

    name: str | None = None
    """math, code, pag, plain, short, or `package.module:Name` of a user's own `Prompts`: what the rest changes."""
    system: str | None = None
    """A system message."""
    attempt: str | None = None
    """Template of the first message; holds {problem}."""
    revise: str | None = None
    """The message that asks for another answer; it must not say whether the last one was right."""
    critique: str | None = None
    """The message that asks the policy to judge its own answer."""
    feedback: str | None = None
    """Template of the message that passes on what a checker found; holds {reason}."""
    says_wrong: str | None = None
    """The words by which a critique calls an answer wrong."""
    says_right: str | None = None
    """The words by which it calls it right."""
    examples: list[Example] = Field(default_factory=list)
    """Worked examples (few-shot), shown before the problem in the first message: a base model needs them."""

    @classmethod
    def of(cls, prompts: Prompts) -> Self:
        """Settings that hold all the words of `prompts`."""
        return cls(**asdict(prompts))

    def applied(self, usual: Prompts, mode: "CritiqueMode | None" = None) -> Prompts:
        """The prompts that are meant; `usual` are those of the policy or the task.

        Raises:
            ConfigurationError: a name is unknown, or a template lacks what it must hold.
        """
        base = usual if self.name is None else named_prompts(self.name, mode)
        given = {field.name: getattr(self, field.name) for field in fields(Prompts)}
        changed = replace(base, **{name: text for name, text in given.items() if text is not None})
        return replace(changed, attempt=self._shown_examples(changed) + changed.attempt)

    def _shown_examples(self, prompts: Prompts) -> str:
        if all(one.problem in prompts.attempt and one.answer in prompts.attempt for one in self.examples):
            return ""  # they are part of what the policy has on record
        for example in self.examples:
            if "{problem}" in example.problem + example.answer:
                raise ConfigurationError(f"an example of the prompts holds {{problem}}: {example.problem!r}")
        template, examples = prompts.attempt, self.examples
        shown = (template.replace("{problem}", one.problem) + f"\n{one.answer}\n\n" for one in examples)
        return "".join(shown)


def prompt_settings(name: str | None) -> PromptSettings:
    """What `--prompts` stands for: a name of `PROMPTS`, a YAML file of `PromptSettings`, or `package.module:Name`.

    Raises:
        ConfigurationError: it stands for nothing, or the file has a wrong field.
    """
    if name is None:
        return PromptSettings()
    if name.endswith((".yaml", ".yml", ".toml")) or Path(name).is_file():
        settings = load_settings(Path(name), PromptSettings())
        settings.applied(PLAIN)  # what is wrong with it is told before anything is loaded
        return settings
    PROMPTS.find(name)
    return PromptSettings(name=name)


# What a policy's tokenizer can read. Small policies know numbers and a few words; others spell out whatever they are
# shown.

_SENTENCE = "Using the numbers, each exactly once, reach a target"
_SHOWN_WORDS = 5


def reads_english(tokenizer: Any) -> bool:
    """Whether a tokenizer knows the words of a plain sentence; None, for policies that have no tokenizer, does."""
    return not unknown_words(tokenizer, _SENTENCE)


def unknown_words(tokenizer: Any, text: str) -> list[str]:
    """The words of `text` that are not in the tokenizer's vocabulary."""
    if tokenizer is None or tokenizer.unk_token_id is None:
        return []
    unknown = tokenizer.unk_token_id
    if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        return []  # byte-level tokenizers reuse their end token as "unknown" and never need it
    if unknown not in tokenizer(text, add_special_tokens=False)["input_ids"]:
        return []
    words = dict.fromkeys(text.split())
    return [word for word in words if unknown in tokenizer(word, add_special_tokens=False)["input_ids"]] or [text]


def refuse_unreadable(policy: Any, prompts: Iterable[str], *, name: str) -> None:
    """Raise a ConfigurationError if the vocabulary of `policy`, which users call `name`, lacks words of one of
    `prompts`."""
    tokenizer = getattr(policy, "tokenizer", None)
    for prompt in prompts:
        lacking = unknown_words(tokenizer, prompt)
        if lacking:
            shown = ", ".join(map(repr, lacking[:_SHOWN_WORDS])) + (", ..." if len(lacking) > _SHOWN_WORDS else "")
            raise ConfigurationError(
                f"{name} cannot read {prompt!r}: it does not know {shown}; its vocabulary is {_home_of(tokenizer)}. "
                "For other questions name another model"
            )


def refuse_feedback(policy: Any, mode: "CritiqueMode", *, name: str) -> None:
    """Raise a ConfigurationError if findings are to be shown to `policy`, which users call `name`, and its vocabulary
    lacks the words of sentences."""
    tokenizer = getattr(policy, "tokenizer", None)
    shows = mode.runs_examples or (mode.needs_checker and mode.shows_findings)
    if shows and not reads_english(tokenizer):
        given, found = ("examples", "examples came to") if mode.runs_examples else ("feedback", "the checker found")
        raise ConfigurationError(
            f"critique {given!r} shows the policy what {found}, in sentences, which {name} cannot read: its "
            f"vocabulary is {_home_of(tokenizer)}. Use critique 'instruction' or 'self', or name a language model"
        )


def _home_of(tokenizer: Any) -> str:
    """What a small vocabulary was made for."""
    if not unknown_words(tokenizer, "get"):
        return "that of Countdown, such as '3 5 7 9 get 56' (3 to 6 numbers, whole and below 200)"
    if not unknown_words(tokenizer, "x y z"):
        return "that of equations, such as '11 x + 7 y + 5 z = 96' (2 to 4 unknowns, numbers whole and below 200)"
    return "a small one of its own"


# Which words a policy is talked to with: those on record with its tokenizer, else those its vocabulary allows.
#
# The record is a field of tokenizer_config.json: it goes wherever the tokenizer is saved, with trained policies too.

_RECORD = "selfcorrect_prompts"


def record_prompts(tokenizer: Any, prompts: Prompts) -> None:
    """Keep `prompts` with `tokenizer`, which saves them: whoever loads the policy talks to it in these words."""
    tokenizer.init_kwargs[_RECORD] = asdict(prompts)


_TURNS = "selfcorrect_turns"


def record_turns(tokenizer: Any, turns: int) -> None:
    """Keep with `tokenizer`, which saves it, for how many answers to one problem its policy was made."""
    tokenizer.init_kwargs[_TURNS] = turns


def turns_made_for(policy: Any) -> int | None:
    """For how many answers to one problem `policy` was made, first answer included; None where nothing is on record.

    Raises:
        PolicyError: what is on record is no number of turns.
    """
    turns = getattr(getattr(policy, "tokenizer", None), "init_kwargs", {}).get(_TURNS)
    if turns is not None and (not isinstance(turns, int) or turns < 1):
        raise PolicyError(f"{_TURNS} in the policy's tokenizer_config.json must be a number of turns, got {turns!r}")
    return turns


def prompts_of(policy: Any, *, english: Prompts) -> Prompts:
    """The words of the loop for `policy`.

    Args:
        policy: any policy. One without a tokenizer (a chat model) reads English.
        english: for policies that read English sentences and have nothing on record.

    Raises:
        PolicyError: what is on record is unusable.
    """
    tokenizer = getattr(policy, "tokenizer", None)
    recorded = _recorded(tokenizer)
    if recorded is not None:
        return recorded
    return english if reads_english(tokenizer) else COUNTDOWN


def _recorded(tokenizer: Any) -> Prompts | None:
    record = getattr(tokenizer, "init_kwargs", {}).get(_RECORD)
    if record is None:
        return None
    names = [field.name for field in fields(Prompts)]
    if not isinstance(record, dict) or not all(
        name in names and isinstance(text, str) for name, text in record.items()
    ):
        raise PolicyError(
            f"{_RECORD} in the policy's tokenizer_config.json must hold texts called {', '.join(names)}; got {record!r}"
        )
    try:
        return Prompts(**record)
    except (TypeError, ConfigurationError) as error:
        raise PolicyError(f"{_RECORD} in the policy's tokenizer_config.json cannot be used: {error}") from error
