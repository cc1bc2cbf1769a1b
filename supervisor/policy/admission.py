"""Who may start now: as many at once as the machine shows that it bears, the most important first.

Not judged by CPU use: while starts are under way it is high by nature. What counts is that the processes
come up: the supervisor's loop keeps time, forks succeed, and memory is left for the bots that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FIRST_WINDOW: Final = 100.0
LARGEST_WINDOW: Final = 1000.0
LAG: Final = 1.0  # seconds that the supervisor's loop may be late
#: Memory that is never given away: this share of the machine.
RESERVE: Final = 0.05
_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Means:
    """What the machine has left. Bytes and seconds; None is unknown, and hinders nobody."""

    available: int | None = None
    total: int | None = None
    per_bot: int = 12_000_000
    lag: float = 0.0

    @property
    def room(self) -> int | None:
        """How many more bots the memory bears."""
        if self.available is None or self.total is None:
            return None
        return max(0, int((self.available - RESERVE * self.total) // max(1, self.per_bot)))


@dataclass(frozen=True, slots=True)
class Gate:
    """`window`: how many starts may be under way at once. After failed forks it is shut for a moment."""

    window: float = FIRST_WINDOW
    shut_until: float = 0.0
    failures: int = 0  # in a row
    slowed_at: float = 0.0

    def arrived(self, number: int) -> Gate:
        """So many came up: as many more may be under way at once."""
        return replace(self, window=min(LARGEST_WINDOW, self.window + number), failures=0) if number else self

    def failed(self, now: float) -> Gate:
        """A fork failed: half as many at once, after a pause that doubles with each failure in a row."""
        pause = min(_LONGEST_PAUSE, _PAUSE * 2.0 ** min(self.failures, 10))
        return replace(self, window=max(1.0, self.window / 2), shut_until=now + pause, failures=self.failures + 1)

    def lagging(self, lag: float, now: float) -> Gate:
        """The supervisor's loop is late: fewer at once, told at most once a second."""
        if lag <= LAG or now - self.slowed_at < 1.0:
            return self
        return replace(self, window=max(1.0, self.window * 0.7), slowed_at=now)


def quota(gate: Gate, means: Means, *, waiting: int, under_way: int, now: float) -> tuple[int, str]:
    """(how many of the waiting may start now, what holds the others).

    One start at a time is let in however late the loop is, so that nothing waits for ever.
    """
    if now < gate.shut_until:
        return 0, "processes could not be made; trying again in a moment"
    room, why = int(gate.window) - under_way, f"{under_way} others are starting"
    if means.lag > LAG and room > 1 - under_way:
        room, why = 1 - under_way, f"the supervisor's loop is {means.lag:.1f} s late"
    bears = means.room
    if bears is not None and room > bears - under_way:
        assert means.available is not None
        room = bears - under_way
        why = f"memory: {means.available / 1e6:.0f} MB available, {means.per_bot / 1e6:.1f} MB a bot"
    allowed = max(0, min(waiting, room))
    return allowed, "" if allowed == waiting else why


def learned(before: int, seen: list[int]) -> int:
    """What one bot takes: the median of what those that run take now, approached slowly. Bytes."""
    if not seen:
        return before
    middle = sorted(seen)[len(seen) // 2]
    return int(before + (middle - before) * 0.3)
