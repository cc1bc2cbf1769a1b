"""A bar for which nothing was sent, because the position was not known: it is tried again while it is young."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

_EVERY: Final = 1.0  # seconds between two tries


class SecondTry:
    """When the main loop tries a bar again. `ttl`: seconds after its close in which a bar may be decided on."""

    def __init__(self, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._bar = -1
        self._until = 0.0
        #: When the next try is due, on the clock; infinite where none is.
        self.at = math.inf

    def want(self, bar_time: int, closed: float) -> None:
        """Nothing was sent for the bar that opened at `bar_time` and closed at `closed`, on the clock."""
        self._bar, self._until = bar_time, closed + self._ttl
        self.at = self._clock() + _EVERY
        if self.at > self._until:
            self.forget()

    def due(self, bar_time: int) -> bool:
        """Whether it is time to try the last bar again. One that is old by now, or no longer the last, is let go."""
        now = self._clock()
        if bar_time != self._bar or now > self._until:
            self.forget()
        return now >= self.at

    def forget(self) -> None:
        """No bar is tried again: what was to be done is done, or is not to be done any more."""
        self._bar, self.at = -1, math.inf
