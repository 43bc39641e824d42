"""The one framing of all processes here: four bytes with the length (big-endian), then that many bytes of JSON."""

import json
import os
import struct
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct(">I")
_encode = json.JSONEncoder(separators=(",", ":")).encode
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
"""What `json.loads` calls in the end. All it does before is to guess an encoding and to look for blanks."""
MAX_MESSAGE = 64 * 2**20
"""Bytes. Larger messages are refused on both sides."""


class ChannelClosed(Exception):
    """The other side is gone."""


class BadMessage(Exception):
    """What arrived is no message, or one too large; or what was to be sent is too large."""


class Channel:
    """One end of a connection that both sides write whole messages to.

    Args:
        descriptor: a connected socket, or the end of a pipe to read from; it stays the caller's to close.
        writes_to: where to write, if that is another pipe.
    """

    def __init__(self, descriptor: int, writes_to: int | None = None) -> None:
        self._descriptor = descriptor
        self._writes_to = descriptor if writes_to is None else writes_to
        self._buffer = MessageBuffer()

    def close(self) -> None:
        """Close the end that is read from, or the only one."""
        os.close(self._descriptor)

    def send(self, message: Any) -> None:
        """Write one message; blocks while the other side does not read.

        Raises:
            BadMessage: it is larger than `MAX_MESSAGE`.
            ChannelClosed: nobody reads it.
        """
        self.send_packed(packed(message))

    def send_packed(self, data: bytes) -> None:
        """Write messages that are packed already."""
        try:
            sent = os.write(self._writes_to, data)
            while sent < len(data):
                sent += os.write(self._writes_to, data[sent : sent + 65536])
        except OSError:
            raise ChannelClosed from None

    @property
    def has_message(self) -> bool:
        """Whether a whole message has been read already."""
        return self._buffer.has_message

    def receive(self) -> Any:
        """Wait for one message.

        Raises:
            BadMessage: it is no JSON, or nested too deeply, or too large.
            ChannelClosed: the other side ended.
        """
        while (message := self._buffer.next()) is None:
            try:
                data = os.read(self._descriptor, 65536)
            except OSError:
                data = b""
            if not data:
                raise ChannelClosed
            self._buffer.add(data)
        return message


def packed(message: Any) -> bytes:
    """A message as bytes."""
    body = _encode(message).encode("ascii")
    if len(body) > MAX_MESSAGE:
        raise BadMessage(f"{len(body):,} bytes; the limit is {MAX_MESSAGE:,}")
    return _LENGTH.pack(len(body)) + body


def parsed(body: bytes) -> Any:
    """The JSON value in `body`."""
    try:
        text = body.decode("ascii")
        value, end = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration) as error:
        raise BadMessage(f"no JSON: {type(error).__name__}") from None
    if end != len(text):
        raise BadMessage("no JSON: more than one value")
    return value


class MessageBuffer:
    """Takes bytes as they come and gives whole messages, for a reader that waits with a deadline."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._data = bytearray()
        self._limit = limit

    def add(self, data: bytes) -> None:
        self._data += data

    @property
    def has_message(self) -> bool:
        """Whether a whole message is here."""
        size = len(self._data)
        return size >= _LENGTH.size and size >= _LENGTH.size + _LENGTH.unpack_from(self._data)[0]

    def next(self) -> Any | None:
        """The next whole message, or None (which is no message itself)."""
        if len(self._data) < _LENGTH.size:
            return None
        length = _LENGTH.unpack_from(self._data)[0]
        if length > self._limit:
            raise BadMessage(f"{length:,} bytes; the limit is {self._limit:,}")
        end = _LENGTH.size + length
        if len(self._data) < end:
            return None
        body = bytes(self._data[_LENGTH.size : end])
        del self._data[:end]
        return parsed(body)
