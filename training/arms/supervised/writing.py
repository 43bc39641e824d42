"""Conversations that the policy did not have, in its own tokens: what it is shown, and what it should have said."""

from collections.abc import Sequence

from selfcorrect.agents.policies.local_calls import eos_ids, room_after
from selfcorrect.agents.policies.rendering import Encoder, Template, choose_template, prompt_after
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import TaskError, UnreadablePromptError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms.supervised.examples import Example, Kind, SecondPrompt
from selfcorrect.training.arms.supervised.sampling import Sampled
from selfcorrect.training.runs.opening import prompts_for
from selfcorrect.training.settings import RunSettings


class AnswerWriter:
    """Writes what somebody else says as the policy would have: in its tokens, ended by the token that ends its turn.

    Args:
        policy: whose tokenizer is used.
        template: turns messages into ids.
        again: what the loop says after an answer, in words that the policy reads.
    """

    def __init__(self, policy: TransformersPolicy, template: Template, again: str) -> None:
        self._policy, self._template, self._again = policy, template, again
        self._encoder = Encoder(policy.tokenizer)
        self._stops = eos_ids(policy.model, policy.tokenizer)

    def gold(self, problem: Problem, shown: Sequence[int], messages: list[Message], first: str | None) -> Example:
        """`problem.gold` as the answer to `shown`, the ids of `messages`.

        Raises:
            TaskError: the tokenizer lacks words of the solution.
        """
        assert problem.gold is not None
        kind: Kind = "gold" if first is None else "incorrect to gold"
        try:
            return self.example(problem.id, kind, problem.gold, shown, messages, first)
        except UnreadablePromptError as error:
            raise TaskError(f"the gold solution of {problem.id} cannot be learnt by this model: {error}") from error

    def example(
        self, problem: str, kind: Kind, text: str, shown: Sequence[int], messages: list[Message], first: str | None
    ) -> Example:
        """`text` as the answer to `shown`, the ids of `messages`.

        Raises:
            UnreadablePromptError: the tokenizer lacks words of the text.
        """
        ids = (*self._encoder.encode(text, False), self.end_after(messages))
        return Example(problem=problem, kind=kind, context_ids=tuple(shown), answer_ids=ids, first=first, answer=text)

    def end_after(self, messages: list[Message]) -> int:
        """The token with which the template ends an assistant's turn, if the policy stops at it: that of a chat
        template is often another than the tokenizer's EOS."""
        unfinished = Generation(
            text="", messages=messages, prompt_ids=[], completion_ids=[], logprobs=[], finish_reason="length"
        )
        end = self._template.later([Message(role="user", content=self._again)], unfinished, ended=False)[0]
        return end if end in self._stops else int(self._policy.tokenizer.eos_token_id)

    def fits(self, example: Example) -> bool:
        """Whether the policy could give the answer: within its limit of tokens and its context."""
        try:
            room = room_after(self._policy.model, len(example.context_ids), self._policy.max_new_tokens)
        except UnreadablePromptError:
            return False
        return len(example.answer_ids) <= room


def take(found: Sampled, what: Example | str, writer: AnswerWriter) -> None:
    """Add an example that fits, or count why there is none."""
    if isinstance(what, Example) and writer.fits(what):
        found.examples.append(what)
    else:
        found.left_out["too_long" if isinstance(what, Example) else what] += 1


def second_prompt(settings: RunSettings, policy: TransformersPolicy) -> SecondPrompt:
    """What the graph shows `policy` after a first answer: the same ids, appended in the same way."""
    return prompt_with(prompts_for(settings, policy).revise, settings, policy)


def prompt_with(words: str, settings: RunSettings, policy: TransformersPolicy) -> SecondPrompt:
    """What `policy` is shown where the user says `words` after an answer of its own."""
    template = choose_template(policy.tokenizer, settings.policy.template)
    stops = eos_ids(policy.model, policy.tokenizer)
    instruction = Message(role="user", content=words)

    def prompt_ids(first: Generation) -> list[int]:
        return prompt_after(template, [instruction], first, stops).ids

    return prompt_ids
