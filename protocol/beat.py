"""For programs: says over Stablehand's bus that the program moves.

Under `heartbeat = "bus"` a program that is silent for too long is called hung and is replaced. Say it where the
program's own work comes by, not in a thread beside it, which would beat on while the work stands still:

    with Beat.from_environment() as beat:
        while work():
            beat.send()

This file needs pyzmq and msgpack, and nothing else of Stablehand: it may be copied into a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgpack
import zmq

_WIRE: Final = 1
_WATCHED: Final = 9  # the phase of one that must be heard
_SAY_IT_AGAIN: Final = "hello?"  # any other reason is a refusal
_RETRY: Final = 1.0  # seconds between two introductions that nobody answers
_REFUSED: Final = 10.0  # and after a refusal
_CROSSED: Final = 0.25  # an introduction this young crossed with the question for it
_REOPEN: Final = 10.0  # seconds without a connection, after which a new one is made


class Beat:
    """A program's own connection to the bus. For one thread, and not to be carried over a fork.

    `send` neither waits nor raises: without a supervisor nothing is said, and when one is back the program
    introduces itself again.
    """

    def __init__(
        self, bus: str, token: str, *, server_key: str = "", public_key: str = "", secret_key: str = ""
    ) -> None:
        """As the file says that STABLEHAND_BUS names; an empty `bus` makes one that says nothing to nobody."""
        self.welcomed = False  # whether a supervisor has answered the introduction
        self.refused = ""  # why one did not take it
        self._bus = bus
        self._token = token
        self._keys = server_key, public_key, secret_key
        self._context: zmq.Context[Any] | None = zmq.Context(io_threads=1) if bus else None
        self._socket: zmq.Socket[bytes] | None = None
        self._interval = 1.0
        self._seq = self._cycles = 0
        self._introduced_at = -_REFUSED
        self._introduce_at = self._beat_at = 0.0
        self._failing_since: float | None = None
        self._open()

    @classmethod
    def from_environment(cls) -> Beat:
        """The connection of this program's run; one that says nothing where nobody supervises it.

        Raises OSError or ValueError when the file that STABLEHAND_BUS names cannot be read.
        """
        path = os.environ.get("STABLEHAND_BUS")
        if not path:
            return cls("", "")
        told = json.loads(Path(path).read_text("ascii"))
        if not isinstance(told, dict) or not {"bus", "token"} <= told.keys():
            raise ValueError(f"{path} does not say where the bus is")
        keys = {key: str(told.get(key, "")) for key in ("server_key", "public_key", "secret_key")}
        return cls(str(told["bus"]), str(told["token"]), **keys)

    def send(self) -> None:
        """Say that the program moves. Call it as often as you like: what is more than needed is not sent."""
        self._cycles += 1
        if self._socket is None:
            return
        self._listen()
        now = time.monotonic()
        if not self.welcomed and now >= self._introduce_at:
            voice = {"t": "voice", "wire": _WIRE, "token": self._token, "pid": os.getpid()}
            if self._say(voice, now):
                self._introduced_at, self._introduce_at = now, now + _RETRY
                self._beat_at = now
                self.refused = ""
        if self.refused or now < self._beat_at:
            return
        # Sent behind the introduction without waiting for an answer: they arrive in this order.
        if self._say([self._seq + 1, _WATCHED, self._cycles, 0, 0, 0, 0, 0, 0], now):
            self._seq += 1
            self._beat_at = now + self._interval / 4

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None

    def __enter__(self) -> Beat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        if self._context is None:
            return
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger, socket.sndhwm, socket.rcvhwm = 0, 16, 16
        socket.immediate = True  # what nobody receives is not kept: an old heartbeat says nothing
        socket.reconnect_ivl, socket.reconnect_ivl_max = 20, 500
        server, public, secret = (key.encode() for key in self._keys)
        if server:
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = server, public, secret
        socket.connect(self._bus)
        if self._socket is not None:
            self._socket.close()
        self._socket = socket

    def _listen(self) -> None:
        assert self._socket is not None
        while True:
            try:
                frame = self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.ZMQError:  # nothing more has come, or nothing can
                return
            try:
                answer = msgpack.unpackb(frame)
                self._answered(answer, time.monotonic())
            except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
                continue  # not for us, or not msgpack

    def _answered(self, answer: dict[str, Any], now: float) -> None:
        if answer["t"] == "welcome":
            self._interval = float(answer["heartbeat_interval"])
            self.welcomed, self.refused = True, ""
        elif answer["t"] == "unwelcome":
            reason = str(answer["reason"])
            self.welcomed = False
            if reason == _SAY_IT_AGAIN:
                self._introduce_at = max(now, self._introduced_at + _CROSSED)
            else:
                self.refused, self._introduce_at = reason, now + _REFUSED

    def _say(self, value: Any, now: float) -> bool:
        assert self._socket is not None
        try:
            self._socket.send(msgpack.packb(value), zmq.NOBLOCK)
        except zmq.ZMQError:
            if self._failing_since is None:
                self._failing_since = now
            elif now - self._failing_since > _REOPEN:  # a connection that was refused does not come back by itself
                self._failing_since = now
                with contextlib.suppress(zmq.ZMQError):  # no descriptor is left: with the old one, later again
                    self._open()
            return False
        self._failing_since = None
        return True
