"""From messages to token ids: the first prompt of a conversation, and what a later message appends to it.

A later prompt is never rendered as a whole. Chat templates rewrite earlier turns (many strip <think> blocks), and text
that is tokenised again can come out in other tokens; either way the policy would be trained on something it never saw.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, Literal, Protocol, TypeVar

from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError, UnreadablePromptError

TemplateName = Literal["auto", "plain", "chat"]

_SENTINEL = "SELFCORRECT_ASSISTANT_ANSWER"
_CACHED_BYTES = 64 * 2**20
"""Of each cache of texts."""
_ENTRY_BYTES = 300
"""What an entry takes beside its text and value, about."""

Value = TypeVar("Value", bound="tuple[int, ...] | str")


class Template(Protocol):
    """Turns messages into token ids."""

    def first(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation's first prompt."""
        ...

    def later(self, messages: Sequence[Message], after: Generation, *, ended: bool) -> list[int]:
        """The ids that `messages` append after a completion.

        Args:
            messages: the new messages.
            after: the generation that they follow.
            ended: whether its completion ids end with a stop token. If not, the end of the assistant's turn is appended
                too.
        """
        ...


@dataclass(frozen=True, slots=True)
class PromptIds:
    """What a policy is shown.

    Attributes:
        ids: all of it.
        known: how many of `ids` are an earlier prompt and its completion, as they were read and drawn then.
    """

    ids: list[int]
    known: int


def prompt_after(
    template: Template, messages: Sequence[Message], after: Generation | None, eos_ids: Collection[int]
) -> PromptIds:
    """The ids of `messages`, appended to `after`'s own. If `after` has none (a chat model wrote it), all of the
    conversation is rendered."""
    if after is None or not after["prompt_ids"]:
        return PromptIds(template.first(conversation_after(after, messages)), 0)
    completion = after["completion_ids"]
    ended = bool(completion) and completion[-1] in eos_ids
    earlier = [*after["prompt_ids"], *completion]
    return PromptIds([*earlier, *template.later(messages, after, ended=ended)], len(earlier))


def conversation_after(after: Generation | None, messages: Sequence[Message]) -> list[Message]:
    """The conversation up to and including the generation `after`, and then `messages`."""
    earlier = [*after["messages"], Message(role="assistant", content=after["text"])] if after is not None else []
    return [*earlier, *messages]


def stop_found(text: str, stop: tuple[str, ...]) -> str | None:
    """Which stop text comes first in `text`."""
    found = [(place, words) for words in stop if (place := text.find(words)) >= 0]
    return min(found)[1] if found else None


def before_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first of the stop texts in it."""
    found = [place for place in (text.find(words) for words in stop) if place >= 0]
    return text[: min(found)] if found else text


def count_tokens(template: Template, messages: Sequence[Message]) -> int:
    """How many ids a policy with this template would be shown of `messages`. Where the template refuses them as a
    conversation (a part of one, say), each is counted by itself."""
    try:
        return len(template.first(messages))
    except PolicyError:
        return sum(len(template.first([Message(role="user", content=message["content"])])) for message in messages)


def choose_template(tokenizer: Any, name: TemplateName) -> Template:
    """The template called `name`; "auto" is "chat" if the tokenizer has a chat template, else "plain".

    Raises:
        PolicyError: "chat" without a chat template, or a tokenizer without an EOS token.
    """
    if tokenizer.eos_token_id is None:
        raise PolicyError(
            "the tokenizer has no EOS token, so a completion could never end; set one, e.g. tokenizer.eos_token = "
            "'<eos>' (a token that the model was trained to end with), before making the policy"
        )
    if name not in ("auto", "plain", "chat"):
        raise PolicyError(f"template must be 'auto', 'plain' or 'chat', got {name!r}")
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if name == "chat" and not has_chat:
        raise PolicyError("template='chat', but the tokenizer has no chat_template; use template='plain' or set one")
    return ChatTemplate(tokenizer) if has_chat and name != "plain" else PlainTemplate(tokenizer)


def room_in(context: int | None, prompt_length: int, wanted: int) -> int:
    """How many tokens may follow a prompt in a context of so many tokens: what is wanted, or what it leaves.

    Raises:
        PolicyError: the prompt is empty, or (an UnreadablePromptError) fills the context.
    """
    if prompt_length == 0:
        raise PolicyError("the prompt has no tokens; show the policy at least one message with text in it")
    if context is None:
        return wanted
    if prompt_length >= context:
        raise UnreadablePromptError(
            f"the prompt has {prompt_length} token ids, but the model's context holds {context}, completion included; "
            "shorten the problem, lower max_new_tokens of the earlier turns or use fewer revisions"
        )
    return min(wanted, context - prompt_length)


class TextCache(Generic[Value]):
    """What texts were turned into, newest last; the oldest are forgotten beyond a number of bytes.

    Args:
        make: from a text (and what else it depends on) to the value, a text or a tuple of ids. What it raises is not
            remembered.
        most_bytes: of all texts and values together, about.
    """

    def __init__(self, make: Callable[..., Value], most_bytes: int = _CACHED_BYTES) -> None:
        self._make, self._most = make, most_bytes
        self._kept: OrderedDict[tuple[Any, ...], tuple[Value, int]] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def __call__(self, *key: Any) -> Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        value = self._make(*key)
        size = _ENTRY_BYTES + sum(4 * len(part) for part in key if isinstance(part, str)) + 36 * len(value)
        with self._lock:
            if size <= self._most // 4 and key not in self._kept:
                self._kept[key] = value, size
                self.bytes += size
            while self.bytes > self._most:
                self.bytes -= self._kept.popitem(last=False)[1][1]
        return value


class Encoder:
    """Text to ids, remembered; refuses words that the tokenizer does not know."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        unknown = tokenizer.unk_token_id
        # byte-level tokenizers reuse their end token as "unknown" and never need it
        self._unknown = None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id) else unknown
        self.encode = TextCache(self._encode)

    def _encode(self, text: str, special: bool) -> tuple[int, ...]:
        ids = list(self.tokenizer.encode(text, add_special_tokens=special))
        if special and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers close every text; a prompt stays open
        if self._unknown is not None and self._unknown in ids:
            raise UnreadablePromptError(
                f"the tokenizer does not know {self._unknown_words(text)} in the prompt {text!r}"
            )
        return tuple(ids)

    def _unknown_words(self, text: str) -> str:
        words = [
            word
            for word in dict.fromkeys(text.split())
            if self._unknown in self.tokenizer.encode(word, add_special_tokens=False)
        ]
        return ", ".join(map(repr, words)) or "some characters"


