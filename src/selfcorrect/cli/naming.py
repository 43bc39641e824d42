"""What the user of a command named: a question, a policy, a task; and how the next command is told of them."""

import random
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.state import Generation, Message
from selfcorrect.cli.console import loading, notes
from selfcorrect.cli.options import PLACING, refuse_typed
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import is_address
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.tables import FILE_ENDINGS

if TYPE_CHECKING:
    from selfcorrect.agents.critiques import CritiqueMode, Loop
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.problem import Task
    from selfcorrect.tasks.registry import TaskSettings


def problem_of_question(question: str, *, answer: str | None, reads_english: bool) -> Problem:
    """`question` as a problem for a policy that does or does not read English sentences.

    What a task recognises ("3 5 7 9 get 56" is Countdown, "11 x + 7 y + 5 z = 96" an equation) is judged by itself, and
    so is code by the examples in its question (doctests, asserts, or calls behind the head of a function).
    Anything else is passed on as it is, and judged if `answer` is given.

    Raises:
        ConfigurationError: the question is blank, or is judged by itself and comes with an answer.
    """
    from selfcorrect.tasks.naming import problem_of_question as recognised

    if not question.strip():
        raise ConfigurationError("the question is empty; ask something like '3 5 7 9 get 56'")
    problem = recognised(question, words=reads_english)
    if problem is None:
        checker = "math" if answer is not None else "none"
        return Problem(id="question", prompt=question.strip(), reference=answer, checker=checker)
    if answer is not None:
        own = "the examples that it shows" if problem.checker == "code" else "its own numbers"
        raise ConfigurationError(f"--answer: a question of the task {problem.checker} is judged by {own}")
    return problem


def checker_of(problem: Problem) -> "Checker | None":
    """The judge of a question's answers; None where nobody said what is right.

    Raises:
        ConfigurationError: the answer that was given cannot be judged by.
    """
    if problem.reference is None:
        return None
    from selfcorrect.rewards.checkers import checker_named

    checker = checker_named(problem.checker)
    fault = checker.validate_reference(problem.reference)
    if fault is not None and problem.checker == "code":
        raise ConfigurationError(f"the examples in the question cannot judge its answers: {fault}; show others")
    if fault is not None:
        raise ConfigurationError(
            f"--answer {problem.reference!r} cannot be used by the {problem.checker} checker: {fault}"
        )
    return checker


def usual_words(problem: Problem) -> str:
    """The name of the words that are usual for a question."""
    return "code" if problem.checker == "code" else "math"


# The policy that a command names, and how to talk to it.

_ASKS_CHECKER = "asks a checker, and none judges this"


@dataclass(frozen=True)
class NamedPolicy:
    """An opened policy, as the user called it."""

    name: str
    policy: "Policy"

    @property
    def reads_english(self) -> bool:
        """False for the embedded policy and others with a small vocabulary: they know numbers and a few words."""
        from selfcorrect.agents.prompts import reads_english

        return reads_english(getattr(self.policy, "tokenizer", None))

    def prompts(
        self, critique: "str | CritiqueMode" = "instruction", *, usual: str = "math", chosen: str | None = None
    ) -> "Prompts":
        """The words of the loop for this policy: those of `--prompts` (`chosen`), else its own, else the `usual` ones
        of the task.

        Raises:
            ConfigurationError: `chosen` stands for nothing.
        """
        from selfcorrect.agents.critiques import critique_mode
        from selfcorrect.agents.prompts import named_prompts, prompt_settings, prompts_of

        mode = critique_mode(critique)
        own = prompts_of(self.policy, english=named_prompts(usual, mode))
        return prompt_settings(chosen).applied(own, mode)

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer in a search, where nobody says otherwise. What a small vocabulary says of
        Countdown fits into 24; policies for more than two turns say the problem again with each revision."""
        from selfcorrect.agents.prompts import turns_made_for

        if self.reads_english:
            return 512
        return 24 if (turns_made_for(self.policy) or 2) <= 2 else 40

    def loop(
        self, critique: str | None, revisions: int | None, *, fits: "Callable[[CritiqueMode], bool]" = lambda mode: True
    ) -> "Loop":
        """The loop to play: what `--critique` and `--revisions` say, else what the policy was trained in, which is
        told, else one revision by instruction.

        Args:
            critique, revisions: the options; None is not given.
            fits: whether what is asked has the findings that a mode shows. Else a trained loop in that mode is left.

        Raises:
            ConfigurationError: there is no such way to critique.
            PolicyError: what the policy has on record is no loop.
        """
        from selfcorrect.agents.critiques import CRITIQUES, Loop, recorded_loop

        usual = Loop(critique or "instruction", 1 if revisions is None else revisions)
        trained = recorded_loop(self.policy)
        if trained is None or critique not in (None, trained.critique):
            CRITIQUES.find(usual.critique)
            return usual
        if critique is None and not fits(mode := CRITIQUES.find(trained.critique)):
            lacks = "runs examples of code, and none are shown here" if mode.runs_examples else _ASKS_CHECKER
            self._note(
                f"{self.name} was trained in the loop {trained.critique}, which {lacks}: revisions are asked for by "
                "instruction"
            )
            return usual
        loop = Loop(trained.critique, trained.revisions if revisions is None else revisions)
        CRITIQUES.find(loop.critique)
        if loop != usual and loop.revisions:
            self._note(
                f"loop     {loop.critique}, revisions: {loop.revisions}, as {self.name} was trained (--critique and "
                "--revisions take another)"
            )
        return loop

    @staticmethod
    def _note(line: str) -> None:
        notes.print(line, markup=False, soft_wrap=True)

    def warn_beyond(self, revisions: int) -> None:
        """Say so if this policy was made for fewer answers to a problem than it will be asked for."""
        from selfcorrect.agents.prompts import turns_made_for

        turns = turns_made_for(self.policy)
        if turns is not None and turns <= revisions:
            notes.print(
                f"{self.name} was made for {turns} answers to a problem: the later ones of {revisions + 1} may be "
                "nonsense. Train it for more turns, or use fewer revisions",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )

    def refuse_critique(self, mode: "CritiqueMode", checker: "Checker | None") -> None:
        """Raise a ConfigurationError if `mode` shows findings that the policy cannot read, or that are not to be had of
        answers which `checker` judges."""
        from selfcorrect.agents.critiques import refuse_without_programs
        from selfcorrect.agents.prompts import refuse_feedback

        refuse_feedback(self.policy, mode, name=self.name)
        refuse_without_programs(mode, checker)

    def problem_of(self, question: str, *, answer: str | None) -> Problem:
        """`question` as a problem for this policy; says so where a policy of few words is asked what is no question of
        its task, since its answer means nothing then and nobody judges it.

        Raises:
            ConfigurationError: as `problem_of_question` and `refuse_unreadable`.
        """
        problem = problem_of_question(question, answer=answer, reads_english=self.reads_english)
        self.refuse_unreadable(problem.prompt)
        if not self.reads_english and problem.reference is None:
            told = "this is no question such as '3 5 7 9 get 56', and there is no --answer: nobody judges what comes"
            notes.print(told, style="yellow", markup=False, soft_wrap=True)
        return problem

    def refuse_unreadable(self, prompt: str) -> None:
        """Raise a ConfigurationError if the policy's vocabulary lacks words of `prompt`."""
        from selfcorrect.agents.prompts import refuse_unreadable

        refuse_unreadable(self.policy, [prompt], name=self.name)


