"""With which words a policy is talked to."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from selfcorrect.agents.critiques import CRITIQUES
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import (
    COUNTDOWN,
    PAG_MATH,
    PLAIN,
    SCORE_MATH,
    Prompts,
    named_prompts,
    prompts_of,
    reads_english,
    record_prompts,
    record_turns,
    refuse_unreadable,
    turns_made_for,
    unknown_words,
)
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.training.pretraining.second_looks import HOMES

OWN = Prompts(
    attempt="{problem}",
    revise="once more :",
    critique="test :",
    feedback="{reason} :",
    says_wrong="no",
    says_right="yes",
)


class NoUnknownWords:
    """Stands for a byte-level tokenizer."""

    unk_token_id = eos_token_id = 0
    bos_token_id = None


def policy_with(tokenizer: Any) -> ScriptedPolicy:
    return ScriptedPolicy(lambda messages: "", tokenizer=tokenizer)


def test_prompts_on_record_survive_saving_and_loading_of_the_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = HOMES["equations"].tokenizer()
    record_prompts(tokenizer, OWN)
    for folder in ("once", "twice"):
        tokenizer.save_pretrained(tmp_path / folder)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / folder)
    assert prompts_of(policy_with(tokenizer), english=PLAIN) == OWN


def test_without_a_record_the_vocabulary_decides() -> None:
    from transformers import AutoTokenizer

    embedded = AutoTokenizer.from_pretrained(embedded_folder())
    assert not reads_english(embedded) and prompts_of(policy_with(embedded), english=SCORE_MATH) is COUNTDOWN
    assert prompts_of(policy_with(None), english=SCORE_MATH) is SCORE_MATH
    assert prompts_of(policy_with(NoUnknownWords()), english=PLAIN) is PLAIN


@pytest.mark.parametrize("record", ["COUNTDOWN", {"attempt": "{problem}"}, {"attempt": 3}, {"begin": "x"}])
def test_an_unusable_record_is_told(record: Any) -> None:
    tokenizer = HOMES["equations"].tokenizer()
    tokenizer.init_kwargs["selfcorrect_prompts"] = record
    with pytest.raises(PolicyError, match="selfcorrect_prompts"):
        prompts_of(policy_with(tokenizer), english=PLAIN)


def test_the_critique_mode_chooses_between_the_published_prompts() -> None:
    assert named_prompts("math", CRITIQUES["self"]) is PAG_MATH and named_prompts("math") is SCORE_MATH


def test_unknown_words_are_named_once_each_and_in_order() -> None:
    tokenizer = HOMES["equations"].tokenizer()
    assert unknown_words(tokenizer, "11 x + 7 y = 96 :") == []
    assert unknown_words(tokenizer, "what is 7 x what") == ["what", "is"]


def test_an_unreadable_prompt_is_refused_by_what_the_policy_knows() -> None:
    policy = policy_with(HOMES["equations"].tokenizer())
    refuse_unreadable(policy, ["11 x + 7 y = 96 :"], name="mine")
    with pytest.raises(ConfigurationError, match=r"mine cannot read .*'love'; its vocabulary is that of equations"):
        refuse_unreadable(policy, ["11 x + 7 y = 96 :", "love"], name="mine")


def test_how_many_turns_a_policy_was_made_for_goes_where_its_tokenizer_goes(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    assert turns_made_for(SimpleNamespace(tokenizer=tokenizer)) == 2
    record_turns(tokenizer, 9)
    tokenizer.save_pretrained(tmp_path)
    assert turns_made_for(SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(tmp_path))) == 9
    assert turns_made_for(ScriptedPolicy([])) is None
    record_turns(tokenizer, 0)
    with pytest.raises(PolicyError, match="must be a number of turns, got 0"):
        turns_made_for(SimpleNamespace(tokenizer=tokenizer))
