"""Small helpers of the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], timeout: float = 5.0, *, every: float = 0.01, what: str = "") -> T:
    """The first true value that `probe` gives; AssertionError with its last value after `timeout` seconds."""
    until = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() >= until:
            raise AssertionError(f"not within {timeout} s: {what or probe!r}; last value {value!r}")
        time.sleep(every)
