"""Answers as JSON: what a call asks for, how the policy is told, how the answer is parsed and validated."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

from selfcorrect.agents.plugins.tools import json_in
from selfcorrect.errors import ConfigurationError


@dataclass(frozen=True)
class ResponseFormat:
    """JSON that an answer must be.

    Args:
        schema: its JSON schema; None takes any JSON object.
    """

    schema: dict[str, Any] | None

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        if self.schema is None:
            return "Answer with nothing but a JSON object."
        written = json.dumps(self.schema, ensure_ascii=False)
        return f"Answer with nothing but JSON that follows this JSON schema:\n{written}"

    @property
    def constraint(self) -> str:
        """The schema as text, for `Sampling.json_schema`."""
        return json.dumps(self.schema if self.schema is not None else {"type": "object"})

    def problem_with(self, text: str) -> str | None:
        """What is wrong with an answer; None if it is as it should be."""
        import jsonschema

        try:
            value = json.loads(json_in(text))
        except (ValueError, RecursionError) as error:
            return f"the answer is no valid JSON: {error}"
        if self.schema is None:
            return None if isinstance(value, dict) else "the answer is JSON, but no object"
        try:
            jsonschema.validate(value, self.schema)
        except jsonschema.ValidationError as error:
            return f"the answer does not follow the schema: {error.json_path}: {error.message}"
        except RecursionError:
            return "the answer is nested too deep"
        return None


def response_format(asked: Any) -> ResponseFormat | None:
    """What a call's `response_format` asks for: OpenAI's dict, a JSON schema, or a pydantic class. None is text.

    Raises:
        ConfigurationError: it is nothing of these, or its schema is no JSON schema.
    """
    if asked is None:
        return None
    if not isinstance(asked, dict):
        return _of_schema(convert_to_json_schema(asked))
    kind = asked.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return ResponseFormat(None)
    if kind == "json_schema":
        held = asked.get("json_schema")
        schema = held.get("schema") if isinstance(held, dict) else None
        if not isinstance(schema, dict):
            raise ConfigurationError("response_format of type json_schema needs json_schema.schema, a JSON schema")
        return _of_schema(schema)
    if "properties" in asked or kind in ("object", "array", "string", "number", "integer", "boolean"):
        return _of_schema(asked)
    raise ConfigurationError(f"response_format has the type {kind!r}; known are text, json_object and json_schema")


def _of_schema(schema: dict[str, Any]) -> ResponseFormat:
    import jsonschema

    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as error:
        raise ConfigurationError(f"response_format holds no JSON schema: {str(error).splitlines()[0]}") from error
    return ResponseFormat(schema)


class FormatError(ValueError):
    """An answer that should have been JSON of a schema is not."""


def parser_of(schema: Any) -> Callable[[AIMessage], Any]:
    """Reads answers that follow `schema`: objects of a pydantic class, dicts for any other schema.

    The reader raises FormatError.
    """
    wanted = response_format(schema)
    assert wanted is not None

    def parsed(message: AIMessage) -> Any:
        wrong = wanted.problem_with(str(message.text))
        if wrong is not None:
            raise FormatError(wrong)
        value = json.loads(json_in(str(message.text)))
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            return schema.model_validate(value)
        return value

    return parsed


def parsed_from(
    asking: Runnable[LanguageModelInput, AIMessage], schema: Any, *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """The answers of a model that is asked for JSON, as objects of `schema`.

    Args:
        include_raw: give a dict with "raw", "parsed" and "parsing_error" rather than raise FormatError.
    """
    read = RunnableLambda(parser_of(schema))
    if not include_raw:
        return asking | read
    kept = RunnablePassthrough.assign(parsed=itemgetter("raw") | read, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return {"raw": asking} | kept.with_fallbacks([failed], exception_key="parsing_error")
