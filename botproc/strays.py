"""What an ended run left behind: processes in sessions of their own, which no signal to its group reaches.

A bot takes in the orphans below it while it lives, and the launcher takes in what is left when the bot has
ended (both as the kernel's "child subreaper"). So a child of the launcher that it did not start is a leaving
of a run that is over: it is killed and reaped, and what was below it comes next.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Final

from protocol.process import adopt_orphans, children_of

_AGAIN: Final = 0.02

log = logging.getLogger("stablehand.launcher")


class Strays:
    """`known()`: pids that are the launcher's own affair. What it has already at the start is left alone too."""

    def __init__(self, known: Callable[[], set[int]]) -> None:
        self._known = known
        self._able = adopt_orphans()
        self._before = set(children_of(os.getpid()))
        self._told: set[int] = set()
        self._due = float("inf")

    def due(self) -> float:
        """Monotonic time at which `sweep` wants to be called."""
        return self._due

    def sweep(self, after: str = "") -> None:
        """Kill and reap what is there; again soon, while there is something. `after`: whose end it was."""
        self._due = float("inf")
        if not self._able:
            return
        own = self._known() | self._before
        for pid in children_of(os.getpid()):
            if pid in own:
                continue
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self._told.discard(pid)
                    continue
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # gone between the two
            if pid not in self._told:
                self._told.add(pid)
                log.warning("killed process %d, left behind by a run that has ended %s", pid, after)
            self._due = time.monotonic() + _AGAIN
