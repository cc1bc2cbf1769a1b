"""What is told to people about the terminal: rows of the gateway's history, which the supervisor keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_KEPT: Final = 100


class Told:
    """Takes lines from the terminal's thread, also before there is a link to tell them by."""

    def __init__(self) -> None:
        self._early: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self._history: Callable[[str, str], None] | None = None

    def __call__(self, line: str, bad: bool) -> None:
        """Tell a line; `bad`: something is wrong since now."""
        row = ("ALERT" if bad else "INFO", line)
        if self._history is None:
            self._early.append(row)
        else:
            self._history(*row)

    def to(self, history: Callable[[str, str], None]) -> None:
        """From now on they go here; those that waited go first."""
        self._history = history
        while self._early:
            history(*self._early.popleft())
