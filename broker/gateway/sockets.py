"""The gateway's sockets: ROUTER for orders, XPUB for the market, ROUTER for halts; with keys where it is TCP."""

from __future__ import annotations

from typing import Any, Final

import zmq

from broker.gateway.security import CONTROL, HANDSHAKE, Gatekeeper
from protocol.keys import KeyPair, secure_server
from protocol.spec import RunSpec

_HIGH_WATER: Final = 20_000
_QUEUED: Final = 1_000  # frames of one peer that wait to be read: a run has one order or question on its way
#: Bytes of one frame. An order is small; the market hears subscriptions only; a halt is a line.
_LARGEST: Final = {"orders": 1024 * 1024, "market": 4096, "control": 64 * 1024}


class Sockets:
    """Bound at once. Raises zmq.ZMQError when an address is taken."""

    def __init__(self, context: zmq.Context[Any], spec: RunSpec) -> None:
        pair = KeyPair(spec.gateway_key, spec.gateway_secret) if spec.gateway_secret else None
        stable = spec.server_key if "link" in spec.gateway_bind else ""
        self.gatekeeper = Gatekeeper(context, spec.operator_key, stable) if pair else None
        self.orders: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.market: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        #: Where halts come in when no supervisor answers; None in an installation that names no place for it.
        self.control: zmq.Socket[bytes] | None = None
        if "control" in spec.gateway_bind:
            self.control = context.socket(zmq.ROUTER)
            secure_server(self.control, pair, CONTROL)
        made = {"orders": self.orders, "market": self.market, **({"control": self.control} if self.control else {})}
        for name, socket in made.items():
            if socket is not self.control:
                secure_server(socket, pair)
            for option, value in (
                (zmq.LINGER, 0),
                (zmq.BACKLOG, 4096),
                (zmq.SNDHWM, _HIGH_WATER),
                (zmq.RCVHWM, _QUEUED),
                (zmq.MAXMSGSIZE, _LARGEST[name]),
                (zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000)),
            ):
                socket.setsockopt(option, value)
        self.orders.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A run that connects anew is told of also while its broken connection is still held for a living one.
        self.market.setsockopt(zmq.XPUB_VERBOSE, 1)
        #: Where clients connect: a port that the system chose is filled in.
        self.addresses = {
            "orders": _bind(self.orders, spec.gateway_bind["orders"]),
            "market": _bind(self.market, spec.gateway_bind["market"]),
        }
        if self.control:
            self.addresses["control"] = _bind(self.control, spec.gateway_bind["control"])
        self.dropped = 0  # frames that nobody takes, or that are none

    def reply(self, identity: bytes, frame: bytes) -> None:
        """Send to one connection. A run that is gone, or reads nothing, asks again by id."""
        try:
            self.orders.send_multipart([identity, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.dropped += 1

    def speaks_for(self, frame: zmq.Frame, bot_id: int, *, reading: bool = False) -> bool:
        """Whether a frame's connection may speak in the name of that bot, or read in it."""
        return self.gatekeeper is None or self.gatekeeper.speaks_for(frame, bot_id, reading=reading)

    @property
    def refused_keys(self) -> int:
        """How many connections had a key that nobody made known."""
        return self.gatekeeper.refused if self.gatekeeper is not None else 0

    def close(self) -> None:
        """Close them; the last replies still have a moment to leave."""
        self.orders.close(linger=200)
        self.market.close()
        if self.control:
            self.control.close(linger=200)
        if self.gatekeeper:
            self.gatekeeper.close()


def _bind(socket: zmq.Socket[Any], address: str) -> str:
    socket.bind(address)
    return str(socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")
