"""Draws that follow a JSON schema: which tokens may come next, as outlines-core's automaton of the schema says."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selfcorrect.errors import ConfigurationError, PolicyError

if TYPE_CHECKING:
    from torch import Tensor

_COMPILED_SCHEMAS = 64
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>\Z")


class Constraints:
    """The schemas that a tokenizer's texts may be held to; compiled once each.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Raises:
        ConfigurationError: outlines-core is not installed.
    """

    def __init__(self, tokenizer: Any) -> None:
        try:
            import outlines_core
            from outlines_core.json_schema import build_regex_from_schema
        except ImportError as error:
            from selfcorrect.distribution import install_command

            raise ConfigurationError(
                f"drawing by a JSON schema needs: {install_command('constrained')}; without it, answers are only "
                "parsed and validated (constrained=False)"
            ) from error
        self._outlines, self._pattern_of = outlines_core, build_regex_from_schema
        self._eos = tokenizer.eos_token_id
        self._vocabulary = outlines_core.Vocabulary(self._eos, token_texts(tokenizer))
        self._index = lru_cache(maxsize=_COMPILED_SCHEMAS)(self._compiled)

    def guide(self, schema: str) -> "Guide":
        """A guide at the beginning of a text that follows `schema`, a JSON schema as text.

        Raises:
            PolicyError: the schema cannot be compiled: it is none, is recursive, or no text in this vocabulary follows
                it.
        """
        return Guide(self._outlines.Guide(self._index(schema)), self._eos)

    def _compiled(self, schema: str) -> Any:
        try:
            pattern = self._pattern_of(schema)
            return self._outlines.Index(pattern, self._vocabulary)
        except (ValueError, TypeError) as error:
            raise PolicyError(
                f"the JSON schema cannot be followed while drawing: {error}; use constrained=False"
            ) from error


class Guide:
    """Where one completion stands in its schema."""

    def __init__(self, automaton: Any, eos: int) -> None:
        self._automaton, self._eos = automaton, eos
        self.ended = False

    def allowed(self) -> list[int]:
        """The ids that may come next; the end of the text alone once nothing else can."""
        return [self._eos] if self.ended else list(self._automaton.get_tokens())

    def advance(self, token: int) -> None:
        """Take note of the id that was drawn."""
        if token == self._eos:
            self.ended = True
        elif not self.ended:
            self._automaton.advance(token, return_tokens=False)


class Guides:
    """The guides of a batch's rows. Shapes: R rows, V vocabulary."""

    def __init__(self, guides: Sequence[Guide | None]) -> None:
        self._of = {request: guide for request, guide in enumerate(guides) if guide is not None}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, request: int, guide: Guide) -> None:
        """A row of number `request` comes to the batch."""
        self._of[request] = guide

    def drop(self, request: int) -> None:
        """It leaves."""
        self._of.pop(request, None)

    def masked(self, logits_RV: "Tensor", requests_R: Sequence[int]) -> "Tensor":
        """`logits_RV` without the tokens that a row's schema does not allow next."""
        masked_RV = logits_RV
        for row, request in enumerate(requests_R):
            if request in self._of:
                masked_RV = logits_RV.clone() if masked_RV is logits_RV else masked_RV
                allowed = self._of[request].allowed()
                kept = logits_RV[row, allowed]
                masked_RV[row] = float("-inf")
                masked_RV[row, allowed] = kept
        return masked_RV

    def advance(self, requests_R: Sequence[int], tokens_R: Sequence[int]) -> None:
        for request, token in zip(requests_R, tokens_R, strict=True):
            if request in self._of:
                self._of[request].advance(token)


def token_texts(tokenizer: Any) -> dict[bytes, list[int]]:
    """For each text that a token of `tokenizer` writes, as bytes, the ids that write it. Special tokens write none."""
    special, texts = set(tokenizer.all_special_ids), {}  # type: set[int], dict[bytes, list[int]]
    byte_of = _byte_level_characters() if _is_byte_level(tokenizer) else None
    for token, number in tokenizer.get_vocab().items():
        if number in special:
            continue
        written = _token_bytes(token, byte_of)
        if written:
            texts.setdefault(written, []).append(number)
    return texts


def _token_bytes(token: str, byte_of: dict[str, int] | None) -> bytes:
    if byte_of is not None and all(character in byte_of for character in token):
        return bytes(byte_of[character] for character in token)
    raw = _BYTE_TOKEN.match(token)
    return bytes([int(raw[1], 16)]) if raw else token.replace("▁", " ").encode()


def _is_byte_level(tokenizer: Any) -> bool:
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}
    return any(part.get("type") == "ByteLevel" for part in (decoder, *decoder.get("decoders", [])))


def _byte_level_characters() -> dict[str, int]:
    """The printable stand-ins by which byte-level tokenizers (GPT-2's) write bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
