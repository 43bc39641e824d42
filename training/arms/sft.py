"""The arms that fine-tune once: on the task's own solutions, before reinforcement learning has anything to choose from,
and on pairs of a wrong and a right answer."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.policies.rendering import choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import derive_seed
from selfcorrect.agents.state import Generation, Message, answers, verdict_of
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.star import refuse_other_loops, single_turn_graph
from selfcorrect.training.arms.supervised.examples import Example, cut_off, pairs
from selfcorrect.training.arms.supervised.run import SupervisedPlan, train_supervised
from selfcorrect.training.arms.supervised.sampling import Harvest, Sampled, problems_of, sampled_episodes
from selfcorrect.training.arms.supervised.writing import AnswerWriter, second_prompt, take
from selfcorrect.training.arms.verdicts import Verdicts
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.opening import prompts_for
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@partial(takes_objects, reloads=True)
def sft(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """Fine-tune once on what the policy should have said in the conversation that the loop plays.

    `settings.sft.form` says what that is:

    - "attempt": the gold solution (`Problem.gold`) as the first answer. Nothing is sampled.
    - "pairs": the gold solution as the second answer, after a wrong one that the policy itself has given. Answers that
      the checker accepts and unjudged ones are followed by nothing.
    - "verdicts": the checker's verdict on an answer that the policy has given, in the loop's words
      (`Prompts.says_right`, `says_wrong`), as many right as wrong ones; beside them the right ones of these answers,
      and right answers after a verdict of wrong. The loop is "self".

    The loss is on what is learnt alone, its end included. Raises what `train_supervised` raises, and

    Raises:
        TaskError: training problems have no gold solution, and the form wants one.
        ConfigurationError: the loop is not of the form.
    """
    _refuse_own_loop(settings)
    if settings.sft.form == "pairs":
        refuse_other_loops(settings, "sft.form 'pairs'")
    elif settings.sft.form == "verdicts":
        settings = _judging_itself(settings)
    if not resume and settings.sft.form != "verdicts":
        refuse_without_gold(settings)
    form = _FORMS[settings.sft.form]
    plan = SupervisedPlan(
        arm=f"sft --form {settings.sft.form}",
        group="sft",
        loops=1,
        seeks=_SEEKS[settings.sft.form],
        harvest=lambda policy, task: form(settings, policy, task),
        advice=_ADVICE[settings.sft.form],
    )
    return train_supervised(plan, settings, out=out, progress=progress, resume=resume)


_SEEKS = {
    "attempt": "gold solution that fits",
    "pairs": "wrong answer with a gold solution that fits behind it",
    "verdicts": "answer that the checker calls right beside one that it calls wrong, with room for a verdict",
}
_FITS = "If they are too long: raise policy.max_new_tokens, or take a model with a longer context"
_ADVICE = {
    "attempt": _FITS,
    "pairs": f"{_FITS}. If nothing is wrong, the policy needs no warm-up. If nothing is judged, look at the checker",
    "verdicts": "If all answers are wrong, warm up by form 'attempt' first; if all are right, take harder problems: "
    "there is nothing to judge. If verdicts are too long, raise policy.max_new_tokens, or shorten prompts.says_right",
}


def _judging_itself(settings: RunSettings) -> RunSettings:
    """The settings, in a loop in which the policy judges its own answers: "self" in place of the usual one.

    Raises:
        ConfigurationError: another loop was chosen.
    """
    critique = settings.graph.critique
    if CRITIQUES.find(critique).judges_itself:
        return settings
    if critique != type(settings.graph).model_fields["critique"].default:
        raise ConfigurationError(
            f"sft.form 'verdicts' teaches the policy to judge its own answers, and in the loop graph.critique "
            f"{critique!r} nobody asks it to: leave graph.critique away, which takes 'self'"
        )
    return settings.model_copy(update={"graph": settings.graph.model_copy(update={"critique": "self"})})


def _refuse_own_loop(settings: RunSettings) -> None:
    if settings.graph.is_own:
        raise ConfigurationError(
            f"sft writes its conversations in the words of this library's loop, and graph.build {settings.graph.build} "
            "is another, whose prompts it cannot know: leave graph.build away"
        )


def refuse_without_gold(settings: RunSettings) -> None:
    """Raise unless every problem that is to be learnt has a gold solution, or those without are to be left out.

    Raises:
        TaskError: it has not; the message says how many have none.
    """
    group = settings.sft
    asked = list(problems_of(settings.task.open(), group, _order_seed(settings)))
    without = [problem.id for problem in asked if problem.gold is None]
    if without and (len(without) == len(asked) or group.without_gold == "refuse"):
        some = "" if len(without) == len(asked) else "; or learn the others alone: --set sft.without_gold=leave_out"
        raise TaskError(
            f"sft learns gold solutions, and {len(without):,} of the {len(asked):,} training problems have none (the "
            f"first is {without[0]}). Take a format that holds solutions (gsm8k:FILE, math:FILE, mbpp:FILE, ...), or a "
            f"task of your own that sets Problem.gold{some}"
        )


def _order_seed(settings: RunSettings) -> int:
    """The seed with which the run of one loop draws its problems."""
    return derive_seed(derive_seed(settings.seed, 1), 0)


class _Attempts:
    """Gold solutions as first answers."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.prompts = settings, prompts_for(settings, policy)
        self.template = choose_template(policy.tokenizer, settings.policy.template)
        self.writer = AnswerWriter(policy, self.template, self.prompts.revise)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        found = Sampled()
        for problem in problems:
            take(found, "without_gold" if problem.gold is None else self._example(problem), self.writer)
        return found

    def _example(self, problem: Problem) -> Example:
        user = Message(role="user", content=self.prompts.attempt.replace("{problem}", problem.prompt))
        system = [Message(role="system", content=self.prompts.system)] if self.prompts.system else []
        messages = [*system, user]
        return self.writer.gold(problem, self.template.first(messages), messages, None)


