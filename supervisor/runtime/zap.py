"""Who may connect over TCP: the keys that this installation gave out (ZMQ's ZAP protocol, RFC 27)."""

from __future__ import annotations

from typing import Any, Final

import zmq
from zmq.utils import z85

from supervisor.runtime.sockets import Pump

_VERSION: Final = b"1.0"


class KeyDoor:
    """Answers ZAP requests of all CURVE sockets of a context from a set of known public keys."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._known: dict[str, str] = {}  # public key -> whose it is
        self.refused = 0
        socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        socket.bind("inproc://zeromq.zap.01")
        self._pump = Pump(socket, self._answer, self._failed)

    def admit(self, public_key: str, user: str) -> None:
        """Let the holder of this key in."""
        if public_key:
            self._known[public_key] = user

    def forget(self, public_key: str) -> None:
        """Let it in no longer (connections that stand are not cut)."""
        self._known.pop(public_key, None)

    def close(self) -> None:
        """Close the door's socket."""
        self._pump.close()

    def _answer(self, frames: list[bytes]) -> None:
        version, request_id, _domain, _address, _identity, mechanism = frames[:6]
        user = None
        if version == _VERSION and mechanism == b"CURVE" and len(frames) == 7 and len(frames[6]) == 32:
            user = self._known.get(z85.encode(frames[6]).decode())
        if user is None:
            self.refused += 1
            self._pump.send([_VERSION, request_id, b"400", b"unknown key", b"", b""])
        else:
            self._pump.send([_VERSION, request_id, b"200", b"OK", user.encode(), b""])

    def _failed(self, error: Exception) -> None:
        # A REP socket must answer each request before it reads the next one.
        self.refused += 1
        self._pump.send([_VERSION, b"", b"500", type(error).__name__.encode(), b"", b""])
