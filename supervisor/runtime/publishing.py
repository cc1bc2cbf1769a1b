"""A stream of events whose subscribers can be cut off: ZeroMQ asks nobody for his key again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import zmq

from protocol.errors import StablehandError
from supervisor.runtime.sockets import Pump

_TRIES: Final = 500
_TRY_SECONDS: Final = 0.02

log = logging.getLogger("stablehand.events")


class Publisher:
    """Owns one XPUB."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        bind: Callable[[], zmq.Socket[bytes]] | None,
        failed: Callable[[Exception], None],
    ) -> None:
        """`bind` makes the same socket anew, or raises StablehandError; None where subscribers have shown no key."""
        self._bind = bind
        self._failed = failed
        self._pump: Pump | None = None
        self._closed = False
        self._start(socket)

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send an event to whoever subscribed."""
        if self._pump is not None:
            self._pump.send([topic, frame])

    def cut_subscribers(self) -> None:
        """End every subscription: those who still may come back by themselves, a revoked client does not."""
        if self._bind is not None and self._pump is not None:
            self._pump.close()
            self._pump = None
            self._come_back(self._bind, _TRIES)

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        if self._pump is not None:
            self._pump.close()

    def _start(self, socket: zmq.Socket[bytes]) -> None:
        self._pump = Pump(socket, lambda frames: None, self._failed)  # subscriptions are only read away

    def _come_back(self, bind: Callable[[], zmq.Socket[bytes]], tries: int) -> None:
        """Bind anew: ZeroMQ lets go of a port a moment after the socket's end."""
        if self._closed:
            return
        try:
            self._start(bind())
        except StablehandError as error:
            if tries:
                asyncio.get_running_loop().call_later(_TRY_SECONDS, self._come_back, bind, tries - 1)
            else:
                log.error("events are off: %s", error.line())
