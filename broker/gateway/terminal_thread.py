"""The one thread that calls the terminal: orders and reads by their urgency, and the feed's steps between them."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from broker.gateway.memory import Pending

Job = Callable[[], None]
_GROUP: Final = 64  # orders in one group
#: Seconds that a step gives way at most to what waits behind it: a stall is not paid for twice by the market.
_GIVES_WAY: Final = 0.5

log = logging.getLogger("stablehand.gateway")


class Urgency(IntEnum):
    """What goes first."""

    HALT = 0  # closing by magic, halts
    CLOSE = 1
    ENTRY = 2
    STEP = 3
    READ = 4


class TerminalThread(threading.Thread):
    """Runs jobs in the order of their urgency, then of their arrival.

    `step` makes one step of the feed and says whether there is another; with an `interval` (seconds) it is
    called on a monotonic schedule, without one only when a job asks for it.
    """

    def __init__(
        self, execute: Callable[[list[Pending]], None], step: Callable[[], bool], interval: float | None
    ) -> None:
        super().__init__(name="terminal", daemon=True)
        self._execute = execute
        self._step = step
        self._interval = interval
        self._jobs: list[tuple[int, int, Any]] = []
        self._count = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._due = float("inf")

    def submit(self, urgency: Urgency, job: Job) -> None:
        """Have `job` run on the terminal thread."""
        self._push(urgency, job)

    def submit_order(self, pending: Pending) -> None:
        """Have an order executed; orders that wait together are executed as one group, closes first."""
        self._push(Urgency.ENTRY if pending.order.action == "open" else Urgency.CLOSE, pending)

    def stop(self, timeout: float) -> bool:
        """Run what is queued, then end. False when the terminal did not come back in `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.join(timeout)
        return not self.is_alive()

    def _push(self, urgency: Urgency, item: Any) -> None:
        with self._changed:
            self._count += 1
            heapq.heappush(self._jobs, (urgency, self._count, item))
            self._changed.notify()

    def run(self) -> None:
        """Until stopped and empty."""
        if self._interval is not None:
            self._due = time.monotonic() + self._interval
        while True:
            taken = self._take()
            if taken is None:
                return
            try:
                taken()
            except Exception:
                log.exception("a job of the terminal failed")

    def _take(self) -> Job | None:
        with self._changed:
            while True:
                now = time.monotonic()
                urgency = self._jobs[0][0] if self._jobs else None
                if now >= self._due and not self._stopping and (urgency is None or urgency > Urgency.ENTRY):
                    return self._timed_step
                if self._jobs:
                    return self._next_job()
                if self._stopping:
                    return None
                left = self._due - now
                self._changed.wait(None if left == float("inf") else left)

    def _next_job(self) -> Job:
        item = heapq.heappop(self._jobs)[2]
        if not isinstance(item, Pending):
            job: Job = item
            return job
        group = [item]
        magics = {item.order.magic}
        while self._jobs and len(group) < _GROUP:
            other = self._jobs[0][2]
            # One order of a bot in a group: a lost answer is then found by tickets that are its own.
            if not isinstance(other, Pending) or other.order.magic in magics:
                break
            magics.add(other.order.magic)
            group.append(heapq.heappop(self._jobs)[2])
        return lambda: self._execute(group)

    def _timed_step(self) -> None:
        assert self._interval is not None
        self._due += self._interval
        now = time.monotonic()
        if self._due < now:
            # After a stall the feed goes on from here: a burst of old bars would only be refused by age.
            self._due = now + self._interval
        if not self._step():
            self._due = float("inf")
            return
        ended = time.monotonic()
        with self._changed:
            if self._jobs and ended > self._due:
                # Steps that take longer than their interval would leave no time for what waits behind them.
                self._due = ended + min(ended - now, max(self._interval, _GIVES_WAY))
