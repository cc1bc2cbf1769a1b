"""How late the supervisor's loop was in the last minute, from a timer of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from supervisor.runtime import clock

_EVERY: Final = 0.1
_KEPT: Final = 600  # a minute


class LoopLag:
    """Wakes ten times a second and keeps how late that was, and how much of it this process itself computed.

    On a busy machine a process waits for its turn, and every timer is late; what a timer was late can at most to
    the extent of the CPU time that the process used meanwhile be its own fault.
    """

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due, used = clock.now() + _EVERY, time.process_time()
            await asyncio.sleep(_EVERY)
            self.add(clock.now() - due, time.process_time() - used)

    def add(self, late: float, used: float) -> None:
        """A timer was `late` seconds late, and the process used `used` seconds of CPU time since it was set."""
        late = max(0.0, late)
        self._late.append((late, min(late, used)))

    def figures(self) -> dict[str, float | None]:
        """Milliseconds: `p50`, `p99`, `max` of being late, and `own_p99` of the part that is ours. None: unknown."""
        late = sorted(one for one, _ in self._late)
        own = sorted(one for _, one in self._late)
        return {"p50": _at(late, 0.5), "p99": _at(late, 0.99), "max": _at(late, 1.0), "own_p99": _at(own, 0.99)}


def _at(ordered: list[float], share: float) -> float | None:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
