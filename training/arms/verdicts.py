"""A warm-up for policies that are to judge themselves: the checker's verdicts on their answers, in the loop's words.

A policy that never says in words that the loop reads whether its answer is right cannot be paid for saying so, and in
the loop "self" nothing is ever revised."""

import random
from collections import Counter
from collections.abc import Sequence

from selfcorrect.agents.policies.rendering import choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.state import Generation, Message, answers, verdict_of
from selfcorrect.errors import TaskError, UnreadablePromptError
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.star import single_turn_graph
from selfcorrect.training.arms.supervised.examples import Example, distinct
from selfcorrect.training.arms.supervised.sampling import Sampled, sampled_episodes
from selfcorrect.training.arms.supervised.writing import AnswerWriter, prompt_with
from selfcorrect.training.runs.opening import prompts_for
from selfcorrect.training.settings import RunSettings


class Verdicts:
    """What the policy should have said of its own answers, as many right as wrong ones: where one kind is rare, saying
    always the other would else be nearly as good."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task, self.prompts = settings, task, prompts_for(settings, policy)
        self.graph = single_turn_graph(settings, policy, task)
        self.asked = prompt_with(self.prompts.critique, settings, policy)
        template = choose_template(policy.tokenizer, settings.policy.template)
        self.writer = AnswerWriter(policy, template, self.prompts.revise)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        temperature = self.settings.sft.temperature
        found = Sampled(sampled_episodes(self.graph, problems, self.task.checker, temperature=temperature, seed=seed))
        judged: dict[bool, list[Example]] = {True: [], False: []}
        for state in found.states:
            first = answers(state)[0]
            verdict = verdict_of(first)
            if verdict is None or verdict.score is None:
                found.left_out["unjudged"] += 1
                continue
            right = verdict.score == 1.0
            judged[right].append(self._example(state["problem"]["id"], first["generation"], right=right))
        found.examples, left_out = balanced(judged, self.writer, random.Random(seed))
        found.left_out.update(left_out)
        return found

    def _example(self, problem: str, first: Generation, *, right: bool) -> Example:
        spoken = [Message(role="assistant", content=first["text"]), Message(role="user", content=self.prompts.critique)]
        messages, words = [*first["messages"], *spoken], self.prompts.says_right if right else self.prompts.says_wrong
        try:
            return self.writer.example(
                problem, "called right" if right else "called wrong", words, self.asked(first), messages, first["text"]
            )
        except UnreadablePromptError as error:
            raise TaskError(f"the model cannot learn to say {words!r} of its answers: {error}") from error


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
