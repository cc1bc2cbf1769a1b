"""The codec: what was said is what is heard, and noise is refused in one way only."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import (
    MAX_FRAME,
    MAX_ITEMS,
    decode,
    decode_heartbeat,
    encode,
    encode_heartbeat,
    is_heartbeat,
    pack,
    unpack,
)
from protocol.errors import BadFrame
from protocol.messages import Heartbeat, Message
from tests.attackers import DEEP, LYING, WIDE
from tests.fuzz.shapes import frames, many, messages, values
from tests.scale import SOAK


@many
@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@many
@given(values)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    assert unpack(pack(value)) == value


@many
@given(
    st.builds(
        Heartbeat,
        *[st.integers(0, 2**31)] * 5,
        st.floats(-1e6, 1e6),
        *[st.integers(0, 2**20)] * 3,
        *[st.integers(0, 2**62)] * (len(Heartbeat._fields) - 9),
    )
)
def test_every_heartbeat_comes_back_as_it_was(beat: Heartbeat) -> None:
    frame = encode_heartbeat(beat)
    assert is_heartbeat(frame) and decode_heartbeat(frame) == beat


@many
@given(frames)
def test_noise_is_a_bad_frame_and_nothing_else(frame: bytes) -> None:
    for read in (decode, decode_heartbeat, unpack):
        try:
            read(frame)
        except BadFrame as error:
            assert len(error.message) < 1000  # it goes to the log


#: In the suite an eighth of everything.
_PART = 1 if SOAK else 8
_BYTES, _VALUES = MAX_FRAME // _PART, MAX_ITEMS // _PART


@pytest.mark.parametrize(
    "frame",
    [
        DEEP, WIDE, b"\xdd" + _VALUES.to_bytes(4, "big") + b"\x91\x90" * _VALUES, LYING,
        b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\x81" * 60_000, b"\xdc\xff\xff" * 60_000, b"\x90" * (_BYTES + 1),
        b"\xdd" + (_BYTES // 2).to_bytes(4, "big") + b"\x90" * (_BYTES // 2),
        b"\xdf" + (_BYTES // 4).to_bytes(4, "big") + b"\x01\xc0" * (_BYTES // 4),
        # Many arrays, each of as many values as one may have.
        b"\x9f" + (b"\xdd" + (_VALUES // 2).to_bytes(4, "big") + b"\xc0" * (_VALUES // 2)) * 15,
    ],
    ids=["deep", "wide", "many", "lying array", "lying map", "lying bytes", "lying text", "maps in maps",
         "arrays in arrays", "large", "empty arrays", "map", "arrays"],
)  # fmt: skip
def test_a_hostile_frame_costs_little(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadFrame):
            unpack(frame, max_frame=_BYTES, max_items=_VALUES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 48_000_000 // _PART, f"{peak} bytes for a frame of {len(frame)}"


def test_a_frame_that_says_it_holds_too_much_is_refused_before_anything_of_it_is_read() -> None:
    # Its values are not there: had they been walked through, it would end before them and be no msgpack.
    with pytest.raises(BadFrame, match="too many values"):
        unpack(b"\xdd" + (_VALUES + 1).to_bytes(4, "big") + b"\xcc\x01" * (_VALUES // 2 + 1), max_items=_VALUES)


def test_the_values_of_a_frame_are_counted_over_all_its_containers() -> None:
    row = list(range(100))
    assert unpack(pack([row] * 100), max_items=10_101) == [row] * 100
    with pytest.raises(BadFrame, match="too many values"):
        unpack(pack([row] * 100), max_items=10_099)
    assert len(unpack(msgpack.packb([None] * (MAX_ITEMS - 1)))) == MAX_ITEMS - 1  # the list is one of them
