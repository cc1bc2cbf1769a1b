"""Who may connect over TCP: a ZAP handler that knows the run's keys, and whose key a frame came with."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

import zmq
from zmq.utils import z85

_ADDRESS: Final = "inproc://zeromq.zap.01"

log = logging.getLogger("stablehand.gateway")


class Gatekeeper:
    """Answers ZeroMQ's authentication requests of one context; each bot has the key that its last fence told.

    The key is the connection's user id, so that a run cannot speak in another bot's name.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._lock = threading.Lock()
        self._bot_of: dict[str, int] = {}  # key -> bot
        self._handler: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._handler.linger = 0
        self._handler.bind(_ADDRESS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gatekeeper", daemon=True)
        self._thread.start()

    def fence(self, bot_id: int, key: str, *, alive: bool) -> None:
        """The bot's key is this one from now on; without one, a bot that is fenced off has none."""
        if not key and alive:
            return
        with self._lock:
            kept = {known: bot for known, bot in self._bot_of.items() if bot != bot_id}
            if key:
                kept[key] = bot_id
            self._bot_of = kept

    def speaks_for(self, frame: zmq.Frame, bot_id: int) -> bool:
        """Whether this frame came over a connection with the key of that bot."""
        try:
            key = frame["User-Id"]
        except zmq.ZMQError:
            return False
        return self._bot_of.get(str(key)) == bot_id

    def close(self) -> None:
        """End the handler's thread."""
        self._stop.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._handler.poll(200):
                self._answer(self._handler.recv_multipart())
        self._handler.close()

    def _answer(self, frames: list[bytes]) -> None:
        """One request of RFC 27: version, request id, domain, address, identity, mechanism, credentials."""
        number = frames[1] if len(frames) > 1 else b""
        key = z85.encode(frames[6]).decode() if len(frames) > 6 and frames[5] == b"CURVE" else ""
        if key in self._bot_of:
            self._handler.send_multipart([b"1.0", number, b"200", b"OK", key.encode(), b""])
        else:
            log.warning("a connection with an unknown key was refused")
            # 300, not 400: a run whose fence is still to come connects again by itself, after a 400 it never would.
            self._handler.send_multipart([b"1.0", number, b"300", b"unknown key", b"", b""])
