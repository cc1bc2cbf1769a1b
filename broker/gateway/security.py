"""Who may connect over TCP: a ZAP handler that knows the runs' keys, and whose key a frame came with."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

import zmq
from zmq.utils import z85

from protocol.seldom import Seldom
from protocol.wake import WakeFd

#: The domain of the control socket: nobody but the operator may come in there, and he nowhere else.
CONTROL: Final = "control"
#: The domain of the link of a gateway that runs by itself: only its stable comes in there.
LINK: Final = "link"
_ADDRESS: Final = "inproc://zeromq.zap.01"
#: Seconds that a handshake may take; then the client begins a new one. A run may come before its fence: its
#: handshake waits so long for the key, for a client that was refused never connects again.
HANDSHAKE: Final = 5.0
_ASKING_KEPT: Final = 1_000
_READERS_KEPT: Final = 1_000

log = logging.getLogger("stablehand.gateway")


class Gatekeeper:
    """Answers ZeroMQ's authentication requests of one context; each bot has the key that its last fence told.

    The key is the connection's user id, so that a run cannot speak in another bot's name.
    """

    def __init__(self, context: zmq.Context[Any], operator: str = "", stable: str = "") -> None:
        self._one_of = {CONTROL: operator, LINK: stable}  # domain -> the one key that opens it
        self._bot_of: dict[str, int] = {}  # key -> bot; replaced as a whole
        self._reader_of: dict[str, int] = {}  # the same for those who may only read
        self.refused = 0  # connections whose key did not become known in time
        self._may_say, self._may_warn = Seldom(), Seldom()
        self._asking: list[tuple[float, str, list[bytes]]] = []  # since, key, envelope and number of a request
        self._wake = WakeFd()
        self._handler: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._handler.linger = 0
        self._handler.bind(_ADDRESS)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gatekeeper", daemon=True)
        self._thread.start()

    def fence(self, bot_id: int, key: str, *, alive: bool) -> None:
        """The bot's key is this one from now on; without one, a bot that is fenced off has none."""
        if not key and alive:
            return
        kept = {known: bot for known, bot in self._bot_of.items() if bot != bot_id}
        if key:
            kept[key] = bot_id
        self._bot_of = kept
        self._wake.set()

    def admit(self, bot_id: int, key: str, *, alive: bool) -> None:
        """This key may read in the bot's name from now on, or no longer."""
        kept = {known: bot for known, bot in self._reader_of.items() if known != key}
        if key and alive:
            kept = dict([*kept.items(), (key, bot_id)][-_READERS_KEPT:])
        self._reader_of = kept
        self._wake.set()

    def speaks_for(self, frame: zmq.Frame, bot_id: int, *, reading: bool = False) -> bool:
        """Whether this frame came over a connection with the key of that bot (`reading`: or of a reader)."""
        try:
            key = str(frame["User-Id"])
        except zmq.ZMQError:
            return False
        return self._bot_of.get(key) == bot_id or (reading and self._reader_of.get(key) == bot_id)

    def close(self) -> None:
        """End the handler's thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(2.0)
        self._wake.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._handler, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll(1000))
            if self._handler in ready:
                self._take(self._handler.recv_multipart())
            self._wake.clear()
            self._look()
        self._handler.close()

    def _take(self, frames: list[bytes]) -> None:
        """One request of RFC 27: version, number, domain, address, identity, mechanism, credentials."""
        body = frames.index(b"") + 1
        request = frames[body:]
        if len(request) < 7 or request[5] != b"CURVE":
            return
        key = z85.encode(request[6]).decode()
        domain = request[2].decode("utf-8", "replace")
        if domain in self._one_of:
            admitted = bool(self._one_of[domain]) and key == self._one_of[domain]
            self.refused += not admitted
            code = [b"200", b"OK", b"operator", b""] if admitted else [b"400", b"unknown key", b"", b""]
            self._handler.send_multipart([*frames[:body], b"1.0", request[1], *code])
            return
        if not self._knows(key) and self._may_say():
            log.info("a connection waits for its key to become known")
        self._asking.append((time.monotonic(), key, [*frames[:body], b"1.0", request[1]]))
        del self._asking[:-_ASKING_KEPT]

    def _look(self) -> None:
        """Admit those whose key is known by now, and forget those whose handshake is over."""
        left = []
        now = time.monotonic()
        for since, key, head in self._asking:
            if self._knows(key):
                self._handler.send_multipart([*head, b"200", b"OK", key.encode(), b""])
            elif now - since < HANDSHAKE:
                left.append((since, key, head))
            else:
                self.refused += 1
                if self._may_warn():
                    log.warning("a connection's key did not become known (%d so far)", self.refused)
        self._asking = left

    def _knows(self, key: str) -> bool:
        return key in self._bot_of or key in self._reader_of
