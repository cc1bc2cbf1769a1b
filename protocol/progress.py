"""How far the main loop of a child has come: what its heartbeats tell, and what a hang is judged by."""

from __future__ import annotations

import time

from protocol.messages import Heartbeat, Phase, SignalCode


class Progress:
    """Written by the main loop, read by the thread that beats.

    No lock: each field is one value that Python stores at once, and a heartbeat that mixes the fields of two
    neighbouring moments harms nobody.
    """

    __slots__ = ("_moved", "_reaction", "cycles", "errors", "last_signal", "limit", "phase", "volume")

    def __init__(self) -> None:
        self.phase: int = Phase.BOOT
        self.cycles = 0  # strategy cycles done
        self.volume = 0.0  # own position in signed lots
        self.last_signal: int = SignalCode.NONE
        self.errors = 0  # analyses that raised
        self.limit = 30.0  # seconds that the phase may last before it is a hang
        self._moved = time.monotonic()
        self._reaction = (0, 0, 0, 0)

    def move(self, phase: int, limit: float) -> None:
        """Enter a phase that may last `limit` seconds."""
        self.phase = phase
        self.limit = limit
        self._moved = time.monotonic()

    def touch(self) -> None:
        """Still in the same phase, and moving."""
        self._moved = time.monotonic()

    def decided(self, bar_time: int, published: float, received: float) -> None:
        """The strategy has decided on a bar that was published and received at these monotonic times."""
        now = time.monotonic()
        if 0 < published <= received <= now:  # else they are of another machine
            since = (int((received - published) * 1e6), int((now - published) * 1e6))
            self._reaction = (bar_time, int(published * 1e6), *since)

    def age(self) -> float:
        """Seconds since the main loop last moved."""
        return max(0.0, time.monotonic() - self._moved)

    def beat(self, seq: int, lag: float) -> Heartbeat:
        """The heartbeat of this moment. `lag`: seconds that the beating thread itself woke too late."""
        return Heartbeat(
            seq,
            int(self.phase),
            self.cycles,
            int(self.age() * 1000),
            int(lag * 1000),
            self.volume,
            int(self.last_signal),
            self.errors,
            int(self.limit * 1000),
            *self._reaction,
        )
