"""The link of a gateway that runs by itself: the stable comes to it, from another host.

What a supervisor says arrives over one relay, which proves itself by the stable's key. It greets once a second; a
relay that is silent has gone, and the next greeting (of the same supervisor, or of any once the old is silent) takes
its place.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import zmq

from broker.gateway.security import HANDSHAKE, LINK
from protocol.codec import decode, encode
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_server
from protocol.messages import Hello, History, HistoryAck, HistoryRow, Message, Welcome
from protocol.process import own_identity
from protocol.spec import RunSpec
from protocol.wake import WakeFd

#: Seconds between two greetings, and after which a silent side has gone.
GREETING: Final = 1.0
SILENT: Final = 4.0
_KEPT: Final = 1_000
_AGAIN: Final = 2.0  # seconds after which history that nobody acknowledged is told anew

log = logging.getLogger("stablehand.link")


class ServedLink(threading.Thread):
    """As `protocol.link.BusLink`, for a socket that is bound. Raises zmq.ZMQError when the address is taken."""

    def __init__(
        self,
        context: zmq.Context[Any],
        spec: RunSpec,
        on_message: Callable[[Message], None],
        hello: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__(name="link", daemon=True)
        self._spec = spec
        self._on_message = on_message
        self._hello = hello
        self._identity = own_identity()
        self._wake = WakeFd()
        self._lock = threading.Lock()
        self._outbox: deque[Message] = deque(maxlen=_KEPT)
        self._rows: deque[HistoryRow] = deque(maxlen=_KEPT)
        self._row_seq = 0
        self._told_at = 0.0
        self._peer = b""
        self._stable = ""  # boot of the supervisor behind the peer
        self._heard: float | None = None
        self._since = time.monotonic()
        self._stop_at: float | None = None
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000))
        secure_server(self._socket, KeyPair(spec.gateway_key, spec.gateway_secret), LINK)
        self._socket.bind(spec.gateway_bind["link"])

    def send(self, message: Message) -> None:
        """Queue a message for the stable. Never blocks."""
        self._outbox.append(message)
        self._wake.set()

    def history(self, action: str, text: str, /, **data: Any) -> None:
        """Tell people a line; kept until the stable has it."""
        with self._lock:
            self._row_seq += 1
            self._rows.append(HistoryRow(seq=self._row_seq, at=time.time(), action=action, text=text, data=data))
            self._told_at = 0.0
        self._wake.set()

    def orphaned_for(self) -> float:
        """Seconds since the stable was last heard of; 0.0 while it is there."""
        heard = self._heard
        now = time.monotonic()
        if heard is None:
            return now - self._since
        return 0.0 if now - heard < SILENT else now - heard

    def stop(self, flush_timeout: float = 1.0) -> None:
        """Send what is queued, close the socket and end the thread."""
        self._stop_at = time.monotonic() + flush_timeout
        self._wake.set()
        if self.is_alive():
            self.join(flush_timeout + 1.0)

    # --- the thread itself -------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until stopped."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        while not self._finished():
            ready = dict(poller.poll(int(GREETING * 500)))
            if self._wake.fileno() in ready:
                self._wake.clear()
            if self._socket in ready:
                self._read()
            self._write()
        self._socket.close(linger=500)

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        return not self._outbox or not self._peer or time.monotonic() >= self._stop_at

    def _read(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message: Message = decode(frames[-1])
            except BadFrame as error:
                log.warning("frame of the stable dropped: %s", error)
                continue
            try:
                self._take(frames[0], message)
            except Exception:
                log.exception("a message of the stable could not be handled")

    def _take(self, route: bytes, message: Message) -> None:
        if isinstance(message, Welcome):
            self._greeted(route, message)
            return
        if route != self._peer:
            return  # of a relay that has been followed by another
        self._heard = time.monotonic()
        if isinstance(message, HistoryAck):
            with self._lock:
                while self._rows and self._rows[0].seq <= message.seq:
                    self._rows.popleft()
        else:
            self._on_message(message)

    def _greeted(self, route: bytes, message: Welcome) -> None:
        other = route != self._peer and self._stable not in ("", message.supervisor_boot)
        if other and self.orphaned_for() == 0.0:
            log.warning("a second stable greets with the same key; the first one is served while it is there")
            return
        news = (route, message.supervisor_boot) != (self._peer, self._stable)
        self._peer, self._stable = route, message.supervisor_boot
        self._heard = time.monotonic()
        self._try_send(self._new_hello())
        if news:
            self._told_at = 0.0
            self._on_message(message)

    def _write(self) -> None:
        if not self._peer or self.orphaned_for() > 0:
            return
        while self._outbox:
            message = self._outbox[0]
            if not self._try_send(message):
                return
            self._outbox.popleft()
        with self._lock:
            now = time.monotonic()
            rows = list(self._rows) if now - self._told_at >= _AGAIN else []
            self._told_at = now if rows else self._told_at
        if rows:
            self._try_send(History(token=self._spec.token, rows=rows))

    def _new_hello(self) -> Hello:
        return Hello(
            kind="gateway", bot_id=0, epoch=0, token=self._spec.token, name=self._spec.name, pid=os.getpid(),
            start_ticks=self._identity.start_ticks, boot_id=self._identity.boot_id, **self._hello(),
        )  # fmt: skip

    def _try_send(self, message: Message) -> bool:
        try:
            self._socket.send_multipart([self._peer, encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True
