"""The server's own OpenAPI document, made of the types by which it reads requests."""

from typing import Any

from selfcorrect.agents.serving.requests import ChatRequest, Drawing, ResponseRequest, TextRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}
_REFUSALS = {
    "400": "The request cannot be answered as it is.",
    "401": "The API key is missing or wrong.",
    "404": "There is no such model.",
    "405": "The route has other methods.",
    "408": "It took too long.",
    "413": "The body is too large.",
    "429": "The queue is full; see Retry-After.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    posted: dict[str, type[Drawing]] = {
        "/v1/chat/completions": ChatRequest,
        "/v1/completions": TextRequest,
        "/v1/responses": ResponseRequest,
    }
    paths: dict[str, Any] = {path: {"post": _post(kind)} for path, kind in posted.items()}
    for path in ("/v1/models", "/health"):
        paths[path] = {"get": {"responses": {"200": _json_of({"type": "object"}, "What there is."), **_refusals()}}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models/{name}"] = {
        "get": {
            "parameters": [name],
            "responses": {"200": _json_of({"type": "object"}, "The model."), **_refusals()},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "selfcorrect", "version": "1", "description": "Completions that were revised."},
        "paths": paths,
    }


def _post(kind: type[Drawing]) -> dict[str, Any]:
    schema = kind.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.pop("$defs", {})
    whole = _inlined(schema, definitions)
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    answered = _json_of({"type": "object"}, "The answer.")
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": whole}}},
        "responses": {"200": {**answered, "content": {**answered["content"], **stream}}, **_refusals()},
    }


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` with what it refers to in place of the references; none of ours is recursive."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    return [_inlined(value, definitions) for value in schema] if isinstance(schema, list) else schema


def _refusals() -> dict[str, Any]:
    return {status: _json_of(_ERROR, words) for status, words in _REFUSALS.items()}


def _json_of(schema: dict[str, Any], words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
