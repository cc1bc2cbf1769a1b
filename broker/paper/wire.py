"""What a terminal in another process is asked, and what it answers: msgpack frames over a unix socket.

A request is `{id, fn, args, kwargs}`, an answer `{id, now, value}` or `{id, now, error, text}`; each follows
its length (four bytes, big endian). Structs travel with their names, arrays as the bytes of their dtype, so
that the asker gets the very values that the terminal gave.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import numpy as np

from broker import structs
from broker.api import RATES_DTYPE, TICKS_DTYPE
from broker.paper.terminal import ClosedBar, Step

LONGEST: Final = 64 * 1024 * 1024
_HEAD: Final = struct.Struct(">I")
_STRUCTS: Final[dict[str, Any]] = {
    **{name: one for name, one in vars(structs).items() if isinstance(one, type) and hasattr(one, "_fields")},
    "ClosedBar": ClosedBar,
    "Step": Step,
}
_DTYPES: Final = {"rates": RATES_DTYPE, "ticks": TICKS_DTYPE}


class Broken(OSError):
    """The other side is gone, or what it sent is no frame."""


def frame(value: Any) -> bytes:
    """A value with its length before it."""
    body = bytes(msgpack.packb(_plain(value)))
    return _HEAD.pack(len(body)) + body


def receive(connection: socket.socket) -> Any:
    """The next value. Raises Broken, and TimeoutError where the socket has a timeout."""
    (length,) = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if length > LONGEST:
        raise Broken(f"a frame of {length} bytes")
    return _rich(msgpack.unpackb(_exactly(connection, length), raw=False, strict_map_key=False))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise Broken("the connection was closed")
        parts += part
    return bytes(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        name = next(name for name, dtype in _DTYPES.items() if dtype == value.dtype)
        return {"%a": name, "v": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        kind = {"%s": type(value).__name__} if hasattr(value, "_fields") else {"%t": 1}
        return {**kind, "v": [_plain(each) for each in value]}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "%a" in value:
        return np.frombuffer(value["v"], dtype=_DTYPES[value["%a"]])
    if "%s" in value:
        return _STRUCTS[value["%s"]](*(_rich(each) for each in value["v"]))
    if "%t" in value:
        return tuple(_rich(each) for each in value["v"])
    return {name: _rich(each) for name, each in value.items()}
