"""Messages on a pipe or socket: four bytes with the length (big-endian), then that many bytes of JSON."""

import json
import os
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
MAX_MESSAGE = 4_000_000
"""Bytes. Larger messages are refused on both sides."""


class ChannelClosed(Exception):
    """The other side is gone."""


class BadMessage(Exception):
    """What arrived is no message, or one too large; or what was to be sent is too large."""


def send(descriptor: int, message: Any) -> None:
    """Write one message; blocks while the other side does not read.

    Raises:
        BadMessage: it is larger than `MAX_MESSAGE`.
        ChannelClosed: nobody reads it.
    """
    data = packed(message)
    try:
        sent = os.write(descriptor, data)
        while sent < len(data):
            sent += os.write(descriptor, data[sent : sent + 65536])
    except OSError:
        raise ChannelClosed from None


def packed(message: Any) -> bytes:
    """A message as bytes."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_MESSAGE:
        raise BadMessage(f"{len(body):,} bytes; the limit is {MAX_MESSAGE:,}")
    return _LENGTH.pack(len(body)) + body


def receive(descriptor: int) -> Any:
    """Wait for one message.

    Raises:
        BadMessage: it is no JSON, or nested too deeply, or too large.
        ChannelClosed: the other side ended.
    """
    data = _read_at_least(descriptor, b"", _LENGTH.size)
    length = _LENGTH.unpack(data[:4])[0]
    if length > MAX_MESSAGE:
        raise BadMessage(f"{length:,} bytes; the limit is {MAX_MESSAGE:,}")
    return parsed(_read_at_least(descriptor, data[4:], length))


def _read_at_least(descriptor: int, start: bytes, count: int) -> bytes:
    parts, have = [start], len(start)
    while have < count:
        try:
            # Never past the message: what follows belongs to the next call.
            part = os.read(descriptor, min(count - have, 262_144))
        except OSError:
            part = b""
        if not part:
            raise ChannelClosed
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def parsed(body: bytes) -> Any:
    """The JSON value in `body`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"no JSON: {type(error).__name__}") from None


class MessageBuffer:
    """Takes bytes as they come and gives whole messages, for a reader that waits with a deadline."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._data = bytearray()
        self._limit = limit

    def add(self, data: bytes) -> None:
        self._data += data

    def next(self) -> Any | None:
        """The next whole message, or None."""
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
