"""What is learnt from judged episodes: pure functions, on the token ids that were shown and sampled.

Only answers that the checker calls correct are learnt, and only if the policy ended them itself: an answer that the
token limit cut off would teach never to stop. An unjudged answer is neither correct nor incorrect, and no part of any
example.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from selfcorrect.agents.prompts import COUNTDOWN, Prompts
from selfcorrect.agents.state import EpisodeState, Generation, Turn, answers, verdict_of
from selfcorrect.tasks.problem import Problem

Kind = Literal[
    "correct", "rationalised", "incorrect to correct", "correct to correct", "gold", "incorrect to gold",
    "called right", "called wrong",
]  # fmt: skip
SecondPrompt = Callable[[Generation], list[int]]
"""From a first answer to the ids that the policy is shown when it is asked again: prompt, answer, and the words that
ask."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn: to answer `answer_ids` when shown `context_ids`. The loss is on the answer alone.

    Attributes:
        problem: the problem's id.
        kind: where it comes from.
        context_ids, answer_ids: the token ids as they were shown and sampled; the answer ends with the stop token.
        first: the first answer's text, if the learnt one is the second.
        answer: the learnt answer's text.
    """

    problem: str
    kind: Kind
    context_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    first: str | None
    answer: str

    def as_row(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "context_ids": list(self.context_ids), "answer_ids": list(self.answer_ids)}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Example":
        """The example that `as_row` wrote."""
        ids = {name: tuple(row[name]) for name in ("context_ids", "answer_ids")}
        return cls(**{**row, **ids})


def correct_answers(states: Iterable[EpisodeState]) -> list[Example]:
    """The right first answers: what STaR keeps of its samples."""
    firsts = [(state, answers(state)[0]) for state in states]
    return [
        _example(state, "correct", turn["generation"]["prompt_ids"], turn)
        for state, turn in firsts
        if _can_be_learnt(turn)
    ]


def rationalised(hinted: Iterable[EpisodeState], shown: Mapping[str, Sequence[int]]) -> list[Example]:
    """The right answers of the hinted policy, as answers to the problem without the hint.

    Args:
        hinted: episodes on problems with a hint.
        shown: for each problem's id the prompt ids without the hint, as another episode recorded them.
    """
    firsts = [(state, answers(state)[0]) for state in hinted]
    return [
        _example(state, "rationalised", shown[state["problem"]["id"]], turn)
        for state, turn in firsts
        if _can_be_learnt(turn)
    ]


def unsolved(states: Iterable[EpisodeState]) -> set[str]:
    """The ids of the problems of which no sample is right and all are judged: what STaR rationalises."""
    by_problem: dict[str, list[float | None]] = {}
    for state in states:
        by_problem.setdefault(state["problem"]["id"], []).append(_score(answers(state)[0]))
    return {
        problem for problem, scores in by_problem.items() if all(score is not None and score < 1.0 for score in scores)
    }


def corrections(states: Iterable[EpisodeState], *, keep_correct: bool) -> list[Example]:
    """The right second answers to wrong first ones of the same episode: D_STaR of the SCoRe paper.

    With `keep_correct` those to right first ones too: D+_STaR.
    """
    examples = []
    for state in states:
        first, second = answers(state)[0], answers(state)[-1]
        kind = _kind(first)
        if kind is not None and (keep_correct or kind == "incorrect to correct") and _can_be_learnt(second):
            examples.append(_example(state, kind, second["generation"]["prompt_ids"], second, first))
    return examples


def pairs(
    states: Iterable[EpisodeState], second_prompt: SecondPrompt, dice: random.Random, *, keep_correct: bool
) -> list[Example]:
    """Independent samples of a problem put together as two turns: D_SFT of the SCoRe paper.

    Every wrong sample is followed by a right one of the same problem, drawn at random; with `keep_correct` (D+_SFT)
    every right one is too, by another sample than itself. So first answers are as frequent as the policy gives them on
    problems that it can solve.
    """
    by_problem: dict[str, list[EpisodeState]] = {}
    for state in states:
        by_problem.setdefault(state["problem"]["id"], []).append(state)
    examples = []
    for group in by_problem.values():
        for state in group:
            first = answers(state)[0]
            kind = _kind(first)
            others = [other for other in group if other is not state and _can_be_learnt(answers(other)[0])]
            if others and kind is not None and (keep_correct or kind == "incorrect to correct"):
                second = answers(dice.choice(others))[0]
                examples.append(_example(state, kind, second_prompt(first["generation"]), second, first))
    return examples


def distinct(examples: Iterable[Example]) -> list[Example]:
    """Each example once, in the order of first appearance: an easy problem would else count as often as it was
    sampled."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], Example] = {}
    for example in examples:
        found.setdefault((example.context_ids, example.answer_ids), example)
    return list(found.values())


def _example(
    state: EpisodeState, kind: Kind, context_ids: Sequence[int], learnt: Turn, first: Turn | None = None
) -> Example:
    return Example(
        problem=state["problem"]["id"],
        kind=kind,
        context_ids=tuple(context_ids),
        answer_ids=tuple(learnt["generation"]["completion_ids"]),
        first=None if first is None else first["generation"]["text"],
        answer=learnt["generation"]["text"],
    )


def _kind(first: Turn) -> Kind | None:
    """What a right second answer makes of `first`; None if that is unjudged."""
    score = _score(first)
    if score is None:
        return None
    return "correct to correct" if score == 1.0 else "incorrect to correct"


def _can_be_learnt(turn: Turn) -> bool:
    score = _score(turn)
    return score is not None and score == 1.0 and turn["generation"]["finish_reason"] == "stop"


def cut_off(states: Iterable[EpisodeState]) -> Counter[str]:
    """How many last answers are right and yet not learnt, because the token limit ended them."""
    lasts = [answers(state)[-1] for state in states]
    return Counter(right_but_cut_off=sum(_score(turn) == 1.0 and not _can_be_learnt(turn) for turn in lasts))


def _score(turn: Turn) -> float | None:
    verdict = verdict_of(turn)
    return None if verdict is None else verdict.score


# A problem with its answer as a hint, for the rationalisation of STaR.


def hinted(problem: Problem, prompts: Prompts) -> Problem | None:
    """`problem` with a hint in its prompt; None if it has no answer that could be told.

    A policy of the pre-training script knows hints: the first step of a solution before the colon, "3 5 7 get 56 hint 3
    + 5 = 8 :". Others are told the answer in English.
    """
    if prompts == COUNTDOWN:
        return None if problem.gold is None else _with(problem, in_corpus_words(problem.prompt, problem.gold))
    answer = problem.reference if isinstance(problem.reference, str | int | float) else problem.gold
    return None if answer is None else _with(problem, f"{problem.prompt}\n\nHint: the correct answer is {answer}.")


def in_corpus_words(prompt: str, gold: str) -> str:
    """The prompt of a hint document of the pre-training corpus (see `pretraining.corpus`)."""
    return f"{prompt.removesuffix(' :')} hint {gold.split(' ; ')[0]} :"


def _with(problem: Problem, prompt: str) -> Problem:
    return problem.model_copy(update={"prompt": prompt})