def open_policy(name: str, **options: Any) -> NamedPolicy:
    """The policy called `name`: "embedded", a folder, and what else `agents.loading` knows; placed as --device and
    --dtype of the running command say.

    Args:
        name: as above.
        **options: of `TransformersPolicy`.

    Raises:
        PolicyError: it cannot be loaded.
        ConfigurationError: the device is not there, lacks the dtype, or is not ours to choose.
    """
    with loading(f"policy {name}"):
        from selfcorrect.agents.loading import named_policy

        placing = {option: value for option, value in (PLACING.get() or {}).items() if value is not None}
        policy, _ = named_policy(name, **placing, **options)
    return NamedPolicy(name, policy)


def steered(named: NamedPolicy, ctx: typer.Context, *, waits_at_least: int = 0) -> NamedPolicy:
    """`named`, which thinks as the running command's options say; as it is where they say nothing.

    Raises:
        ConfigurationError: an option has no effect, or the policy cannot be steered so.
    """
    tokens, wait, end = ctx.params["think_tokens"], ctx.params["wait_word"], ctx.params["think_end"]
    waits = max(ctx.params["waits"], waits_at_least)
    if tokens is None and not waits:
        refuse_typed(ctx, ("wait_word", "think_end"), "without --waits and --think-tokens nothing is steered")
        return named
    if not waits:
        refuse_typed(ctx, ("wait_word",), "it is what --waits puts in: give --waits, too")
        if not end:
            raise ConfigurationError("--think-tokens closes a thinking section, and --think-end '' says there is none")
    from selfcorrect.agents.policies.thinking import Thinking, ThinkingPolicy

    return NamedPolicy(
        named.name, ThinkingPolicy(named.policy, Thinking(tokens=tokens, waits=waits, wait=wait, end=end))
    )


# A policy that tells how far it is, for a progress bar.


class CountedPolicy:
    """Passes every call on to `policy` and tells, after each, how many turns of `total` are written."""

    def __init__(self, policy: Policy, tell: Callable[[int, int], None], total: int) -> None:
        self._policy, self._tell, self._total = policy, tell, total
        self._written = 0

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        generation = await self._policy.generate(messages, sampling, after=after)
        self._written += 1
        self._tell(self._written, self._total)
        return generation


# The task that a command names.


def column_names(pairs: Sequence[str] | None) -> dict[str, str]:
    """From "question=prompt,gold=answer" to {"question": "prompt", "gold": "answer"}.

    Raises:
        ConfigurationError: it is no such list.
    """
    found: dict[str, str] = {}
    for pair in (part.strip() for text in pairs or () for part in text.split(",")):
        column, equals, name = (part.strip() for part in pair.partition("="))
        if not (column and equals and name):
            raise ConfigurationError(f"--map {pair}: expected COLUMN=FIELD, as in --map question=prompt,gold=answer")
        if column in found:
            raise ConfigurationError(f"--map names the column {column!r} twice")
        found[column] = name
    return found


