"""Who may connect to a CURVE socket: ZeroMQ's ZAP, answered on the loop that owns the socket."""

from __future__ import annotations

from typing import Any, Final

import zmq
from zmq.utils import z85

_ADDRESS: Final = "inproc://zeromq.zap.01"


class Doorkeeper:
    """Lets in the public keys (Z85 text) in `allowed`. Make it before the socket that it guards is bound.

    https://rfc.zeromq.org/spec/27/
    """

    def __init__(self, context: zmq.Context[Any], allowed: set[str]) -> None:
        self._allowed = allowed
        self.socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ADDRESS)

    def answer(self) -> None:
        """Answer the requests that have come."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, mechanism, keys = frames[0], frames[1], frames[5], frames[6:]
            known = mechanism == b"CURVE" and bool(keys) and z85.encode(keys[0]).decode() in self._allowed
            verdict = [b"200", b"OK"] if known else [b"400", b"unknown key"]
            self.socket.send_multipart([version, number, *verdict, b"", b""])