class PlainTemplate:
    """Messages one after the other, for base models and the embedded policy. Roles are not shown.

    Messages are joined by a line break, or by a space if the tokenizer does not know line breaks. The end of an
    assistant's turn is the EOS token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._encoder = Encoder(tokenizer)
        self._eos = tokenizer.eos_token_id
        line_break = tokenizer.encode("\n", add_special_tokens=False)
        knows_line_break = bool(line_break) and tokenizer.unk_token_id not in line_break
        self._joiner = "\n" if knows_line_break else " "

    def first(self, messages: Sequence[Message]) -> list[int]:
        return list(self._encoder.encode(self._written(messages), True))

    def later(self, messages: Sequence[Message], after: Generation, *, ended: bool) -> list[int]:
        ids = self._encoder.encode(self._joiner + self._written(messages), False)
        return [*([] if ended else [self._eos]), *ids]

    def _written(self, messages: Sequence[Message]) -> str:
        """Every message followed by the joiner: the answer begins on a line of its own."""
        return "".join(message["content"] + self._joiner for message in messages)


class ChatTemplate:
    """The tokenizer's own chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)
        self._text_after = TextCache(self._render_after)

    def first(self, messages: Sequence[Message]) -> list[int]:
        return list(self._encoder.encode(self._render(messages), False))

    def later(self, messages: Sequence[Message], after: Generation, *, ended: bool) -> list[int]:
        roles = tuple(message["role"] for message in after["messages"])
        tools = json.dumps(after["messages"][0].get("tools", []) if after["messages"] else [])
        new = json.dumps(list(messages))
        ids = list(self._encoder.encode(self._text_after(roles, tools, new), False))
        # the text begins with the end of the assistant's turn, which the policy has usually sampled itself
        return ids[1:] if ended and ids[:1] == after["completion_ids"][-1:] else ids

    def _render_after(self, roles: tuple[str, ...], tools: str, new: str) -> str:
        """What the template writes after an assistant's answer when `new` messages follow (both as JSON, to be
        remembered by).

        The earlier messages are stand-ins with the same roles (templates may count rounds), the answer is a sentinel.
        """
        earlier = [Message(role=role, content="x") for role in roles]
        if earlier and tools != "[]":
            earlier[0]["tools"] = json.loads(tools)
        added: list[Message] = json.loads(new)
        text = self._render([*earlier, Message(role="assistant", content=_SENTINEL), *added])
        _, found, rest = text.partition(_SENTINEL)
        if not found or _SENTINEL in rest or any(message["content"].strip() not in rest for message in added):
            raise PolicyError(
                "the chat template does not show an assistant's answer followed by a new message, so later turns "
                f"cannot be appended; use template='plain'. It rendered: {text!r}"
            )
        return rest

    def _render(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        try:
            return self._applied(messages)
        except TemplateError as error:
            roles = [message["role"] for message in messages]
            if "system" in roles[1:]:  # many templates know a system message at the beginning only
                return self._render(_later_systems_as_user(messages))
            raise PolicyError(f"the chat template refuses a conversation with the roles {roles}: {error}") from error

    def _applied(self, messages: Sequence[Message]) -> str:
        tools = messages[0].get("tools") if messages else None
        shown = [{name: value for name, value in message.items() if name != "tools"} for message in messages]
        text = self._tokenizer.apply_chat_template(
            shown, tools=tools or None, tokenize=False, add_generation_prompt=True
        )
        return str(text)


def _later_systems_as_user(messages: Sequence[Message]) -> list[Message]:
    """`messages` with every system message but a first one shown as the user's, and the user's neighbours joined."""
    shown: list[Message] = []
    for place, message in enumerate(messages):
        role = "user" if place and message["role"] == "system" else message["role"]
        if shown and role == "user" == shown[-1]["role"]:
            shown[-1] = {**shown[-1], "content": f"{shown[-1]['content']}\n\n{message['content']}"}
        else:
            shown.append({**message, "role": role})
    return shown
