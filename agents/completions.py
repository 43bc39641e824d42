"""From token ids to a generation: where a completion ends, and what its ids say."""

from collections.abc import Sequence
from typing import Any

from selfcorrect.agents.decoding_requests import Decoded, Request
from selfcorrect.agents.rendering import before_stop
from selfcorrect.agents.state import Generation, Message


def eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """All ids that end a completion: the tokenizer's EOS and those of the model's generation config."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return sorted({tokenizer.eos_token_id, *more})


class Completions:
    """Reads the ids that a model wrote.

    Args:
        tokenizer: the model's.
        eos_ids: tokens that end a completion.
    """

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int]) -> None:
        self._tokenizer, self._eos_ids = tokenizer, eos_ids

    def generation(self, request: Request, decoded: Decoded, messages: list[Message]) -> Generation:
        """What was decoded for `request`, as the answer to the conversation `messages`."""
        text = self.text(self._without_eos(decoded.ids))
        generation = Generation(
            text=before_stop(text, request.stop),
            messages=messages,
            prompt_ids=request.prompt_ids,
            completion_ids=decoded.ids,
            logprobs=decoded.logprobs,
            finish_reason="stop" if decoded.stopped else "length",
        )
        found = _stop_found(text, request.stop)
        return generation if found is None else {**generation, "stop_text": found}

    def joined(self, partial: Generation, part: Generation, stop: tuple[str, ...]) -> Generation:
        """The answer that `part` makes of `partial`; stop texts inside `partial` stay."""
        ids = [*partial["completion_ids"], *part["completion_ids"]]
        text, old = self.text(self._without_eos(ids)), len(self.text(partial["completion_ids"]))
        whole: Generation = {
            **part,
            "text": text[:old] + before_stop(text[old:], stop),
            "prompt_ids": partial["prompt_ids"],
            "completion_ids": ids,
            "logprobs": [*partial["logprobs"], *part["logprobs"]],
        }
        return whole

    def text(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self._eos_ids else ids


def _stop_found(text: str, stop: tuple[str, ...]) -> str | None:
    """Which stop text comes first in `text`."""
    found = [(place, words) for words in stop if (place := text.find(words)) >= 0]
    return min(found)[1] if found else None
