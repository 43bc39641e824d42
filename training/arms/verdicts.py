"""A warm-up for policies that are to judge themselves: the loop "self" with the checker's verdicts, in its words.

A policy that never says in words that the loop reads whether its answer is right cannot be paid for saying so, and in
the loop "self" nothing is ever revised."""

import random
from collections import Counter
from collections.abc import Sequence

from selfcorrect.agents.policies.rendering import choose_template, conversation_after
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.state import Generation, Message, answers, verdict_of
from selfcorrect.errors import TaskError, UnreadablePromptError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.star import single_turn_graph
from selfcorrect.training.arms.supervised.examples import Example, Kind, correct_answers, distinct
from selfcorrect.training.arms.supervised.sampling import Sampled, sampled_episodes
from selfcorrect.training.arms.supervised.writing import AnswerWriter, prompt_with
from selfcorrect.training.runs.opening import prompts_for
from selfcorrect.training.settings import RunSettings


class Verdicts:
    """What the policy should have said in the loop "self", made of answers of its own.

    - Verdicts on its first answers, as many right as wrong ones: where one kind is rare, saying always the other would
      else be nearly as good.
    - The right ones of those answers as they are, and right answers after the verdict that one was wrong (the policy's
      own to the same problem, else the gold solution): learning verdicts alone makes a model say them in the place of
      answers.
    """

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task, self.prompts = settings, task, prompts_for(settings, policy)
        self.graph = single_turn_graph(settings, policy, task)
        self.critique_prompt = prompt_with(self.prompts.critique, settings, policy)
        self.revision_prompt = prompt_with(self.prompts.revise, settings, policy)
        template = choose_template(policy.tokenizer, settings.policy.template)
        self.writer = AnswerWriter(policy, template, self.prompts.revise)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        dice, temperature = random.Random(seed), self.settings.sft.temperature
        found = Sampled(sampled_episodes(self.graph, problems, self.task.checker, temperature=temperature, seed=seed))
        given: dict[tuple[int, ...], Generation] = {}
        judged: dict[bool, list[Example]] = {True: [], False: []}
        for state in found.states:
            first = answers(state)[0]
            verdict = verdict_of(first)
            if verdict is None or verdict.score is None:
                found.left_out["unjudged"] += 1
                continue
            right = verdict.score == 1.0
            example = self._verdict(state["problem"]["id"], first["generation"], right=right)
            given[example.context_ids] = first["generation"]
            judged[right].append(example)
        verdicts, left_out = balanced(judged, self.writer, dice)
        found.left_out.update(left_out)
        if verdicts:
            kept = distinct(correct_answers(found.states))
            known = right_answers(kept, problems, dice)
            wrong = [one for one in verdicts if one.kind == "called wrong" and one.problem in known]
            revised = [self._revision(one, given[one.context_ids], *known[one.problem]) for one in wrong]
            found.examples = [*verdicts, *(one for one in [*kept, *revised] if self.writer.fits(one))]
            dice.shuffle(found.examples)
        return found

    def _verdict(self, problem: str, first: Generation, *, right: bool) -> Example:
        """What there is to say of `first`."""
        kind: Kind = "called right" if right else "called wrong"
        words = self.prompts.says_right if right else self.prompts.says_wrong
        try:
            return self.writer.example(
                problem, kind, words, self.critique_prompt(first), self._asked(first), first["text"]
            )
        except UnreadablePromptError as error:
            raise TaskError(f"the model cannot learn to say {words!r} of its answers: {error}") from error

    def _revision(self, verdict: Example, first: Generation, kind: Kind, text: str) -> Example:
        """A right answer after `verdict` on the wrong one `first`."""
        said = Generation(
            text=verdict.answer,
            messages=self._asked(first),
            prompt_ids=list(verdict.context_ids),
            completion_ids=list(verdict.answer_ids),
            logprobs=[],
            finish_reason="stop",
        )
        messages = conversation_after(said, [Message(role="user", content=self.prompts.revise)])
        try:
            return self.writer.example(verdict.problem, kind, text, self.revision_prompt(said), messages, first["text"])
        except UnreadablePromptError as error:
            raise TaskError(
                f"the gold solution of {verdict.problem} cannot be learnt by this model: {error}"
            ) from error

    def _asked(self, first: Generation) -> list[Message]:
        return conversation_after(first, [Message(role="user", content=self.prompts.critique)])


def right_answers(
    kept: Sequence[Example], problems: Sequence[Problem], dice: random.Random
) -> dict[str, tuple[Kind, str]]:
    """A right answer to each problem that has one: of the policy's own, which `kept` are, else the gold solution."""
    found: dict[str, tuple[Kind, str]] = {
        problem.id: ("incorrect to gold", problem.gold) for problem in problems if problem.gold is not None
    }
    own: dict[str, list[str]] = {}
    for example in kept:
        own.setdefault(example.problem, []).append(example.answer)
    return found | {problem: ("incorrect to correct", dice.choice(texts)) for problem, texts in own.items()}


def balanced(
    judged: dict[bool, list[Example]], writer: AnswerWriter, dice: random.Random
) -> tuple[list[Example], Counter[str]]:
    """As many examples of either kind, each different one once and in a new order, and how many were left out why."""
    fitting = {right: [one for one in distinct(examples) if writer.fits(one)] for right, examples in judged.items()}
    most = min(map(len, fitting.values()))
    chosen = [example for examples in fitting.values() for example in dice.sample(examples, most)]
    dice.shuffle(chosen)
    too_long = sum(not writer.fits(one) for examples in judged.values() for one in distinct(examples))
    more = sum(map(len, fitting.values())) - len(chosen)
    return chosen, Counter({"too_long": too_long, "more_than_of_the_other_kind": more})
