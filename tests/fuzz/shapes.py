"""Strategies: messages of every kind, frames that were damaged, and frames that are none."""

from __future__ import annotations

import types
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgpack
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from protocol.codec import encode
from protocol.halts import HaltState
from protocol.messages import AnyMessage, Message
from tests.scale import FUZZ, FUZZ_PROCESS, SOAK

#: The same examples in every run of the suite; new ones in each soak.
_COMMON: Final[dict[str, Any]] = {
    "deadline": None, "database": None, "derandomize": not SOAK,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
}  # fmt: skip
many = settings(max_examples=FUZZ, **_COMMON)
some = settings(max_examples=FUZZ_PROCESS, **_COMMON)

KINDS: Final[tuple[type[Message], ...]] = get_args(get_args(AnyMessage)[0])

_numbers = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 20)
_floats = st.floats(allow_nan=False)
_texts = st.text(max_size=30) | st.sampled_from(["EURUSD", "H1", "", "bot1", "open", "\0"])
_scalars = st.none() | st.booleans() | _numbers | _floats | _texts | st.binary(max_size=30)
values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
maps = st.dictionaries(st.text(max_size=8), values, max_size=4)


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation, as the messages use them."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of(*(of(one) for one in inner))
    if origin is list:
        return st.lists(of(inner[0]), max_size=3)
    if origin is dict:
        return maps
    if kind is Any:
        return values
    if isinstance(kind, type) and issubclass(kind, Message | HaltState):
        return model(kind)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: _numbers, float: _floats, str: _texts, bool: st.booleans(), bytes: st.binary(max_size=60),
        type(None): st.none(),
    }  # fmt: skip
    return plain[kind]


def model(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a message's class."""
    fields = {name: of(field.annotation) for name, field in kind.model_fields.items()}
    return st.builds(kind, **fields)


messages = st.one_of(*(model(kind) for kind in KINDS))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A frame of a message of which some bytes were changed, cut off, doubled or put in."""
    frame = bytearray(encode(draw(messages)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(frame) - 1)))
        match draw(st.sampled_from(("change", "cut", "double", "put"))):
            case "change" if frame:
                frame[at] = draw(st.integers(0, 255))
            case "cut":
                del frame[at:]
            case "double":
                frame += frame[at:]
            case _:
                frame[at:at] = draw(st.binary(max_size=8))
    return bytes(frame)


def untyped() -> st.SearchStrategy[bytes]:
    """msgpack of any value, with timestamps and types of one's own; a map may say that it is a message."""
    odd = st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    odd |= st.builds(msgpack.Timestamp, st.integers(0, 2**32), st.integers(0, 999_999_999))
    named = st.sampled_from([str(kind.model_fields["t"].default) for kind in KINDS])
    claims = st.builds(lambda t, rest: {**rest, "t": t}, named, st.dictionaries(_texts, values, max_size=5))
    return st.builds(msgpack.packb, values | odd | claims | st.lists(odd, max_size=2))


frames = st.binary(max_size=200) | damaged() | untyped()
