"""A problem with its answer as a hint, for the rationalisation of STaR."""

from selfcorrect.agents.prompts import COUNTDOWN, Prompts
from selfcorrect.tasks.problem import Problem


def hinted(problem: Problem, prompts: Prompts) -> Problem | None:
    """`problem` with a hint in its prompt; None if it has no answer that could be told.

    A policy of the pre-training script knows hints: the first step of a solution before the colon, "3 5 7 get 56 hint 3 + 5 = 8 :". Others
    are told the answer in English.
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
