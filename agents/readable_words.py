"""What a policy's tokenizer can read. Small policies know numbers and a few words; others spell out whatever they are shown."""

from collections.abc import Iterable
from typing import Any

from selfcorrect.errors import ConfigurationError

_SENTENCE = "Using the numbers, each exactly once, reach a target"
_SHOWN_WORDS = 5


def reads_english(tokenizer: Any) -> bool:
    """Whether a tokenizer knows the words of a plain sentence; None, for policies that have no tokenizer, does."""
    return not unknown_words(tokenizer, _SENTENCE)


def unknown_words(tokenizer: Any, text: str) -> list[str]:
    """The words of `text` that are not in the tokenizer's vocabulary."""
    if tokenizer is None or tokenizer.unk_token_id is None:
        return []
    unknown = tokenizer.unk_token_id
    if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        return []  # byte-level tokenizers reuse their end token as "unknown" and never need it
    if unknown not in tokenizer(text, add_special_tokens=False)["input_ids"]:
        return []
    words = dict.fromkeys(text.split())
    return [word for word in words if unknown in tokenizer(word, add_special_tokens=False)["input_ids"]] or [text]


def refuse_unreadable(policy: Any, prompts: Iterable[str], *, name: str) -> None:
    """Raise a ConfigurationError if the vocabulary of `policy`, which users call `name`, lacks words of one of `prompts`."""
    tokenizer = getattr(policy, "tokenizer", None)
    for prompt in prompts:
        lacking = unknown_words(tokenizer, prompt)
        if lacking:
            shown = ", ".join(map(repr, lacking[:_SHOWN_WORDS])) + (", ..." if len(lacking) > _SHOWN_WORDS else "")
            raise ConfigurationError(
                f"{name} cannot read {prompt!r}: it does not know {shown}; its vocabulary is {_home_of(tokenizer)}. "
                "For other questions name another model"
            )


def _home_of(tokenizer: Any) -> str:
    """What a small vocabulary was made for."""
    if not unknown_words(tokenizer, "get"):
        return "that of Countdown, such as '3 5 7 9 get 56' (3 to 6 numbers, whole and below 200)"
    if not unknown_words(tokenizer, "x y z"):
        return "that of equations, such as '11 x + 7 y + 5 z = 96' (2 to 4 unknowns, numbers whole and below 200)"
    return "a small one of its own"
