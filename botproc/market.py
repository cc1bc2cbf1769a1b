"""A bot's market side: attached to its gateway, with the last closed bars in its window."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import zmq

from botproc.window import Window
from broker.client import Arrival, Follower, GatewayClient, MarketFeed
from protocol.botconfig import BotConfig
from protocol.link import BusLink
from protocol.messages import Attached, Bar
from protocol.pacing import share
from protocol.spec import RunSpec
from protocol.wake import WakeFd

_KEPT: Final = 20_000  # bars that may lie while the gateway is away; what is lost shows as a gap


class Market:
    """The orders socket (main thread), the feed (the link's thread), and the window between them."""

    def __init__(
        self, context: zmq.Context[Any], spec: RunSpec, config: BotConfig, size: int, wake: WakeFd, link: BusLink
    ) -> None:
        self._config = config
        self._wake = wake
        self._link = link
        self._share = share(config.name)
        self._arrived: deque[Arrival] = deque(maxlen=_KEPT)
        self.received = 0.0  # when the last bar that was taken had come, monotonic
        self.window = Window(size)
        self._feed = MarketFeed(context, spec, config.market, config.timeframe)
        self.client = GatewayClient(context, spec, wake)
        self._follower: Follower | None = None
        self.lockstep = False
        self.lost = True  # whether it must attach (again) before anything else
        link.watch(self._feed.socket, self._receive)  # last: the link's thread may call before this returns

    def attach(self, *, timeout: float) -> Attached:
        """Attach (again): the history replaces the window. Raises as GatewayClient.attach does."""
        attached = self.client.attach(self._config.market, self._config.timeframe, self.window.size, timeout=timeout)
        self._follower = Follower(attached)
        self.window.fill(attached.bars)
        self.lockstep = attached.lockstep
        self.lost = False
        return attached

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
                self.received = arrival.received
                return bar
            # A bar of a gateway that is gone may still lie here after the attach to its successor: it is told
            # apart only by attaching, which is cheap and happens once.
            self.lost = verdict == "gap"
        return None

    def answered(self, bar: Bar) -> None:
        """Lockstep: nothing more comes of this bar. Raises GatewayDown."""
        if self.lockstep:
            self.client.bar_done(bar.seq, self.window.last_time)

    def _receive(self) -> None:
        """On the link's thread: hand over what has arrived, stamped; the main loop is woken when it is its turn."""
        arrived = self._feed.receive()
        if not arrived:
            return
        self._arrived.extend(arrived)
        if not self.lost:  # bars must not cut an attach short: it would begin again with each of them
            self._link.wake_after(arrived[-1].spread * self._share, self._wake)
