"""A child's link to the supervisor: Hello, heartbeats, messages and history over the bus, on one thread.

The main loop never waits for it. It connects again by itself, says Hello on every connection, and sends
again what was not acknowledged.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.codec import decode, encode, encode_bounded, encode_heartbeat
from protocol.errors import BadFrame
from protocol.historyrows import HistoryRows, bare
from protocol.keys import KeyPair, secure_client
from protocol.messages import Command, Hello, History, HistoryAck, HistoryRow, Message, Unwelcome, Welcome
from protocol.process import own_identity
from protocol.progress import Progress
from protocol.spec import RunSpec
from protocol.wake import WakeFd

__all__ = ["HELLO_AGAIN", "BusLink", "Progress", "WakeFd"]

#: An Unwelcome with this reason means: I do not know this connection, say Hello (again). Any other is final.
HELLO_AGAIN: Final = "hello?"
_HELLO_RETRY: Final = 1.0  # seconds between Hellos that nobody answers
_HIGH_WATER: Final = 64
_EVENTS: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_UNKNOWN_KEY: Final = 400  # ZAP's status; the socket never connects again after it

log = logging.getLogger("stablehand.link")


class BusLink(threading.Thread):
    """The thread that owns the bus socket. Start it once, after the fork.

    `on_message` is called on this thread with every message of the supervisor except acknowledgements
    (Welcome included; an Unwelcome means: exit with code 76). It must be quick: hand over and return.
    `hello` gives the Hello's changing fields (`ready, paused, gateway_boot, code_hash`) at each connection.
    `tick` is called on this thread once in each heartbeat interval, with or without a supervisor.
    Times are seconds.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        spec: RunSpec,
        progress: Progress,
        on_message: Callable[[Message], None],
        hello: Callable[[], dict[str, Any]],
        tick: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name="link", daemon=True)
        self._context = context
        self._spec = spec
        self._progress = progress
        self._on_message = on_message
        self._hello = hello
        self._tick = tick
        self._tick_due = 0.0 if tick is not None else float("inf")
        self._identity = own_identity()
        self._wake = WakeFd()
        self._outbox: deque[Message] = deque()
        self._rows = HistoryRows()
        self._interval = spec.heartbeat_interval
        self._beat_seq = 0
        self._beat_due = 0.0
        self._hello_due = float("inf")
        self._connected = False
        self._welcomed = False
        self._again = False
        self._alone_since: float | None = time.monotonic()
        self._stop_at: float | None = None

    # --- for the main loop, and any other thread ---------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message; it leaves once a supervisor has welcomed this child. Never blocks."""
        self._outbox.append(message)
        self._wake.set()

    def history(self, action: str, text: str, /, **data: Any) -> None:
        """Add a row to the bot's history. Kept and sent again until the supervisor has committed it."""
        self._rows.add(action, text, data)
        self._wake.set()

    def greet_again(self) -> None:
        """Say Hello once more, as after a new connection: what the supervisor tells at a Hello is wanted anew."""
        self._again = True
        self._wake.set()

    def orphaned_for(self) -> float:
        """Seconds since this child was last connected to a supervisor that welcomed it; 0.0 while it is."""
        since = self._alone_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    @property
    def rows_lost(self) -> int:
        """History rows given up because the supervisor acknowledged none of the last 10,000."""
        return self._rows.lost

    def stop(self, flush_timeout: float = 1.0) -> None:
        """Send what is queued, for at most `flush_timeout` seconds, close the sockets and end the thread."""
        self._stop_at = time.monotonic() + flush_timeout
        self._wake.set()
        if self.is_alive():
            self.join(flush_timeout + 1.0)

    # --- the thread itself -------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until stopped."""
        with self._sockets() as (bus, monitor, poller):
            while not self._finished():
                ready: dict[Any, int] = dict(poller.poll(math.ceil(self._timeout() * 1000)))
                if self._wake.fileno() in ready:
                    self._wake.clear()
                if monitor in ready:
                    self._read_monitor(monitor)
                if bus in ready:
                    self._read_bus(bus)
                self._write(bus)
                if self._tick is not None and time.monotonic() >= self._tick_due:
                    self._tick_due = time.monotonic() + self._interval
                    _guarded(self._tick)

    @contextmanager
    def _sockets(self) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes], zmq.Poller]]:
        bus = self._context.socket(zmq.DEALER)
        bus.sndhwm = bus.rcvhwm = _HIGH_WATER
        bus.immediate = True  # what nobody receives stays in our own queue, where old heartbeats do not pile up
        bus.reconnect_ivl, bus.reconnect_ivl_max = 20, 500
        secure_client(bus, KeyPair(self._spec.public_key, self._spec.secret_key), self._spec.server_key)
        monitor = bus.get_monitor_socket(_EVENTS)
        bus.connect(self._spec.bus)
        poller = zmq.Poller()
        for source in (self._wake.fileno(), monitor, bus):
            poller.register(source, zmq.POLLIN)
        try:
            yield bus, monitor, poller
        finally:
            bus.disable_monitor()
            left = (self._stop_at or 0.0) - time.monotonic()
            bus.close(linger=int(1000 * min(max(left, 0.1), 2.0)))

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        flushed = not self._outbox and not self._rows.unsent
        return flushed or time.monotonic() >= self._stop_at

    def _timeout(self) -> float:
        """Seconds until something is due."""
        due = self._beat_due if self._welcomed else self._hello_due
        if self._welcomed and (self._outbox or self._rows.unsent):
            due = time.monotonic() + 0.01  # the pipe is full: try again soon
        if self._stop_at is not None:
            due = min(due, self._stop_at)
        due = min(due, self._tick_due)
        return min(max(0.0, due - time.monotonic()), 60.0)

    def _read_monitor(self, monitor: zmq.Socket[bytes]) -> None:
        while monitor.poll(0):
            told = parse_monitor_message(monitor.recv_multipart())
            event = told["event"]
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                if told["value"] == _UNKNOWN_KEY:  # what an unknown token is where there are no keys
                    self._take(Unwelcome(reason="the supervisor does not know this run's key"))
                continue
            self._welcomed = False
            self._connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._hello_due = time.monotonic() if self._connected else float("inf")
            if self._alone_since is None:
                self._alone_since = time.monotonic()

    def _read_bus(self, bus: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frames = bus.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = decode(frames[-1])
            except BadFrame as error:
                log.warning("frame of the supervisor dropped: %s", error)
                continue
            self._take(message)

    def _take(self, message: Message) -> None:
        now = time.monotonic()
        if isinstance(message, Command) and message.verb == "abort":
            os.abort()  # holds Python's lock, so that no stack changes while faulthandler writes them all
        if isinstance(message, HistoryAck):
            self._rows.acknowledge(message.seq)
            return
        if isinstance(message, Unwelcome) and message.reason == HELLO_AGAIN:
            self._welcomed = False
            # A Hello under way crosses with this question, so that one is not answered by a second Hello.
            self._hello_due = max(now, self._hello_due - _HELLO_RETRY + 0.1)
            return
        if isinstance(message, Unwelcome):
            self._welcomed = False
            self._hello_due = float("inf")
        elif isinstance(message, Welcome):
            if not self._connected:
                return  # the last word of a connection that is gone
            self._interval = message.heartbeat_interval
            self._welcomed = True
            self._alone_since = None
            # Spread the first beats: a hundred bots that start at once must not beat at once for ever.
            self._beat_due = now + self._interval * random.random()
            self._rows.again()
        _guarded(lambda: self._on_message(message))

    def _write(self, bus: zmq.Socket[bytes]) -> None:
        now = time.monotonic()
        if self._again and self._welcomed:
            self._again, self._welcomed, self._hello_due = False, False, now
        if not self._welcomed:
            if now >= self._hello_due:
                sent = self._try_send(bus, encode(self._new_hello()))
                self._hello_due = now + (_HELLO_RETRY if sent else 0.01)
            return
        if now >= self._beat_due:
            self._beat_seq += 1
            lag = max(0.0, now - self._beat_due)
            self._try_send(bus, encode_heartbeat(self._progress.beat(self._beat_seq, lag)))
            self._beat_due = max(self._beat_due + self._interval, now + self._interval / 2)
            if self._tick is not None:
                self._tick_due = min(self._tick_due, now)  # with the beat: a cold wake-up costs more than either
        # History first: a Bye must not overtake the row that tells why.
        while self._rows.unsent:
            frame, last = self._history_frame(self._rows.batch())
            if not self._try_send(bus, frame):
                return
            self._rows.sent(last)
        while self._outbox:
            try:
                frame = encode_bounded(self._outbox[0])
            except Exception:  # the thread that beats must not end for it
                log.exception("a %s cannot be sent, and is dropped", type(self._outbox.popleft()).__name__)
                continue
            if not self._try_send(bus, frame):
                return
            self._outbox.popleft()

    def _history_frame(self, rows: list[HistoryRow]) -> tuple[bytes, int]:
        """A frame of as many of these rows as can be sent in one, and the number of the last."""
        while True:
            try:
                return encode_bounded(History(token=self._spec.token, rows=rows)), rows[-1].seq
            except Exception as error:  # whatever a strategy has put there: the thread that beats must not end for it
                if len(rows) == 1:
                    log.warning("row %d of the history cannot be sent as it is: %s", rows[0].seq, error)
                rows = rows[: len(rows) // 2] or [bare(rows[0])]

    def _new_hello(self) -> Hello:
        spec = self._spec
        return Hello(
            kind=spec.kind,
            bot_id=spec.bot_id,
            epoch=spec.epoch,
            token=spec.token,
            name=spec.name,
            pid=os.getpid(),
            start_ticks=self._identity.start_ticks,
            boot_id=self._identity.boot_id,
            history_from=self._rows.first,
            **self._hello(),
        )

    def _try_send(self, bus: zmq.Socket[bytes], frame: bytes) -> bool:
        try:
            bus.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True


def _guarded(callback: Callable[[], object]) -> None:
    """A callback that raises must not end the thread that beats."""
    try:
        callback()
    except Exception:
        log.exception("a callback of the link failed")
