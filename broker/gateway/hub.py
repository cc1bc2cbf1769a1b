"""What the gateway publishes: each closed bar once, numbered per topic, and who has subscribed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Protocol

import zmq

from broker.feed import SYNC, spread_frame, sync_topic
from protocol import topics
from protocol.codec import encode, pack
from protocol.messages import Bar
from protocol.pacing import spread

_SYNC = SYNC.encode()
_BURST = 1_000  # subscriptions taken before the other sockets get their turn


class Closed(Protocol):
    """A bar that closed in a step."""

    @property
    def symbol(self) -> str: ...
    @property
    def timeframe(self) -> str: ...
    @property
    def row(self) -> bytes: ...
    @property
    def bid(self) -> float: ...
    @property
    def ask(self) -> float: ...


class Hub:
    """The XPUB socket, for the service thread. `most_spread`: seconds over which analyses may be spread."""

    def __init__(self, socket: zmq.Socket[bytes], boot: str, most_spread: float) -> None:
        self._socket = socket
        self._boot = boot
        self._most_spread = most_spread
        self.numbers: dict[tuple[str, str], int] = {}
        self._synced: set[str] = set()

    def publish(
        self, moment: int, closed: tuple[Closed, ...], missed: Collection[tuple[str, str]] = ()
    ) -> dict[tuple[str, str], int]:
        """Publish the bars of one step; their numbers. Those of a topic in `missed` do not follow on what was before:
        a number is left out, so that each run that follows it attaches anew, and reads its history as it is now.
        """
        for topic in missed:
            self.numbers[topic] = self.numbers.get(topic, 0) + 1
        numbers: dict[tuple[str, str], int] = {}
        apart = spread_frame(spread(len(self._synced), self._most_spread))
        stamp = time.monotonic()
        for bar in closed:
            key = bar.symbol, bar.timeframe
            number = self.numbers[key] = numbers[key] = self.numbers.get(key, 0) + 1
            message = Bar(
                gateway_boot=self._boot,
                symbol=bar.symbol,
                timeframe=bar.timeframe,
                seq=number,
                row=bar.row,
                bid=bar.bid,
                ask=bar.ask,
                time=float(moment),
                published_mono=stamp,
            )
            self._socket.send_multipart([topics.bar(bar.symbol, bar.timeframe), apart, encode(message)])
        return numbers

    def read_subscriptions(self) -> list[str]:
        """Take note of who has subscribed; the `sync_name` of runs whose subscriptions are in force since now."""
        fresh: list[str] = []
        for _ in range(_BURST):
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return fresh
            if frame[1 : 1 + len(_SYNC)] != _SYNC:
                continue
            name = frame[1 + len(_SYNC) :].decode("utf-8", "replace")
            if frame[:1] == b"\x01":
                self._synced.add(name)
                fresh.append(name)
                self._greet(name)
            else:
                self._synced.discard(name)
        return fresh

    def _greet(self, name: str) -> None:
        """Tell this run alone who publishes, and up to which bar it may have missed.

        A run whose connection broke cannot know by itself: the next bar may be an hour away.
        """
        numbers = [[symbol, timeframe, number] for (symbol, timeframe), number in self.numbers.items()]
        self._socket.send_multipart([sync_topic(name), pack({"boot": self._boot, "numbers": numbers})])

    def synced(self, name: str) -> bool:
        """Whether this run's subscriptions are in force."""
        return name in self._synced
