"""The two clocks: monotonic for every timer, wall for what a person reads."""

from __future__ import annotations

import time


def now() -> float:
    """Monotonic seconds. On Linux CLOCK_MONOTONIC is one clock for all processes of the machine."""
    return time.monotonic()


def wall() -> float:
    """UTC seconds since 1970, to show and to store; nothing is timed by it."""
    return time.time()
