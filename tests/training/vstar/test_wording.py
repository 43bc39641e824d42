"""V-STaR's generator and verifiers read problems and answers exactly as the policy was asked and ends its answers."""

from pathlib import Path
from typing import Any

import pytest
from small_models import CHAT_TEMPLATE, CHAT_WORDS, llama, word_tokenizer

from selfcorrect.agents.choosing.sample_pool import Sample
from selfcorrect.agents.policies.rendering import choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import PLAIN, PromptSettings, prompts_of
from selfcorrect.agents.state import Message
from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
from selfcorrect.rewards.verifiers.folder import Platt
from selfcorrect.training.settings import PolicySettings, RunSettings
from selfcorrect.training.vstar.fits import train_generator
from selfcorrect.training.vstar.rounds import cannot_tell, wording_for
from selfcorrect.training.vstar.settings import GeneratorSettings, VstarSettings

PROBLEM, ANSWER = "3 5 7 get 26 :", "3 * 7 = 21 ; 21 + 5 = 26"


def policy_of(*, chat: bool, ends_turns: bool = False) -> TransformersPolicy:
    tokenizer = word_tokenizer(CHAT_WORDS)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    model: Any = llama(len(tokenizer))
    if ends_turns:
        model.generation_config.eos_token_id = [
            tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")
        ]  # fmt: skip
    return TransformersPolicy(model, tokenizer)


def asked(system: str) -> RunSettings:
    return RunSettings(prompts=PromptSettings(attempt="get {problem}", system=system, revise="again :"))


@pytest.mark.parametrize("system", ["", "check right :"])
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_problems_are_read_as_the_policy_was_asked(chat: bool, system: str) -> None:
    policy = policy_of(chat=chat)
    encoder = ResponseEncoder(policy.tokenizer, wording_for(asked(system), policy))
    messages = [Message(role="system", content=system)] if system else []
    messages.append(Message(role="user", content=f"get {PROBLEM}"))
    assert encoder.prompt_ids(PROBLEM) == choose_template(policy.tokenizer, "auto").first(messages)


@pytest.mark.parametrize(
    ("chat", "ends_turns", "end"), [(False, False, "<eos>"), (True, False, "<eos>"), (True, True, "<|im_end|>")]
)
def test_answers_end_as_the_policys_own(chat: bool, ends_turns: bool, end: str) -> None:
    policy = policy_of(chat=chat, ends_turns=ends_turns)
    read = ResponseEncoder(policy.tokenizer, wording_for(asked(""), policy)).whole(PROBLEM, ANSWER)
    assert read is not None
    assert policy.tokenizer.decode(read.ids[read.begin :]) == f"{ANSWER} {end}"


def test_an_end_that_the_tokenizer_lacks_is_refused() -> None:
    with pytest.raises(CheckerError, match="end with '<end_of_turn>', a token that its tokenizer does not have"):
        ResponseEncoder(word_tokenizer(CHAT_WORDS), Wording(end="<end_of_turn>"))


def test_the_generator_keeps_the_words_that_it_was_asked_in(tmp_path: Path, tiny_model_folder: Path) -> None:
    settings = RunSettings(
        policy=PolicySettings(model=str(tiny_model_folder)),
        prompts=PromptSettings(attempt="get {problem}", system="check right :", revise="again :"),
        vstar=VstarSettings(generator=GeneratorSettings(epochs=1, batch=1)),
    )
    right = Sample("p1", PROBLEM, ANSWER, ANSWER, True, tokens=3, finish_reason="stop")
    train_generator(settings, [right], wording=Wording(), out=tmp_path / "generator", seed=0)
    made = TransformersPolicy.from_pretrained(tmp_path / "generator")
    recorded = prompts_of(made, english=PLAIN)
    assert (recorded.system, recorded.attempt, recorded.revise) == ("check right :", "get {problem}", "again :")


def test_a_verifier_that_cannot_tell_is_said_to() -> None:
    assert cannot_tell("classifier", Platt(0.1, -1.0)) is None
    told = cannot_tell("classifier", Platt(0.0, -1.0))
    assert told is not None and "does not tell right from wrong" in told and "vstar.classifier.learning_rate" in told
