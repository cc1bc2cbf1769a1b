"""Who may connect over TCP: the keys that this installation gave out (ZMQ's ZAP protocol, RFC 27)."""

from __future__ import annotations

import logging
from typing import Any, Final

import zmq
from zmq.utils import z85

from protocol.seldom import Seldom
from supervisor.runtime.sockets import Pump

#: ZAP domains. A run's key opens the bus and nothing else: a bot cannot give orders to the stable.
BUS: Final = "bus"
CONTROL: Final = "control"  # requests and events
_VERSION: Final = b"1.0"
#: What a client may do; its user id begins with it: `operator`, `viewer:7`.
OPERATOR: Final = "operator"
VIEWER: Final = "viewer"

log = logging.getLogger("stablehand.door")


def run_user(bot_id: int) -> str:
    """The user id of a run's key. It is that of its bot: the key of an older run is forgotten when that ends."""
    return f"run of bot {bot_id}"


class KeyDoor:
    """Answers ZAP requests of all CURVE sockets of a context from a set of known public keys."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._known: dict[str, tuple[str, str]] = {}  # public key -> whose it is, which domain it opens
        self.refused = 0
        self._may_warn = Seldom()  # a flood of strangers must not flood the log
        socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        socket.bind("inproc://zeromq.zap.01")
        self._pump = Pump(socket, self._answer, self._failed)

    def admit(self, public_key: str, user: str, domain: str) -> None:
        """Let the holder of this key in, at the sockets of that domain."""
        if public_key:
            self._known[public_key] = user, domain

    def role_of(self, user: str) -> str | None:
        """What the holder of a key that was let in at the control sockets may do now; None: it was revoked."""
        known = any(one == user and domain == CONTROL for one, domain in self._known.values())
        return user.partition(":")[0] if known else None

    def forget(self, public_key: str) -> None:
        """Let it in no longer (connections that stand are not cut)."""
        self._known.pop(public_key, None)

    def close(self) -> None:
        """Close the door's socket."""
        self._pump.close()

    def _answer(self, frames: list[bytes]) -> None:
        version, request_id, domain, _address, _identity, mechanism = frames[:6]
        user, opens = "", ""
        if version == _VERSION and mechanism == b"CURVE" and len(frames) == 7 and len(frames[6]) == 32:
            user, opens = self._known.get(z85.encode(frames[6]).decode(), ("", ""))
        if opens and opens == domain.decode("utf-8", "replace"):
            self._pump.send([_VERSION, request_id, b"200", b"OK", user.encode(), b""])
            return
        self._pump.send([_VERSION, request_id, b"400", b"unknown key", b"", b""])
        self.refused += 1
        if self._may_warn():
            who = f"the key of {user}" if user else "an unknown key"
            log.warning("%s was refused (%d refusals so far)", who, self.refused)

    def _failed(self, error: Exception) -> None:
        # A REP socket must answer each request before it reads the next one.
        self.refused += 1
        self._pump.send([_VERSION, b"", b"500", type(error).__name__.encode(), b"", b""])
