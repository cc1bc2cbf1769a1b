"""A bot's market side: attached to its gateway, with the last closed bars in its window."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

import zmq

from botproc.receiver import Receiver
from botproc.window import Window
from broker.client import Arrival, Follower, GatewayClient, GatewayDown, MarketFeed
from broker.market import bar_end
from protocol.botconfig import BotConfig
from protocol.messages import Attached, Bar
from protocol.pacing import share
from protocol.spec import RunSpec
from protocol.wake import WakeFd

_KEPT: Final = 20_000  # bars that may lie while the gateway is away; what is lost shows as a gap


class Market:
    """The orders socket (main thread), the feed (a thread of its own), and the window between them."""

    def __init__(self, context: zmq.Context[Any], spec: RunSpec, config: BotConfig, size: int, wake: WakeFd) -> None:
        self._context = context
        self._config = config
        self._wake = wake
        self._share = share(config.name)
        self._arrived: deque[Arrival] = deque(maxlen=_KEPT)
        self.received = 0.0  # when the last bar that was taken had come, monotonic
        self.closed = 0.0  # when the window's last bar closed, as far as it was told, monotonic
        self.window = Window(size)
        self._feed = MarketFeed(context, spec, config.market, config.timeframe)
        self.client = GatewayClient(context, spec, wake)
        self._follower: Follower | None = None
        self.lockstep = False
        self.lost = True  # whether it must attach (again) before anything else
        self._receiver = Receiver(self._feed, self._receive, wake)
        self._receiver.start()

    def attach(self, *, timeout: float) -> Attached:
        """Attach (again): the history replaces the window. Raises as GatewayClient.attach does."""
        attached = self.client.attach(self._config.market, self._config.timeframe, self.window.size, timeout=timeout)
        self._follower = Follower(attached)
        self.window.fill(attached.bars)
        self.lockstep = attached.lockstep
        self.lost = False
        self.closed = time.monotonic() - max(0.0, self._age(attached))
        return attached

    def just_closed(self, attached: Attached) -> bool:
        """Whether the last bar of the history closed so recently that it may still be decided on.

        A run that follows a crash decides on the bar that its predecessor may have missed; the gateway
        refuses a second entry for one bar. In lockstep decisions belong to published bars only.
        """
        if attached.lockstep or not len(self.window):
            return False
        return self._age(attached) <= self._config.order_ttl_seconds

    def take(self) -> Bar | None:
        """The next closed bar, put into the window; None when there is none, or when `lost` became true."""
        while self._follower is not None and not self.lost:
            try:
                arrival = self._arrived.popleft()
            except IndexError:
                return None
            if arrival.greeting:
                greeting = self._feed.greeting(arrival)
                self.lost = greeting is not None and self._follower.missed(
                    greeting, self._config.market, self._config.timeframe
                )
                continue
            bar = self._feed.decoded(arrival)
            if bar is None:
                continue
            verdict = self._follower.judge(bar)
            if verdict == "next":
                self.window.append(bar.row)
                self.received = self.closed = arrival.received
                return bar
            # A bar of a gateway that is gone may still lie here after the attach to its successor: it is told
            # apart only by attaching, which is cheap and happens once.
            self.lost = verdict == "gap"
        return None

    def answered(self, bar: Bar) -> None:
        """Lockstep: nothing more comes of this bar. Where the gateway cannot be told so it is `lost`."""
        if not self.lockstep:
            return
        try:
            self.client.bar_done(bar.seq, self.window.last_time)
        except GatewayDown:
            self.lost = True

    def close(self) -> None:
        """End the receiving thread, and with it the context, whose other sockets are closed by now."""
        self._receiver.stop(self._context)

    def _age(self, attached: Attached) -> float:
        """Seconds of the server's clock from the close of the window's last bar to this attach; 0 without a bar."""
        if not len(self.window):
            return 0.0
        return attached.time - bar_end(self.window.last_time, self._config.timeframe)

    def _receive(self, arrival: Arrival) -> float | None:
        """On the receiving thread: hand over; in how many seconds it is this bot's turn to decide on it."""
        self._arrived.append(arrival)
        if self.lost:  # bars must not cut an attach short: it would begin again with each of them
            return None
        return arrival.spread * self._share
