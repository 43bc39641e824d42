"""Chat templates that rewrite what was said before: turns keep the exact tokens that were read and drawn.

Qwen3's template takes thoughts out of earlier answers, Gemma's trims them, SmolLM2's puts a system message before the
first. Rendering the conversation anew would show the policy (and train it on) what it never wrote.
"""

from importlib.resources import files

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.policies.rendering import ChatTemplate, choose_template, prompt_after
from selfcorrect.agents.state import Generation, Message

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Of SmolLM2-135M-Instruct (Apache-2.0), as its GGUF file holds it."""
QWEN, GEMMA = ("<|im_start|>", "<|im_end|>"), ("<start_of_turn>", "<end_of_turn>")
THOUGHT = "<think>\n3 + 5 is 9\n</think>\n\nThe answer is 9. "
FAMILIES = {
    "qwen3": (QWEN, THOUGHT),
    "gemma3": (GEMMA, "  The answer is 9. \n"),
    "smollm2": (QWEN, "The answer is 9. "),
}


def template_of(family: str) -> str:
    if family == "smollm2":
        return SMOLLM2
    shipped = files("trl").joinpath("chat_templates", f"{family}.jinja")
    if not shipped.is_file():
        pytest.skip("this release of TRL ships no such template")
    return shipped.read_text(encoding="utf-8")


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """Bytes, and the family's marks and template."""
    (begins, ends), _ = FAMILIES[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(begins, special=True), AddedToken(ends, special=True)])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=ends, pad_token=ends)
    made.chat_template = template_of(family)
    return made


def user(text: str) -> Message:
    return Message(role="user", content=text)


def answered(tokenizer: PreTrainedTokenizerFast, prompt: list[int], asked: list[Message], text: str) -> Generation:
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    return Generation(
        text=text, messages=asked, prompt_ids=prompt, completion_ids=ids, logprobs=[0.0] * len(ids),
        finish_reason="stop",
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("opening", [[], [Message(role="system", content="Be brief.")]], ids=["plain", "system"])
def test_three_turns_keep_the_tokens_that_were_read_and_drawn(family: str, opening: list[Message]) -> None:
    tokenizer, text = tokenizer_of(family), FAMILIES[family][1]
    template, ends = choose_template(tokenizer, "chat"), {tokenizer.eos_token_id}
    asked = [*opening, user("What is 3 + 5?")]
    seen = prompt_after(template, asked, None, ends).ids
    assert seen == template.first(asked)
    for question in ("Are you sure?", "Once more."):
        said = answered(tokenizer, seen, asked, text)
        later = prompt_after(template, [user(question)], said, ends)
        kept = [*seen, *said["completion_ids"]]
        assert later.ids[: len(kept)] == kept and later.known == len(kept)
        added = tokenizer.decode(later.ids[len(kept) :])
        assert question in added and added.count(FAMILIES[family][0][1]) == 1, "the answer is not closed twice"
        assert "SmolLM" not in added, "no second system message"
        assert added.endswith(("assistant\n", "model\n"))
        asked, seen = [*asked, Message(role="assistant", content=text), user(question)], later.ids
    assert tokenizer.decode(seen).count(text) == 2, "both answers are shown as they were written"


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_rendering_anew_would_have_shown_something_else(family: str) -> None:
    """That the templates do rewrite: else the test above would hold for any way of rendering."""
    tokenizer, text = tokenizer_of(family), FAMILIES[family][1]
    template = choose_template(tokenizer, "chat")
    assert isinstance(template, ChatTemplate)
    anew = template.first([user("What is 3 + 5?"), Message(role="assistant", content=text), user("Are you sure?")])
    assert text not in tokenizer.decode(anew)
