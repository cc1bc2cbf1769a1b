"""A bot's side of the market: a subscription to the closed bars of one symbol and timeframe."""

from __future__ import annotations

from typing import Any, Final, Literal

import zmq

from protocol import topics
from protocol.codec import decode
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_client
from protocol.messages import Attached, Bar
from protocol.spec import RunSpec

#: Each run subscribes to a topic of its own, last. When the gateway sees it, the earlier ones are in force.
#: ZeroMQ repeats subscriptions after a reconnection in the order of their bytes: `~` comes after the others.
SYNC: Final = "~sync."
_HIGH_WATER: Final = 20_000


def sync_topic(token: str) -> bytes:
    """The topic that only the run `token` subscribes to."""
    return f"{SYNC}{token}".encode()


class MarketFeed:
    """The SUB socket of one run. Make it before the attach; read it on one thread (or give it to the link)."""

    def __init__(self, context: zmq.Context[Any], spec: RunSpec, symbol: str, timeframe: str) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.SUB)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.RCVHWM, _HIGH_WATER),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.RECONNECT_IVL, 20),
            (zmq.RECONNECT_IVL_MAX, 1000),
        ):
            self.socket.setsockopt(option, value)
        pair = KeyPair(spec.public_key, spec.secret_key) if spec.public_key else None
        secure_client(self.socket, pair, spec.gateway_key)
        self.bad_frames = 0
        self.socket.connect(spec.market)
        self.socket.subscribe(topics.bar(symbol, timeframe))
        self.socket.subscribe(sync_topic(spec.token))

    def read(self, limit: int = 1000) -> list[Bar]:
        """Bars that have arrived, oldest first, without waiting. Frames that are none are counted and dropped."""
        bars: list[Bar] = []
        while len(bars) < limit:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                message = decode(frames[-1])
            except BadFrame:
                self.bad_frames += 1
                continue
            if isinstance(message, Bar):
                bars.append(message)
        return bars

    def close(self) -> None:
        """Close the socket, on the thread that reads it."""
        self.socket.close()


class Follower:
    """Whether a published bar is the next one after an attach: pure, for the thread that decides."""

    __slots__ = ("boot", "seq")

    def __init__(self, attached: Attached) -> None:
        self.boot = attached.gateway_boot
        self.seq = attached.bar_seq

    def judge(self, bar: Bar) -> Literal["next", "old", "gap"]:
        """`next`: take it. `old`: it is in the history already. `gap`: bars are missing, or the gateway is
        another one: attach again. Only `next` moves the follower on.
        """
        if bar.gateway_boot != self.boot:
            return "gap"
        if bar.seq <= self.seq:
            return "old"
        if bar.seq != self.seq + 1:
            return "gap"
        self.seq = bar.seq
        return "next"
