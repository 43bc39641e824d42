"""Which words a policy is talked to with: those on record with its tokenizer, else those its vocabulary allows.

The record is a field of tokenizer_config.json: it goes wherever the tokenizer is saved, with trained policies too.
"""

from dataclasses import asdict, fields
from typing import Any

from selfcorrect.agents.prompts import COUNTDOWN, PAG_MATH, SCORE_MATH, Prompts
from selfcorrect.agents.readable_words import reads_english
from selfcorrect.errors import ConfigurationError, PolicyError

_RECORD = "selfcorrect_prompts"


def record_prompts(tokenizer: Any, prompts: Prompts) -> None:
    """Keep `prompts` with `tokenizer`, which saves them: whoever loads the policy talks to it in these words."""
    tokenizer.init_kwargs[_RECORD] = asdict(prompts)


def prompts_of(policy: Any, *, english: Prompts) -> Prompts:
    """The words of the loop for `policy`.

    Args:
        policy: any policy. One without a tokenizer (a chat model) reads English.
        english: for policies that read English sentences and have nothing on record.

    Raises:
        PolicyError: what is on record is unusable.
    """
    tokenizer = getattr(policy, "tokenizer", None)
    recorded = _recorded(tokenizer)
    if recorded is not None:
        return recorded
    return english if reads_english(tokenizer) else COUNTDOWN


def math_prompts(critique: str) -> Prompts:
    """The published prompts of a critique mode: PAG's where the policy judges itself, else SCoRe's."""
    return PAG_MATH if critique == "self" else SCORE_MATH


def _recorded(tokenizer: Any) -> Prompts | None:
    record = getattr(tokenizer, "init_kwargs", {}).get(_RECORD)
    if record is None:
        return None
    names = [field.name for field in fields(Prompts)]
    if not isinstance(record, dict) or not all(
        name in names and isinstance(text, str) for name, text in record.items()
    ):
        raise PolicyError(
            f"{_RECORD} in the policy's tokenizer_config.json must hold texts called {', '.join(names)}; got {record!r}"
        )
    try:
        return Prompts(**record)
    except (TypeError, ConfigurationError) as error:
        raise PolicyError(f"{_RECORD} in the policy's tokenizer_config.json cannot be used: {error}") from error
