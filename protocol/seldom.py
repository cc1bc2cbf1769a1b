"""What may happen a thousand times a second is said at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Seldom:
    """Asked each time; true at most once in `every` seconds."""

    def __init__(self, every: float = 1.0, now: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._now = now
        self._due = float("-inf")

    def __call__(self) -> bool:
        """Whether it is to be said this time."""
        now = self._now()
        if now < self._due:
            return False
        self._due = now + self._every
        return True
