"""The tokenizers of small policies: one token for every number up to 199, every operator and a few words."""

from collections.abc import Sequence
from typing import Any

from selfcorrect.tasks.countdown import LARGEST_VALUE

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SYMBOLS = ("+", "-", "*", "/", "=", ";", ":")
LOOP_WORDS = ("again", "check", "right", "wrong", "hint")
"""What the prompts of the loop and the second looks are made of, whatever the task."""
WORDS = ("get", *LOOP_WORDS)
"""The words of the embedded policy."""


def vocabulary(words: Sequence[str] = WORDS) -> list[str]:
    """Every token, in the order of its id."""
    return [PAD, EOS, UNKNOWN, *map(str, range(LARGEST_VALUE + 1)), *SYMBOLS, *words]


def make_tokenizer(words: Sequence[str] = WORDS, *, positions: int = 256) -> Any:
    """A `PreTrainedTokenizerFast` over whitespace-separated words, for texts of up to `positions` tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(vocabulary(words))}
    inner = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
