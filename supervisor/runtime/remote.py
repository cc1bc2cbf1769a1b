"""The control socket and the event stream for other machines: TCP with CURVE, beside the local ones."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Final

import zmq

from protocol.codec import MAX_REQUEST
from protocol.errors import CONFLICT, StablehandError
from protocol.keys import KeyPair, secure_server
from supervisor.runtime.sockets import Pump, server_socket
from supervisor.runtime.zap import CONTROL

_ADDRESS: Final = re.compile(r"tcp://(.+):(\d+)")
_TRIES: Final = 500
_TRY_SECONDS: Final = 0.02

log = logging.getLogger("stablehand.remote")


class Remote:
    """Two sockets at `control_bind`: requests at its port, events at the next one."""

    def __init__(self, context: zmq.Context[Any], address: str, keys: KeyPair) -> None:
        found = _ADDRESS.fullmatch(address)
        assert found is not None  # the configuration's pattern says so
        self._context, self._keys = context, keys
        self.control = address
        self.events = f"tcp://{found[1]}:{int(found[2]) + 1}"
        self.server_key = keys.public
        self.router = self._bind(zmq.ROUTER, self.control)
        self._publisher = self._bind(zmq.XPUB, self.events)
        self._pump: Pump | None = None
        self._failed: Callable[[Exception], None] = lambda error: None
        self._closed = False

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to publish."""
        self._failed = failed
        self._pump = Pump(self._publisher, lambda frames: None, failed)

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Send an event to whoever subscribed."""
        if self._pump is not None:
            self._pump.send([topic, frame])

    def cut_subscribers(self) -> None:
        """End every subscription: those who still may come back by themselves, a revoked client does not."""
        if self._pump is not None:
            self._pump.close()
            self._pump = None
            self._come_back(_TRIES)

    def _come_back(self, tries: int) -> None:
        """Bind the events anew: ZeroMQ lets go of a port a moment after the socket's end."""
        if self._closed:
            return
        try:
            self._publisher = self._bind(zmq.XPUB, self.events)
        except StablehandError as error:
            if tries:
                asyncio.get_running_loop().call_later(_TRY_SECONDS, self._come_back, tries - 1)
            else:
                log.error("events for other machines are off: %s", error.line())
            return
        self.start(self._failed)

    def close(self) -> None:
        """Close the events; the requests' socket is its owner's."""
        self._closed = True
        if self._pump is not None:
            self._pump.close()
        elif not self._publisher.closed:
            self._publisher.close(linger=0)

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        made = server_socket(self._context, kind, MAX_REQUEST)
        made.setsockopt(zmq.IPV6, 1 if "[" in address else 0)
        secure_server(made, self._keys, CONTROL)
        try:
            made.bind(address)
        except zmq.ZMQError as error:
            made.close(linger=0)
            hint = "it takes two ports: the one named, and the next for events"
            text = f"control_bind: cannot bind {address}: {error.strerror}"
            raise StablehandError(text, code=CONFLICT, hint=hint) from None
        return made
