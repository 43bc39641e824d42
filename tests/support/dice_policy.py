"""A policy of token ids alone: draws are a function of its seed and the prompt, and it remembers what it drew."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message


@dataclass(eq=False)
class DicePolicy:
    """Draws 1 to 4 ids out of 0 .. 3, so that prompts often begin alike by chance. A message's text is a list of
    ids."""

    drawn: list[Generation] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    """For each of `drawn`, the label of who asked for it."""

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None, label: str = ""
    ) -> Generation:
        call = begin_call(self, messages, sampling, after=after)
        earlier = [*after["prompt_ids"], *after["completion_ids"]] if after else []
        prompt = [*earlier, *(int(word) for message in messages for word in message["content"].split())]
        dice = random.Random(repr((prompt, call.sampling.seed)))
        completion = [dice.randrange(4) for _ in range(dice.randint(1, 4))]
        generation = Generation(
            text=" ".join(map(str, completion)),
            messages=[],
            prompt_ids=prompt,
            completion_ids=completion,
            logprobs=[-dice.random() for _ in completion],
            finish_reason="stop",
        )
        self.drawn.append(generation)
        self.by.append(label)
        call.finish(generation)
        return generation
