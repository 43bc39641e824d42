"""Two policies without a model: one replays what it is told (for tests, documentation and notebooks; no chance in it),
the other shows a policy part of its conversation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selfcorrect.agents.policies.rendering import conversation_after
from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, PolicyError

Script = Callable[[Sequence[Message]], str] | Sequence[str] | Mapping[str, Sequence[str]]

SCRIPTED_LOGPROB = -0.5
"""The made-up log-probability of every token of a `ScriptedPolicy` with a tokenizer."""


class ScriptedPolicy:
    """Replays outputs. What it says depends on the conversation alone, so concurrent episodes cannot mix.

    Args:
        script: one of
            - a function from the conversation (all messages, oldest first) to the next output;
            - a list: the outputs of an episode in order; every episode gets the same ones;
            - a mapping from a problem's prompt to such a list. The longest key that the first user message contains
            counts.
        tokenizer: a Hugging Face tokenizer. With it, generations carry well-formed ids (prompt of a later turn =
            earlier prompt + completion + new message; completions end with the EOS token, if there is one) and the
            log-probability `SCRIPTED_LOGPROB` for each token. Without it, ids and log-probabilities are [].
    """

    def __init__(self, script: Script, *, tokenizer: Any = None) -> None:
        self.script = script
        self.tokenizer = tokenizer

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The script's next output; `sampling` changes nothing.

        Raises:
            PolicyError: the script has no output for this problem or this many turns.
        """
        call = begin_call(self, messages, sampling, after=after)
        conversation = conversation_after(after, messages)
        text = self._next_output(conversation)
        prompt_ids, completion_ids = self._ids(messages, text, after)
        generation = Generation(
            text=text,
            messages=conversation,
            prompt_ids=prompt_ids,
            completion_ids=completion_ids,
            logprobs=[SCRIPTED_LOGPROB] * len(completion_ids),
            finish_reason="stop",
        )
        call.finish(generation)
        return generation

    def _next_output(self, conversation: Sequence[Message]) -> str:
        if callable(self.script):
            return self.script(conversation)
        outputs = self._outputs_for(conversation) if isinstance(self.script, Mapping) else self.script
        turn = sum(message["role"] == "assistant" for message in conversation)
        if turn >= len(outputs):
            raise PolicyError(
                f"the script holds {len(outputs)} outputs for an episode; output {turn + 1} was asked for"
            )
        return outputs[turn]

    def _outputs_for(self, conversation: Sequence[Message]) -> Sequence[str]:
        assert isinstance(self.script, Mapping)
        shown = next((message["content"] for message in conversation if message["role"] == "user"), "")
        known = [prompt for prompt in self.script if prompt in shown]
        if not known:
            raise PolicyError(f"the script has no entry whose key is part of the prompt {shown!r}")
        return self.script[max(known, key=len)]

    def _ids(self, messages: Sequence[Message], text: str, after: Generation | None) -> tuple[list[int], list[int]]:
        if self.tokenizer is None:
            return [], []
        earlier = [*after["prompt_ids"], *after["completion_ids"]] if after else []
        shown = " ".join(message["content"] for message in messages)
        eos = self.tokenizer.eos_token_id
        return [*earlier, *self._encode(shown)], [*self._encode(text), *([] if eos is None else [eos])]

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


# A window: the opening of a conversation and its latest exchanges, so that episodes can go on for ever.


class WindowedPolicy:
    """Shows `policy` the messages up to the problem and only the last `exchanges` answers with the messages after them.

    With 1, every revision sees the problem and the last answer: what SCoRe's second turn was trained on, however often
    it is repeated. A call that nothing is cut from, and whose token ids are known, is appended to the earlier ids as
    ever; any other is shown as a new conversation (in training, a row of its own). The opening ends where the first
    answer begins, so a window is for episodes without an earlier conversation.

    Args:
        policy: writes the turns.
        exchanges: 1 or more; None shows everything.

    Raises:
        ConfigurationError: `exchanges` is below 1.
    """

    def __init__(self, policy: Policy, exchanges: int | None = None) -> None:
        if exchanges is not None and exchanges < 1:
            raise ConfigurationError(f"exchanges must be 1 or more, got {exchanges}")
        self.policy = policy
        self.exchanges = exchanges

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The policy's next message; see `Policy.generate`."""
        if after is None:
            return await self.policy.generate(messages, sampling)
        earlier = [*after["messages"], Message(role="assistant", content=after["text"])]
        shown = self._window(earlier)
        if after["prompt_ids"] and len(shown) == len(earlier):
            return await self.policy.generate(messages, sampling, after=after)
        return await self.policy.generate([*shown, *messages], sampling)

    def _window(self, conversation: list[Message]) -> list[Message]:
        """`conversation`, which ends with an answer of the policy, without the exchanges that are too old."""
        if self.exchanges is None:
            return conversation
        problem = _end_of_opening(conversation)
        answers = [place for place in range(problem, len(conversation)) if conversation[place]["role"] == "assistant"]
        return [*conversation[:problem], *conversation[answers[-self.exchanges :][0] :]]


def _end_of_opening(conversation: list[Message]) -> int:
    """Where the first answer stands."""
    return next(place for place, message in enumerate(conversation) if message["role"] == "assistant")
