"""The control socket and the event stream for other machines: TCP with CURVE, beside the local ones."""

from __future__ import annotations

import re
from typing import Any, Final

import zmq

from protocol.codec import MAX_REQUEST
from protocol.errors import CONFLICT, StablehandError
from protocol.keys import KeyPair, secure_server
from supervisor.runtime.sockets import server_socket
from supervisor.runtime.zap import CONTROL

_ADDRESS: Final = re.compile(r"tcp://(.+):(\d+)")


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
        self.publisher = self.bind_events()

    def bind_events(self) -> zmq.Socket[bytes]:
        """The socket of events. Raises StablehandError(conflict)."""
        return self._bind(zmq.XPUB, self.events)

    def close(self) -> None:
        """Close what nobody has taken over yet."""
        for socket in (self.router, self.publisher):
            socket.close(linger=0)

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
