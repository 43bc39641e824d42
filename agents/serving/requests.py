"""What OpenAI's clients send, checked: what would be ignored silently is refused in words."""

import json
from typing import Any, Literal, TypeVar

from langchain_core.messages import BaseMessage, convert_to_messages
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selfcorrect.agents.serving.limits import Limits

MOST_CHOICES = 16
_WITHOUT_EFFECT: dict[str, Any] = {
    "functions": [],
    "logit_bias": {},
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "suffix": "",
    "echo": False,
    "best_of": 1,
    "previous_response_id": "",
    "background": False,
}
"""Fields that this server cannot honour, and the value of each at which it need not."""


class BadRequest(Exception):
    """The request cannot be answered, through a fault of its own.

    Args:
        message: what is wrong and what to do.
        param: the field.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class StreamOptions(BaseModel):
    include_usage: bool = False


class CalledFunction(BaseModel):
    name: str = Field(min_length=1)
    arguments: str


class SentCall(BaseModel):
    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: CalledFunction


class SentMessage(BaseModel):
    """A message of a conversation. Contents are texts or lists of content blocks."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[SentCall] | None = None
    tool_call_id: str | None = None


class Drawing(BaseModel):
    """How to draw, for all endpoints. `max_tokens` limits every turn, not their sum."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = Field(default=None, max_length=1024)
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    stream: bool | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The call options for `ChatSelfCorrect`."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": [text for text in stop if text] if stop else None,
        }
        return {name: value for name, value in given.items() if value is not None}


class ChatRequest(Drawing):
    """A body of /v1/chat/completions."""

    messages: list[SentMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31)
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None

    @property
    def options(self) -> dict[str, Any]:
        given = {
            "max_tokens": self.max_completion_tokens,
            "tools": _functions(self.tools),
            "tool_choice": self.tool_choice if self.tools else None,
            "response_format": self.response_format,
            "logprobs": self.logprobs or None,
        }
        return {**super().options, **{name: value for name, value in given.items() if value is not None}}

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class TextRequest(Drawing):
    """A body of /v1/completions: the prompt is a message of the user."""

    prompt: str | list[str]

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class ResponseRequest(Drawing):
    """A body of /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=2**31)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None

    @property
    def options(self) -> dict[str, Any]:
        form = (self.text or {}).get("format")
        if isinstance(form, dict) and form.get("type") == "json_schema":
            form = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
        tools = [{"type": "function", "function": tool} for tool in self.tools or ()]
        given = {
            "max_tokens": self.max_output_tokens,
            "tools": _functions(tools) if tools else None,
            "tool_choice": self.tool_choice if tools else None,
            "response_format": form,
        }
        return {**super().options, **{name: value for name, value in given.items() if value is not None}}

    def chat_messages(self) -> list[SentMessage]:
        """The input as messages of a chat.

        Raises:
            BadRequest: an item is of a kind that a conversation does not have.
        """
        shown = [{"role": "system", "content": self.instructions}] if self.instructions else []
        items = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        return [_checked(SentMessage, one, "input") for one in (*shown, *map(_chat_message, items))]


def _chat_message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        return {"role": "assistant", "tool_calls": [{"id": item.get("call_id"), "function": function}]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    raise BadRequest(
        f"input holds an item of type {kind!r}; known are message, function_call and function_call_output", "input"
    )


def _functions(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    for tool in tools or ():
        function = tool.get("function")
        if (
            tool.get("type") != "function"
            or not isinstance(function, dict)
            or not (isinstance(function.get("name"), str) and function["name"])
            or not isinstance(function.get("parameters", {}), dict)
        ):
            raise BadRequest("a tool is {'type': 'function', 'function': {'name': ..., 'parameters': {...}}}", "tools")
    return tools or None


Sent = TypeVar("Sent", bound=Drawing)
Model = TypeVar("Model", bound=BaseModel)


def parsed_json(body: bytes) -> Any:
    """The JSON of a body.

    Raises:
        BadRequest: it is none, is nested too deep, or holds what is no text (lone surrogates) or no number.
    """

    def refuse(constant: str) -> Any:
        raise BadRequest(f"the body holds {constant}, which is no number of JSON")

    try:
        value = json.loads(body, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRequest("a text of the body holds a lone surrogate, which is no character") from error
    except ValueError as error:
        raise BadRequest(f"the body is no valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deep") from error
    return value


def read_request(body: Any, kind: type[Sent]) -> Sent:
    """A request's JSON, checked.

    Raises:
        BadRequest: a field is missing, ill-typed, or asks for what this server does not do.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    request = _checked(kind, body)
    for name, idle in _WITHOUT_EFFECT.items():
        if body.get(name) not in (None, idle):
            raise BadRequest(f"{name} is not supported by this server; leave it out", name)
    if request.stream and (request.n or 1) > 1:
        raise BadRequest("n above 1 is not supported together with stream", "n")
    return request


def _checked(kind: type[Model], value: Any, under: str = "") -> Model:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(filter(None, [under, *map(str, first["loc"])]))
        raise BadRequest(f"{field}: {first['msg']}", field) from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deep") from error


def messages_of(sent: list[SentMessage], limits: Limits) -> list[BaseMessage]:
    """The conversation.

    Raises:
        BadRequest: there are too many or too long messages, or one has no known form.
    """
    if len(sent) > limits.messages:
        raise BadRequest(f"{len(sent)} messages are more than this server takes ({limits.messages})", "messages")
    plain = [message.model_dump(exclude_none=True) for message in sent]
    size = sum(len(json.dumps(message, ensure_ascii=False).encode()) for message in plain)
    if size > limits.prompt_bytes:
        raise BadRequest(
            f"the conversation has {size} bytes, more than this server takes ({limits.prompt_bytes}); shorten it",
            "messages",
        )
    try:
        return convert_to_messages([{"content": "", **message} for message in plain])
    except (ValueError, NotImplementedError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"messages cannot be read: {error}", "messages") from error
