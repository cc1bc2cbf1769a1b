"""Calls from other threads to the service thread, in order, with a wake-up for its poller."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from protocol.wake import WakeFd

log = logging.getLogger("stablehand.gateway")


class Inbox:
    """What is posted first is run first: a bar published before an attach was read is said before it."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake = WakeFd()

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the service thread run `call(*args)`. Never blocks; safe from any thread and signal handler."""
        self._calls.append((call, args))
        self._wake.set()

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._wake.fileno()

    def run(self) -> None:
        """Run what was posted so far. A call that raises is logged and does not stop the others."""
        self._wake.clear()
        for _ in range(len(self._calls)):
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:
                log.exception("the gateway could not finish %s", getattr(call, "__name__", call))

    def close(self) -> None:
        """Give the descriptors back."""
        self._wake.close()
