"""Policies and verifiers that remember what they said, so that strategies which ask the same are compared on the same
answers and nothing is computed twice."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfcorrect.agents.decoding.batcher import Batcher
from selfcorrect.agents.policy import ContinuingPolicy, Policy, RenewingPolicy, Sampling
from selfcorrect.agents.state import Generation, Message, Usage, tokens_of, usage_of
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import json_line, row_or_none, told, write_whole
from selfcorrect.rewards.checker import StepVerifier, Verifier
from selfcorrect.rewards.shaping import Score

_Asked = tuple[str, str]


class KeptAnswers:
    """The file `path` of answers as they come, so that what was interrupted does not ask for them again. What a crash
    has torn is left out.

    Raises:
        TrainingError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        rows = [row for line in lines if (row := row_or_none(line, "generation")) is not None]
        self._rows: dict[str, tuple[Generation, int | None]] = {
            row["asked"]: (row["generation"], row["limit"]) for row in rows
        }
        write_whole(path, "".join(map(json_line, rows)))

    def get(self, asked: Any) -> tuple[Generation, int | None] | None:
        """The answer to what was asked, and its limit of tokens."""
        return self._rows.get(_digest(asked)) if self._rows else None

    def add(self, asked: Any, generation: Generation, limit: int | None) -> None:
        """Keep one more. It is with the operating system when this returns."""
        with told(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json_line({"asked": _digest(asked), "limit": limit, "generation": generation}))


def _digest(asked: Any) -> str:
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class CachedPolicy:
    """Passes calls on to `policy` once; equal calls (conversation, sampling, seed) get the same generation again.

    A call without a seed is never remembered. A remembered answer with room to spare also answers a call with another
    token limit; one without token ids (a chat model's) that is longer than the limit is cut there instead of being
    asked for again: who ignores seeds would give another answer, and be paid for it. `calls` counts what was passed on.
    What `kept` holds is remembered from the beginning, and all that is remembered is kept there.
    """

    def __init__(self, policy: Policy, kept: KeptAnswers | None = None) -> None:
        self.policy = policy
        self.calls = 0
        self._kept = kept
        self._known: dict[Any, tuple[Generation, int | None]] = {}

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """See `Policy.generate`."""
        asked = (_shown(messages), _identity(after))
        known = self._recall(asked, sampling, begun=0)
        if known is not None:
            return known
        self.calls += 1
        return self._remember(asked, sampling, await self.policy.generate(messages, sampling, after=after))

    async def generate_new(
        self, messages: Sequence[Message], sampling: Sampling, *, drawn: Sequence[Generation]
    ) -> Generation | None:
        """See `RenewingPolicy.generate_new`."""
        if not isinstance(self.policy, RenewingPolicy):
            raise ConfigurationError(f"a {type(self.policy).__name__} cannot draw without replacement")
        asked = (_shown(messages), tuple(tuple(one["completion_ids"]) for one in drawn))
        known = self._recall(asked, sampling, begun=0)
        if known is not None:
            return known
        self.calls += 1
        generation = await self.policy.generate_new(messages, sampling, drawn=drawn)
        return None if generation is None else self._remember(asked, sampling, generation)

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        """See `ContinuingPolicy.extend`."""
        if not isinstance(self.policy, ContinuingPolicy):
            raise ConfigurationError(f"a {type(self.policy).__name__} cannot go on with an unfinished answer")
        asked = (None, _identity(partial))
        known = self._recall(asked, sampling, begun=tokens_of(partial))
        if known is not None:
            return known
        self.calls += 1
        return self._remember(asked, sampling, await self.policy.extend(partial, sampling))

    def forget(self) -> None:
        self._known.clear()

    def _recall(self, asked: Any, sampling: Sampling, *, begun: int) -> Generation | None:
        if sampling.seed is None:
            return None
        key = asked, _without_limit(sampling)
        found = self._known.get(key) or (None if self._kept is None else self._kept.get(key))
        if found is None:
            return None
        known, its_limit = found
        limit, tokens = sampling.max_new_tokens, tokens_of(known) - begun
        if known["finish_reason"] == "length" and limit == its_limit:
            return known
        if limit is not None and tokens > limit:
            return None if known["completion_ids"] else _cut(known, limit)
        return known if known["finish_reason"] != "length" else None

    def _remember(self, asked: Any, sampling: Sampling, generation: Generation) -> Generation:
        if sampling.seed is not None:
            key = asked, _without_limit(sampling)
            self._known[key] = generation, sampling.max_new_tokens
            if self._kept is not None:
                self._kept.add(key, generation, sampling.max_new_tokens)
        return generation


class CachedVerifier:
    """Asks `verifier` once for every (prompt, response). Concurrent calls share a batch where it has `score_all`."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self._known: dict[_Asked, Score] = {}
        self._coalescer: Batcher[tuple[_Asked, ...], list[Score]] = Batcher(self._together, in_thread=False)

    async def scores(self, prompt: str, responses: Sequence[str]) -> list[Score]:
        """See `Verifier.scores`."""
        new = tuple((prompt, text) for text in dict.fromkeys(responses) if (prompt, text) not in self._known)
        if new:
            if hasattr(self.verifier, "score_all"):
                scores = await self._coalescer.submit(new)
            else:
                scores = await self.verifier.scores(prompt, [text for _, text in new])
            self._known.update(zip(new, scores, strict=True))
        return [self._known[prompt, text] for text in responses]

    async def step_scores(self, prompt: str, response: str) -> list[Score]:
        """See `StepVerifier.step_scores`; not remembered."""
        if not isinstance(self.verifier, StepVerifier):
            raise ConfigurationError(f"a {type(self.verifier).__name__} does not score steps")
        return await self.verifier.step_scores(prompt, response)

    def forget(self) -> None:
        self._known.clear()

    def _together(self, asked: Sequence[tuple[_Asked, ...]]) -> list[list[Score]]:
        verifier: Any = self.verifier
        scores = iter(verifier.score_all([pair for pairs in asked for pair in pairs]))
        return [[next(scores) for _ in pairs] for pairs in asked]


def _cut(known: Generation, limit: int) -> Generation:
    """The beginning of an answer of which nobody knows the tokens: as much of its text as is its share."""
    paid = usage_of(known)
    usage = Usage(input_tokens=0 if paid is None else paid["input_tokens"], output_tokens=limit)
    text = known["text"][: len(known["text"]) * limit // tokens_of(known)]
    return {**known, "text": text, "finish_reason": "length", "usage": usage}


def _shown(messages: Sequence[Message]) -> Any:
    return tuple((one["role"], one["content"]) for one in messages)


def _identity(after: Generation | None) -> Any:
    return None if after is None else (after["text"], tuple(after["prompt_ids"]), tuple(after["completion_ids"]))


def _without_limit(sampling: Sampling) -> tuple[Any, ...]:
    return sampling.temperature, sampling.top_p, sampling.seed, sampling.stop
