"""A bot's side of the market: a subscription to the closed bars of one symbol and timeframe."""

from __future__ import annotations

import hashlib
import math
import struct
import time
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import zmq

from protocol import topics
from protocol.codec import decode, unpack
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_client
from protocol.messages import Attached, Bar
from protocol.spec import RunSpec

#: Each run subscribes to a topic of its own, last. When the gateway sees it, the earlier ones are in force.
#: ZeroMQ repeats subscriptions after a reconnection in the order of their bytes: `~` comes after the others.
SYNC: Final = "~sync."
_SYNC: Final = SYNC.encode()
_HIGH_WATER: Final = 20_000
_SIGN_OF_LIFE: Final = 3_000  # milliseconds
_SPREAD: Final = struct.Struct("<f")
_WITH_SPREAD: Final = 2  # frames after the topic: spread, bar; older gateways send no spread


class Arrival(NamedTuple):
    """A bar as it came: its frame, when it was received (monotonic), over how many seconds analyses are spread.

    With `greeting` it is no bar, but what a gateway says once to each who has subscribed (again).
    """

    frame: bytes
    received: float
    spread: float = 0.0
    greeting: bool = False


@dataclass(frozen=True, slots=True)
class Greeting:
    """Which gateway process publishes, and the number of the last bar of each topic before the subscription."""

    boot: str
    numbers: dict[tuple[str, str], int]


def spread_frame(seconds: float) -> bytes:
    """The spread as a frame of its own, so that the thread that receives need not decode the bar."""
    return _SPREAD.pack(seconds)


def sync_name(token: str) -> str:
    """What stands for the run `token` where others may listen: the token itself is a secret."""
    return hashlib.blake2b(b"sync", key=token.encode()[:64], digest_size=16).hexdigest()


def sync_topic(name: str) -> bytes:
    """The topic that only the run of that `sync_name` subscribes to."""
    return f"{SYNC}{name}".encode()


class MarketFeed:
    """The SUB socket of one run. Make it before the attach; read it on one thread."""

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
        if spec.market.startswith("tcp"):
            # A host that lost its power closes no connection: without a sign of life it is made anew.
            self.socket.setsockopt(zmq.HEARTBEAT_IVL, _SIGN_OF_LIFE)
            self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2 * _SIGN_OF_LIFE)
        pair = KeyPair(spec.public_key, spec.secret_key) if spec.public_key else None
        secure_client(self.socket, pair, spec.gateway_key)
        self.bad_frames = 0
        self._wait = -1  # ZeroMQ's milliseconds, as the socket has it
        self.socket.connect(spec.market)
        self.socket.subscribe(topics.bar(symbol, timeframe))
        self.socket.subscribe(sync_topic(sync_name(spec.token)))

    def next(self, seconds: float | None = None) -> Arrival | None:
        """The next that arrives, stamped and not decoded; waits for it, for so long at most (None: for ever).

        None when nothing came. Raises zmq.ContextTerminated. When a candle closes this is what each of hundreds of
        bots does, on processors that have their caches full of others: no call that is not needed.
        """
        socket = self.socket
        wait = -1 if seconds is None else math.ceil(seconds * 1000)
        if wait != self._wait:
            socket.setsockopt(zmq.RCVTIMEO, wait)
            self._wait = wait
        try:
            topic = socket.recv()
        except zmq.Again:
            return None
        now = time.monotonic()  # the frames of a message come together
        frames = []
        while socket.getsockopt(zmq.RCVMORE):
            frames.append(socket.recv())
        last = frames[-1] if frames else b""
        if topic.startswith(_SYNC):
            return Arrival(last, now, greeting=True)
        told = len(frames) == _WITH_SPREAD and len(frames[0]) == _SPREAD.size
        return Arrival(last, now, _SPREAD.unpack(frames[0])[0] if told else 0.0)

    def receive(self, limit: int = 1000) -> list[Arrival]:
        """What has arrived, oldest first, without waiting."""
        found: list[Arrival] = []
        while len(found) < limit and (arrival := self.next(0.0)) is not None:
            found.append(arrival)
        return found

    def decoded(self, arrival: Arrival) -> Bar | None:
        """The bar; None for a frame that is none, which is counted. For any thread."""
        try:
            message = decode(arrival.frame)
        except BadFrame:
            self.bad_frames += 1
            return None
        return message if isinstance(message, Bar) else None

    def greeting(self, arrival: Arrival) -> Greeting | None:
        """What the gateway said; None for a frame that is none, which is counted. For any thread."""
        try:
            told = unpack(arrival.frame)
            numbers = {(str(symbol), str(timeframe)): int(number) for symbol, timeframe, number in told["numbers"]}
            return Greeting(str(told["boot"]), numbers)
        except (BadFrame, KeyError, TypeError, ValueError):
            self.bad_frames += 1
            return None

    def read(self, limit: int = 1000) -> list[Bar]:
        """Bars that have arrived, oldest first, without waiting. Frames that are none are counted and dropped."""
        bars = (self.decoded(one) for one in self.receive(limit) if not one.greeting)
        return [bar for bar in bars if bar is not None]

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

    def missed(self, greeting: Greeting, symbol: str, timeframe: str) -> bool:
        """Whether the gateway is another one, or bars were published while nobody heard them: attach again."""
        return greeting.boot != self.boot or greeting.numbers.get((symbol, timeframe), 0) > self.seq
