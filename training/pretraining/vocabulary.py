"""The embedded policy's tokenizer: one token for every number up to 199, operator and word."""

from typing import Any

from selfcorrect.tasks.countdown import LARGEST_VALUE

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
WORDS = ("get", "again", "check", "right", "wrong", "hint")
SYMBOLS = ("+", "-", "*", "/", "=", ";", ":")


def vocabulary() -> list[str]:
    """Every token, in the order of its id."""
    return [PAD, EOS, UNKNOWN, *map(str, range(LARGEST_VALUE + 1)), *SYMBOLS, *WORDS]


def make_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast` over whitespace-separated words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(vocabulary())}
    inner = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
