"""The thread that receives a bot's market, and does nothing else: what has arrived is stamped at once.

When a candle closes, hundreds of bots wake on few processors whose caches know nothing of them. What lies between the
arrival and the stamp is what the last of them waits for: here it is one call that waits, and the clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import zmq

from broker.feed import Arrival, MarketFeed
from protocol.wake import WakeFd

_LONGEST_STOP: Final = 2.0
_PATIENCE: Final = 0.1

log = logging.getLogger("stablehand.receiver")


class Receiver(threading.Thread):
    """Owns the feed's socket from `start` on, and closes it at the end.

    `take` is called on this thread with each arrival, must be quick, and says in how many seconds the main loop is to
    be woken for it; None: not at all.
    """

    def __init__(self, feed: MarketFeed, take: Callable[[Arrival], float | None], wake: WakeFd) -> None:
        super().__init__(name="market", daemon=True)
        self._feed = feed
        self._take = take
        self._wake = wake
        self._due: float | None = None  # when the main loop is to be woken, monotonic

    def run(self) -> None:
        """Receive until the socket's context is terminated."""
        try:
            while True:
                try:
                    self._next()
                except zmq.ContextTerminated:
                    return
                except Exception:  # without this thread the bot would be deaf, and nobody would know
                    log.exception("a bar was not received")
                    time.sleep(_PATIENCE)
        finally:
            self._feed.close()

    def _next(self) -> None:
        if self._due is not None and (left := self._due - time.monotonic()) > 0:
            arrival = self._feed.next(left)
        elif self._due is None:
            arrival = self._feed.next()
        else:
            arrival = None  # it is due now: bars that come faster than they are taken must not put it off
        if arrival is None:
            self._due = None
            self._wake.set()
            return
        after = self._take(arrival)
        if after is not None:
            at = arrival.received + after
            self._due = at if self._due is None else min(at, self._due)

    def stop(self, context: zmq.Context[Any]) -> None:
        """Terminate the context, whose other sockets are closed by now: that ends the wait for the next bar."""
        # `term` waits for every socket. One that somebody left open must not keep a bot from its end.
        ender = threading.Thread(target=context.term, name="term", daemon=True)
        ender.start()
        self.join(_LONGEST_STOP)
        ender.join(_LONGEST_STOP)  # afterwards no thread is left: who forks later counts them
