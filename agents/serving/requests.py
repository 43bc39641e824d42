"""What OpenAI's clients send to /v1/chat/completions, checked: what would be ignored silently is refused in words."""

from typing import Any

from langchain_core.messages import BaseMessage, convert_to_messages
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_CHOICES = 16
_WITHOUT_EFFECT: dict[str, Any] = {
    "tools": [],
    "functions": [],
    "logit_bias": {},
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "response_format": {"type": "text"},
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


class ChatRequest(BaseModel):
    """The fields that count. `max_tokens` limits every turn, not their sum."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The call options for `ChatSelfCorrect`."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def read_request(body: Any) -> ChatRequest:
    """A request's JSON, checked.

    Raises:
        BadRequest: a field is missing, ill-typed, or asks for what this server does not do.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise BadRequest(f"{field}: {first['msg']}", field) from error
    for name, idle in _WITHOUT_EFFECT.items():
        if body.get(name) not in (None, idle):
            raise BadRequest(f"{name} is not supported by this server; leave it out", name)
    if request.stream and (request.n or 1) > 1:
        raise BadRequest("n above 1 is not supported together with stream", "n")
    return request


def messages_of(request: ChatRequest) -> list[BaseMessage]:
    """The conversation.

    Raises:
        BadRequest: a message has no known form.
    """
    try:
        return convert_to_messages(request.messages)
    except (ValueError, NotImplementedError, KeyError, TypeError) as error:
        raise BadRequest(f"messages cannot be read: {error}", "messages") from error
