"""What a conversation looks like in token ids, and what a later message appends."""

from importlib.resources import files

import pytest
from small_models import CHAT_WORDS, WORDS, word_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.policies.rendering import ChatTemplate, PlainTemplate, TextCache, choose_template
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError


def user(text: str) -> Message:
    return Message(role="user", content=text)


def generation(tokenizer: PreTrainedTokenizerFast, prompt: list[int], completion: str) -> Generation:
    ids = tokenizer.encode(completion, add_special_tokens=False)
    return Generation(
        text=completion, messages=[user("1")], prompt_ids=prompt, completion_ids=ids, logprobs=[0.0] * len(ids),
        finish_reason="stop",
    )  # fmt: skip


def test_auto_is_chat_where_there_is_a_chat_template(
    tokenizer: PreTrainedTokenizerFast, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert isinstance(choose_template(tokenizer, "auto"), PlainTemplate)
    assert isinstance(choose_template(chat_tokenizer, "auto"), ChatTemplate)
    assert isinstance(choose_template(chat_tokenizer, "plain"), PlainTemplate)


def test_a_chat_prompt_is_the_templates_own(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = choose_template(chat_tokenizer, "chat").first([Message(role="system", content="check"), user("3 + 5")])
    assert chat_tokenizer.decode(ids) == (
        "<|im_start|> system check <|im_end|> <|im_start|> user 3 + 5 <|im_end|> <|im_start|> assistant"
    )


@pytest.mark.parametrize("ended", [True, False])
def test_a_later_chat_message_closes_the_assistants_turn_once(
    chat_tokenizer: PreTrainedTokenizerFast, ended: bool
) -> None:
    template = choose_template(chat_tokenizer, "chat")
    prompt = template.first([user("3 5 get 8 :")])
    answer = "<think> 3 + 3 </think> 3 + 5 = 8" + (" <|im_end|>" if ended else "")
    first = generation(chat_tokenizer, prompt, answer)
    ids = template.later([user("again :")], first, ended=ended)
    assert chat_tokenizer.decode(prompt + first["completion_ids"] + ids) == (
        "<|im_start|> user 3 5 get 8 : <|im_end|> <|im_start|> assistant <think> 3 + 3 </think> 3 + 5 = 8 <|im_end|> "
        "<|im_start|> user again : <|im_end|> <|im_start|> assistant"
    )


def test_without_thoughts_the_appended_conversation_is_what_the_template_renders(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    template = choose_template(chat_tokenizer, "chat")
    prompt = template.first([user("3 5 get 8 :")])
    first = generation(chat_tokenizer, prompt, "3 + 5 = 8 <|im_end|>")
    appended = prompt + first["completion_ids"] + template.later([user("again :")], first, ended=True)
    conversation = [user("3 5 get 8 :"), Message(role="assistant", content="3 + 5 = 8"), user("again :")]
    assert appended == template.first(conversation)


@pytest.mark.parametrize("ended", [True, False])
def test_plain_messages_follow_one_another_with_the_end_token_between(
    tokenizer: PreTrainedTokenizerFast, ended: bool
) -> None:
    template = choose_template(tokenizer, "plain")
    prompt = template.first([user("3 5 get 8 :")])
    first = generation(tokenizer, prompt, "3 + 5 = 8" + (" <eos>" if ended else ""))
    ids = template.later([user("again :")], first, ended=ended)
    assert tokenizer.decode(prompt + first["completion_ids"] + ids) == "3 5 get 8 : 3 + 5 = 8 <eos> again :"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Like GPT-2's: bytes, no merges, one special token for everything."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<|endoftext|>", *alphabet])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, bos_token=end, unk_token=end)


def test_tokenizers_that_know_line_breaks_get_a_line_for_each_message() -> None:
    bytes_ = byte_tokenizer()
    template = choose_template(bytes_, "auto")
    prompt = template.first([user("What is 3 + 5?")])
    first = generation(bytes_, prompt, "8")
    ids = template.later([user("Sure?")], first, ended=False)
    assert bytes_.decode(prompt) == "What is 3 + 5?\n"
    assert bytes_.decode(prompt + first["completion_ids"] + ids) == "What is 3 + 5?\n8<|endoftext|>\nSure?\n"


@pytest.mark.parametrize("name", ["cohere", "gemma3", "llama3_1", "phi3", "qwen2_5", "qwen3"])
def test_well_known_templates_are_continued_as_they_would_render(name: str) -> None:
    """Templates that TRL ships a copy of."""
    shipped = files("trl").joinpath("chat_templates", f"{name}.jinja")
    if not shipped.is_file():
        pytest.skip("this release of TRL has no such file")
    bytes_ = byte_tokenizer()
    bytes_.chat_template = shipped.read_text(encoding="utf-8")
    template = choose_template(bytes_, "chat")
    prompt = template.first([user("What is 3 + 5?")])
    answer = generation(bytes_, prompt, "It is 9.")
    ids = template.later([user("Sure?")], answer, ended=False)
    conversation = [user("What is 3 + 5?"), Message(role="assistant", content="It is 9."), user("Sure?")]
    assert prompt + answer["completion_ids"] + ids == template.first(conversation)


def test_words_outside_the_vocabulary_are_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PolicyError, match="does not know 'What', 'is' in the prompt 'What is 3 . 5"):
        choose_template(tokenizer, "plain").first([user("What is 3 + 5")])


def test_a_tokenizer_without_end_token_is_refused_with_a_remedy() -> None:
    endless = word_tokenizer(WORDS)
    endless.eos_token = None
    with pytest.raises(PolicyError, match="no EOS token.*tokenizer.eos_token ="):
        choose_template(endless, "auto")


def test_chat_without_a_chat_template_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PolicyError, match="template='plain'"):
        choose_template(tokenizer, "chat")


def test_a_template_that_drops_answers_is_refused() -> None:
    forgetful = word_tokenizer(CHAT_WORDS)
    forgetful.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    template = choose_template(forgetful, "chat")
    first = generation(forgetful, template.first([user("3")]), "5")
    with pytest.raises(PolicyError, match="does not show an assistant's answer"):
        template.later([user("again :")], first, ended=True)


def test_a_template_that_refuses_a_role_says_which_roles_it_was_given() -> None:
    strict = word_tokenizer(CHAT_WORDS)
    strict.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(PolicyError, match=r"\['system', 'user'\]: no system role"):
        choose_template(strict, "chat").first([Message(role="system", content="check"), user("3")])


def test_the_caches_of_texts_are_bounded_by_bytes_and_keep_the_newest() -> None:
    made: list[str] = []

    def upper(text: str) -> str:
        made.append(text)
        return text.upper()

    cache = TextCache(upper, most_bytes=20_000)
    texts = [f"{number:03}" * 10 for number in range(100)]
    assert [cache(text) for text in texts] == [text.upper() for text in texts]
    assert cache.bytes <= 20_000
    assert cache(texts[-1]) and made.count(texts[-1]) == 1
    assert cache(texts[0]) and made.count(texts[0]) == 2
    before = cache.bytes
    assert len(cache("x" * 10_000)) == 10_000 and cache.bytes == before  # too large to be kept


def test_a_refused_text_is_not_remembered() -> None:
    def refuse(text: str) -> str:
        raise ValueError(text)

    cache = TextCache(refuse)
    with pytest.raises(ValueError, match="xxx"):
        cache("x" * 1000)
    assert cache.bytes == 0
