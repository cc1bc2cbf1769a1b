"""One question and its answer on the control socket: the frames, and what the connection itself tells.

A socket of ZeroMQ connects again and again without a word. A client that asks a supervisor that is not there
wants to know at once, so the socket's monitor is heard beside the answer.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack
import zmq

from protocol.errors import DENIED, INTERNAL, INVALID, StablehandError, Unreachable

VERSION: Final = 1
_GRACE: Final = 0.05  # how long a refused connection may still come about
_AUTH: Final = zmq.EVENT_HANDSHAKE_FAILED_AUTH
#: The monitor's events that a client hears.
WATCHED: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_DISCONNECTED | _AUTH


class CommandFailed(StablehandError):
    """The supervisor answered, and the answer is no; `code`, `message` and `hint` are its words."""


class Connection:
    """What the socket's monitor has told: whether somebody is at the other end."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.reached = False
        self._refused_at: float | None = None

    def hear(self, frames: Sequence[bytes]) -> None:
        """Take one monitor event. Raises Unreachable or StablehandError(denied) when there is no use in waiting."""
        event, _value = struct.unpack("=HI", frames[0])
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.reached = True
        elif event == _AUTH:
            raise StablehandError("the supervisor does not know this key", code=DENIED)
        elif event == zmq.EVENT_DISCONNECTED and self.reached:
            raise Unreachable("the supervisor went away before it answered", hint="it may still have done it")
        elif event == zmq.EVENT_CONNECT_RETRIED and not self.reached:
            now = time.monotonic()
            if self._refused_at is not None and now - self._refused_at >= _GRACE:
                raise self.nobody()
            self._refused_at = self._refused_at or now

    def nobody(self) -> Unreachable:
        """Nobody listens there."""
        return Unreachable(f"no supervisor answers at {self.where}", hint="start one with: stablehand up")

    def silence(self, limit: float) -> Unreachable:
        """No answer came in `limit` seconds."""
        if not self.reached:
            return self.nobody()
        return Unreachable(f"the supervisor did not answer within {limit:g} s", hint="it may still do it")


class Cursor:
    """Where a follower of the journal stands: tells a new event from a repeated one and from a gap."""

    def __init__(self, since: int, bot: str | None) -> None:
        self.last = since
        self.bot = bot

    def take(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events among these that are new and wanted; moves on."""
        fresh = [event for event in events if event["seq"] > self.last]
        if fresh:
            self.last = max(event["seq"] for event in fresh)
        return [event for event in fresh if self.bot is None or event["bot"] == self.bot]

    def lost(self, page: Mapping[str, Any]) -> list[dict[str, Any]]:
        """An event of type `gap` where the journal no longer keeps what comes next, as an answer of `events` tells;
        moves on behind it. Who begins at 0 asks for what is kept, and misses nothing."""
        first = int(page["first"])
        if not 0 < self.last < first - 1:
            return []
        text = f"events {self.last + 1} to {first - 1} are older than the journal keeps"
        gap = {"seq": first - 1, "at": time.time(), "type": "gap", "bot": None, "text": text,
               "data": {"after": self.last, "first": first}, "cause_id": ""}  # fmt: skip
        self.last = first - 1
        return [gap]

    def gap_before(self, event: Mapping[str, Any]) -> bool:
        """Whether numbers are missing between the last event and this one."""
        return int(event["seq"]) > self.last + 1


def encode_request(cmd: str, args: Mapping[str, Any]) -> tuple[str, bytes]:
    """A request and its id. The id is random: the supervisor answers a repeated one from memory.

    Raises StablehandError(invalid) for an argument that msgpack does not know, as a number beyond 64 bits.
    """
    name = os.urandom(8).hex()
    try:
        return name, bytes(msgpack.packb({"v": VERSION, "id": name, "cmd": cmd, "args": dict(args)}))
    except (OverflowError, TypeError, ValueError) as error:
        raise StablehandError(f"{cmd}: an argument cannot be sent: {error}", code=INVALID) from None


def decode_reply(frame: bytes, name: str) -> tuple[bool, Any]:
    """(whether it answers request `name`, its result). Raises CommandFailed for an answer that says no."""
    try:
        reply = msgpack.unpackb(frame, raw=False, strict_map_key=False)
        # A frame that could not be read as a request is answered without an id.
        if reply.get("id") not in (name, None, ""):
            return False, None
        if reply["ok"]:
            return True, reply.get("result")
        error = reply["error"]
        message, hint, code = str(error["message"]), error.get("hint"), str(error.get("code", INTERNAL))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise StablehandError(f"the answer cannot be read: {type(problem).__name__}: {problem}") from None
    raise CommandFailed(message, hint=hint, code=code)