class _Pairs:
    """Gold solutions after wrong answers of the policy."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task = settings, task
        self.graph = single_turn_graph(settings, policy, task)
        self.second_prompt, self.revise = second_prompt(settings, policy), prompts_for(settings, policy).revise
        template = choose_template(policy.tokenizer, settings.policy.template)
        self.writer = AnswerWriter(policy, template, self.revise)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        usable = [problem for problem in problems if problem.gold is not None]
        asked = {problem.id: problem for problem in usable}
        found = Sampled(left_out=Counter(without_gold=len(problems) - len(usable)))
        temperature = self.settings.sft.temperature
        found.states = sampled_episodes(self.graph, usable, self.task.checker, temperature=temperature, seed=seed)
        for state in found.states:
            problem, first = asked[state["problem"]["id"]], answers(state)[0]
            verdict = verdict_of(first)
            score = None if verdict is None else verdict.score
            if score is None or score == 1.0:
                take(found, "unjudged" if score is None else "already_right", self.writer)
            else:
                take(found, self._example(problem, first["generation"]), self.writer)
        return found

    def _example(self, problem: Problem, first: Generation) -> Example:
        spoken = [Message(role="assistant", content=first["text"]), Message(role="user", content=self.revise)]
        messages = [*first["messages"], *spoken]
        return self.writer.gold(problem, self.second_prompt(first), messages, first["text"])


_FORMS: dict[str, Callable[[RunSettings, TransformersPolicy, Task], Harvest]] = {
    "attempt": _Attempts,
    "pairs": _Pairs,
    "verdicts": Verdicts,
}


# Pair-SFT: learn to correct from answers that were never given in one conversation.


@partial(takes_objects, reloads=True, unused=["objective"])
def pair_sft(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Pair-SFT (Welleck et al. 2023, arXiv 2211.00053, in the form of the SCoRe paper, arXiv 2409.12917, section 4).

    Samples several answers to every problem from the base policy, puts a wrong and a right one together as the two
    turns of a conversation that nobody had, and fine-tunes one model, once, on the second turns.
    `settings.pair_sft.data` is "pairs" (D_SFT) or "pairs+correct", which adds a right answer after a right one
    (D+_SFT). The loss is on the second answer alone. Raises what `train_supervised` raises.
    """
    refuse_other_loops(settings, "pair-sft")
    plan = SupervisedPlan(
        arm=f"pair-sft --data {settings.pair_sft.data}",
        group="pair_sft",
        loops=1,
        seeks=_PAIRS_NEED[settings.pair_sft.data],
        harvest=lambda policy, task: _Pairing(settings, policy, task),
    )
    return train_supervised(plan, settings, out=out, progress=progress, resume=resume)


_PAIRS_NEED = {
    "pairs": "problem with both a right and a wrong answer",
    "pairs+correct": "problem with a right answer and another one",
}


class _Pairing:
    """Samples first answers and pairs them."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task = settings, task
        self.graph = single_turn_graph(settings, policy, task)
        self.second_prompt = second_prompt(settings, policy)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        group = self.settings.pair_sft
        states = sampled_episodes(self.graph, problems, self.task.checker, temperature=group.temperature, seed=seed)
        keep_correct = group.data == "pairs+correct"
        examples = pairs(states, self.second_prompt, random.Random(seed), keep_correct=keep_correct)
        return Sampled(states, [], examples, cut_off(states))
