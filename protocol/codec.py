"""Bytes to messages and back: msgpack, with limits on size and depth before anything is built of it.

One frame is one message. A map is a message with its tag in `t`; an array is a heartbeat.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
from pydantic import TypeAdapter, ValidationError

from protocol.errors import BadFrame
from protocol.messages import AnyMessage, Heartbeat, Message

MAX_FRAME: Final = 4 * 1024 * 1024
MAX_REQUEST: Final = 1024 * 1024  # of the control sockets
MAX_DEPTH: Final = 16
#: Values in one frame, containers counted too: what takes long is not the bytes but the objects made of them.
MAX_ITEMS: Final = 500_000

_adapter: Final[TypeAdapter[AnyMessage]] = TypeAdapter(AnyMessage)
_HEARTBEAT_FIELDS: Final = len(Heartbeat._fields)
#: Every byte that does not begin an array or a map.
_NO_HEADS: Final = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))


def pack(value: Any) -> bytes:
    """Plain msgpack of plain values."""
    return bytes(msgpack.packb(value))


def unpack(frame: bytes, *, max_frame: int = MAX_FRAME, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> Any:
    """Plain values of a frame. Raises BadFrame when it is too large, too deep, of too many values or not msgpack."""
    if len(frame) > max_frame:
        raise BadFrame(f"frame of {len(frame)} bytes; at most {max_frame}")
    try:
        _check_nesting(frame, max_depth, max_items)
        return msgpack.unpackb(frame, raw=False, strict_map_key=False, max_array_len=max_items, max_map_len=max_items)
    except BadFrame:
        raise
    except Exception as error:  # msgpack raises ValueError, TypeError, UnicodeDecodeError and its own
        raise BadFrame(f"not msgpack: {type(error).__name__}") from None


def encode(message: Message) -> bytes:
    """A message as one frame. A value that msgpack does not know is its number or text; a lone surrogate is escaped."""
    return bytes(msgpack.packb(message.model_dump(), default=_plain, unicode_errors="backslashreplace"))


def encode_bounded(message: Message) -> bytes:
    """The same for what strangers have put values into. Raises BadFrame where the other side would, or ValueError."""
    frame = encode(message)
    if len(frame) > MAX_FRAME:
        raise BadFrame(f"frame of {len(frame)} bytes; at most {MAX_FRAME}")
    _check_nesting(frame, MAX_DEPTH, MAX_ITEMS)
    return frame


def _plain(value: Any) -> Any:
    try:
        return value.item()  # a number of numpy
    except (AttributeError, ValueError):
        return str(value)


def decode(frame: bytes) -> AnyMessage:
    """A frame as a message. Raises BadFrame."""
    value = unpack(frame)
    try:
        return _adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFrame(f"not a message: {where}: {first['msg']}") from None


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """A heartbeat as one frame: a msgpack array."""
    return bytes(msgpack.packb(beat))


def is_heartbeat(frame: bytes) -> bool:
    """Whether the frame is an array, which only heartbeats are."""
    return bool(frame) and (frame[0] & 0xF0) == 0x90


def decode_heartbeat(frame: bytes) -> Heartbeat:
    """A heartbeat of a frame. Raises BadFrame. Later versions may append fields; those are ignored."""
    if len(frame) > 128:
        raise BadFrame("heartbeat of more than 128 bytes")
    try:
        values = msgpack.unpackb(frame)
        beat = Heartbeat(*values[:_HEARTBEAT_FIELDS])
    except Exception:
        raise BadFrame("not a heartbeat") from None
    for value in beat:
        if not isinstance(value, int | float):
            raise BadFrame("not a heartbeat")
    return beat


def _check_nesting(frame: bytes, depth: int, items: int) -> None:
    """Raise BadFrame when arrays and maps nest deeper than `depth`, or hold more than `items` values in all.

    No object is built. `skip` walks a scalar in C; the walk visits each value once. What a container says it holds
    counts from its first byte on: a frame of too many values costs no walk through those that are allowed.
    """
    # Each value takes a byte at least. With fewer bytes that could begin a container than levels that are allowed,
    # and fewer bytes than values, nothing can be wrong: nearly all frames end here.
    if len(frame) <= depth or (len(frame) <= items and len(frame.translate(None, _NO_HEADS)) <= depth):
        return
    unpacker = msgpack.Unpacker(max_buffer_size=len(frame))
    unpacker.feed(frame)
    left = [1]  # items still to read at each open level
    items -= 1
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        position = unpacker.tell()
        head = frame[position] if position < len(frame) else -1
        if 0x90 <= head <= 0x9F or head in (0xDC, 0xDD):
            inner = unpacker.read_array_header()
        elif 0x80 <= head <= 0x8F or head in (0xDE, 0xDF):
            inner = 2 * unpacker.read_map_header()
        else:
            unpacker.skip()
            continue
        left.append(inner)
        items -= inner
        if items < 0:
            raise BadFrame("too many values")
        if len(left) > depth + 1:
            raise BadFrame(f"nested deeper than {depth}")
