"""The judge of mathematical answers."""

import time
from collections.abc import Generator
from typing import Any, Self, get_args

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.answer_keys import math_answer
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.maths.answers import Answer, Collection, Labelled, Relation
from selfcorrect.rewards.maths.comparison import Comparison
from selfcorrect.rewards.maths.copies import Question, copied, read_question
from selfcorrect.rewards.maths.finding.bounds import without_bound
from selfcorrect.rewards.maths.finding.extraction import Unmarked, choice_letter, find_answer, without_choice_letter
from selfcorrect.rewards.maths.reading import Unreadable, read_answer
from selfcorrect.rewards.maths.references import Reference, read_reference
from selfcorrect.rewards.maths.symbolic import MAX_PAIRS, Findings, findings, open_pool, worth_asking
from selfcorrect.rewards.maths.text import clean
from selfcorrect.rewards.maths.value_comparison import EquivalenceRules, Pair
from selfcorrect.rewards.maths.values import NoValue, TooCostly
from selfcorrect.rewards.worker_pool import Outcome

_Finding = tuple[Status, str | None, str]
_Questions = Generator[list[Pair], Outcome, _Finding]
"""A judgement in progress: it yields pairs for math-verify (at most once) and is sent what became of them."""


class MathChecker:
    """Judges the answer in a response against a reference answer, plain ("1/2", "x^2+1", "(3, 4)", "Monday") or LaTeX.

    Numbers, fractions, expressions, tuples, sets, intervals, equations, units, choices and words are decided here,
    exactly, in about 0.1 ms. What our evaluator does not know goes to math-verify, in worker processes that are killed
    at the deadline. Model text reaches no eval and no sympy parser in this process. docs/math-answers.md tells what
    counts as the same answer.

    An answer that is too costly to compare is WRONG; UNJUDGED is kept for a judge that fails by itself (a worker killed
    from outside, a machine too busy) and for references that cannot be read, which `validate_reference` finds when a
    data set is loaded.

    Args:
        deadline: wall-clock seconds for one check, once a worker is free.
        memory_mb: address space of a worker, in MiB.
        workers: worker processes at most; None means the number of processors, at most 4. They start when first needed.
        policy: which answers count, where that depends on the data set. The default is for training;
            `EquivalenceRules.lenient()` is for evaluation.
        unmarked: what becomes of a response that marks no answer, of one whose thinking section never ended, and of one
            whose last box is empty. "unreadable", for training: there is no answer. "guess", for evaluation: the last
            value counts.

    Raises:
        ConfigurationError: `unmarked` is neither.
    """

    def __init__(
        self,
        *,
        deadline: float = 5.0,
        memory_mb: int = 1024,
        workers: int | None = None,
        policy: EquivalenceRules | None = None,
        unmarked: Unmarked = "unreadable",
    ) -> None:
        if unmarked not in get_args(Unmarked):
            raise ConfigurationError(f"unmarked must be one of {', '.join(get_args(Unmarked))}, got {unmarked!r}")
        self.policy = policy or EquivalenceRules()
        self.unmarked: Unmarked = unmarked
        self._pool = open_pool(deadline, memory_mb, workers)

    def check_sync(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """Judge `response`; blocks for at most the deadline once a worker is free.

        Args:
            response: any text at all.
            reference: plain text, LaTeX, a number, or a worked solution whose answer is marked.
            problem: what was asked. An answer that only repeats it is wrong, and its words ("factor", "expand") tell
                the form that is wanted.

        Raises:
            CheckerError: worker processes cannot be started on this machine (never because of a response).
        """
        start = time.perf_counter()
        steps = self._judge(response, reference, problem)
        try:
            questions = next(steps)
            steps.send(self._pool.run(questions))
        except StopIteration as end:
            return _verdict(end.value, start)
        raise AssertionError("a judgement asks at most once")

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        """As `check_sync`; the event loop is free while a worker computes."""
        start = time.perf_counter()
        steps = self._judge(response, reference, problem)
        try:
            questions = next(steps)
            steps.send(await self._pool.run_async(questions))
        except StopIteration as end:
            return _verdict(end.value, start)
        raise AssertionError("a judgement asks at most once")

    def validate_reference(self, reference: Any) -> str | None:
        """Why `reference` cannot be used, or None. One that does not accept itself is refused."""
        try:
            read = read_reference(reference)
        except Unreadable as problem:
            return f"{reference!r:.80} is no answer: {problem}"
        verdict = self.check_sync(f"\\boxed{{{read.text}}}", reference)
        if not verdict.correct:
            return f"{reference!r:.80} does not accept itself: {verdict.reason}"
        return self._opaque(read)

    def answer_key(self, response: str, problem: str) -> str | None:
        """The answer as it is found, without layout: two forms of one value stay apart."""
        return math_answer(response)

    def start(self) -> None:
        """Start a worker in the background, so that the first check that needs one does not wait for it (half a
        second)."""
        self._pool.start()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        return self._pool.worker_pids

    def close(self) -> None:
        """End the worker processes. The checker can still be used: new ones start when needed."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opaque(self, reference: Reference) -> str | None:
        """What only math-verify can compare, it must at least be able to parse."""
        if not reference.opaque:
            return None
        pairs = [(text, text) for text in reference.opaque[:MAX_PAIRS]]
        found = findings(pairs, self._pool.run(pairs))
        return f"{reference.text!r:.80}: {found.problem}" if found.problem else None

    def _judge(self, response: str, reference: Any, problem: str | None) -> _Questions:
        try:
            read = read_reference(reference)
        except Unreadable as fault:
            return Status.UNJUDGED, None, f"the reference is no answer: {fault}"
        found = find_answer(response, in_words=read.in_words, unmarked=self.unmarked)
        if found.text is None:
            return Status.UNREADABLE, None, f"no answer was found: {found.problem}"
        if read.choice is not None and (letter := choice_letter(found.text)) is not None:
            return _finding(letter == read.choice, found.text, f"the choice is {letter}")
        text = found.text if read.in_words else without_bound(found.text, problem, response)
        try:
            answers = read_answer(text) if read.choice is not None else _readings(text)
        except Unreadable as fault:
            return Status.WRONG, text, f"the answer cannot be read: {fault}"
        try:
            return (yield from self._compare(read, answers, text, problem))
        except (TooCostly, NoValue) as fault:
            return Status.WRONG, text, f"too costly: {fault}"

    def _compare(self, reference: Reference, answers: tuple[Answer, ...], text: str, problem: str | None) -> _Questions:
        same, comparison = self._first_pass(reference, answers, {}, problem)
        if same is None:
            # Sets of strange expressions make a table of pairs; what is not worth asking is wrong by rule.
            oracle = {pair: False for pair in comparison.undecided if not worth_asking(pair)}
            pairs = sorted(comparison.undecided - set(oracle))[:MAX_PAIRS]
            if pairs:
                told = findings(pairs, (yield pairs))
                if told.problem:
                    return _failure(told, text)
                oracle |= told.verdicts
            same, comparison = self._first_pass(reference, answers, oracle, problem)
            comparison.why = comparison.why or "it cannot be compared with the reference"
        if same and comparison.question is not None and _repeats(answers, text, reference, comparison.question):
            return _finding(False, text, "it repeats the question")
        return _finding(bool(same), text, comparison.why)

    def _first_pass(
        self, reference: Reference, answers: tuple[Answer, ...], oracle: dict[Pair, bool], problem: str | None
    ) -> tuple[bool | None, Comparison]:
        """Try every reading of both sides. True as soon as one agrees, None while one is undecided."""
        question = read_question(problem) if problem is not None and self.policy.refuse_copies else None
        comparison = Comparison(self.policy, oracle, problem=problem, question=question)
        readings = reference.answers if self.policy.refuse_copies else reference.answers + reference.lenient
        verdicts = [comparison.same(r, a) for r in readings for a in answers]
        if True in verdicts:
            return True, comparison
        return (None if None in verdicts else False), comparison


def lenient_checker() -> MathChecker:
    """A checker for evaluation, where nobody learns from a verdict: values count in most forms, an unmarked one too."""
    return MathChecker(policy=EquivalenceRules.lenient(), unmarked="guess")


def _repeats(answers: tuple[Answer, ...], text: str, reference: Reference, question: Question) -> bool:
    """Whether a list, an interval or an equation stands in the question as it is. Single values are seen elsewhere."""
    if not isinstance(answers[0], Collection | Relation | Labelled):
        return False
    return copied(clean(text), None, clean(reference.text), None, question)


def _readings(text: str) -> tuple[Answer, ...]:
    """All readings of an answer; "(B) 42" is also 42."""
    bare = without_choice_letter(text)
    if bare == text:
        return read_answer(text)
    try:
        return read_answer(text) + read_answer(bare)
    except Unreadable:  # "B) 42" closes a bracket that it did not open
        return read_answer(bare)


def _verdict(finding: _Finding, start: float) -> Verdict:
    status, answer, reason = finding
    return Verdict(status, answer, reason, time.perf_counter() - start)


def _finding(same: bool, text: str, why: str) -> _Finding:
    if same:
        return Status.CORRECT, text, "it equals the reference"
    return Status.WRONG, text, why or "it differs from the reference"


def _failure(told: Findings, text: str) -> _Finding:
    return (Status.WRONG if told.blame == "answer" else Status.UNJUDGED), text, told.problem