def task_settings(name: str, columns: Sequence[str] | None = None) -> "TaskSettings":
    """The settings that `--task` and `--map` stand for; see `selfcorrect.tasks.naming.task_settings`.

    Raises:
        ConfigurationError: they stand for nothing.
    """
    from selfcorrect.tasks import naming

    return naming.task_settings(name, columns=column_names(columns))


def open_task(name: str, *, words: bool = False) -> "Task":
    """The task that `name` stands for; see `task_settings`.

    Raises:
        ConfigurationError: it stands for nothing.
        TaskError: its file is unusable.
    """
    return task_settings(name).worded(words).open()


def worded_task(asked: "TaskSettings", opened: "Task", *, reads_english: bool) -> "tuple[TaskSettings, Task]":
    """`asked` as a policy can read it, and its task: `opened`, which is that of `asked`, unless the wording makes it
    another one. Reading a file of programs twice means trying all their tests twice."""
    worded = asked.worded(reads_english)
    return worded, opened if worded == asked else worded.open()


# The command that comes next, as it can be typed.

_LONGEST_QUESTION = 200


def typed_command(*words: object) -> str:
    """`selfcorrect` with these words, for a shell."""
    return shlex.join(["selfcorrect", *map(str, words)])


def task_options(asked: "TaskSettings") -> list[str]:
    """--task and --map that stand for `asked`; nothing for the task that commands take by themselves. What those two
    cannot say is left out."""
    if asked.worded(False) == task_settings("countdown").worded(False):
        return []
    name = asked.kind
    if asked.number and (number := getattr(asked, asked.number)) != type(asked).model_fields[asked.number].default:
        name = f"{name}-{number}"
    if asked.file and (file := getattr(asked, asked.file)) is not None:
        name = str(file) if asked.kind == "jsonl" and str(file).endswith(FILE_ENDINGS) else f"{name}:{file}"
    for key, value in _parameters(asked).items():
        name += f",{key}={str(value).lower() if isinstance(value, bool) else value}"
    columns = {} if asked.columns_field is None else getattr(asked, asked.columns_field)
    pairs = ",".join(f"{column}={field}" for column, field in columns.items())
    return ["--task", name, *(["--map", pairs] if pairs else [])]


def _parameters(asked: "TaskSettings") -> dict[str, object]:
    """What stands behind the name of a task that takes parameters there: its `config`, and fields of its own."""
    usual = type(asked).model_fields
    if asked.named_fields:
        return {name: value for name in asked.named_fields if (value := getattr(asked, name)) != usual[name].default}
    config = {} if is_address(asked.kind) else getattr(asked, "config", None)
    if not isinstance(config, dict):
        return {}
    fields = type(asked).model_fields.items()
    own = [name for name, field in fields if name != asked.file and getattr(asked, name) != field.default]
    return {**config, **{name: getattr(asked, name) for name in own if name not in ("kind", "config")}}


def question_like(asked: "TaskSettings | None", prompts: Iterable[str]) -> str:
    """A question of the kind `asked`, for a command: its example, else the shortest of `prompts` that is one short
    line, else the word QUESTION."""
    if asked is not None and asked.example_of_size:
        return asked.example_of_size
    short = [prompt for prompt in prompts if "\n" not in prompt and len(prompt) <= _LONGEST_QUESTION]
    return min(short, key=len, default="QUESTION")


# The problems of it.

_MANY = 2000
Part = Literal["test", "train", "all"]


def chosen_problems(task: "Task", split: Part, count: int | None, seed: int) -> "Sequence[Problem]":
    """`count` problems of a split; None is 2,000, or all there are if those are fewer. "all" is both splits of a file.

    Raises:
        TaskError: the split holds fewer.
        ConfigurationError: "all" of a task that makes its problems up.
    """
    from selfcorrect.tasks.validate import FiniteTask

    if not isinstance(task, FiniteTask):
        if split == "all":
            raise ConfigurationError(
                f"--split all: {task.name} makes its problems up, as many as are asked for; use test or train"
            )
        return task.problems(split, count or _MANY, seed=seed)
    test, train = task.available("test"), task.available("train")
    if split != "all":
        held = task.available(split)
        if split == "test" and count is None and test < train:
            notes.print(
                f"{task.name}: {test:,} of {test + train:,} problems are held out; --split all takes all of them"
            )
        return task.problems(split, max(1, min(_MANY, held)) if count is None else count, seed=seed)
    whole = [*task.problems("test", test, seed=seed), *task.problems("train", train, seed=seed)]
    if count is not None and count > len(whole):
        raise ConfigurationError(f"--problems {count}: {task.name} holds {len(whole):,}")
    return random.Random(f"all-{seed}").sample(whole, min(len(whole), _MANY) if count is None else count)
