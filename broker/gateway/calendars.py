"""Calendar files of the guards, read when they change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from protocol.schedule import Pause, parse_calendar

LOOK: Final = 1.0  # seconds between two looks at a file


class Calendars:
    """Calendar files by their names, relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[float, float, tuple[Pause, ...]]] = {}  # looked at, changed, pauses

    def pauses(self, name: str) -> tuple[Pause, ...] | str:
        """The pauses of a file (none for no name); or why there are none to go by."""
        if not name:
            return ()
        now = time.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < LOOK:
            return known[2]
        path = self._folder / name
        try:
            changed = path.stat().st_mtime
            pauses = known[2] if known and known[1] == changed else parse_calendar(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            # Without it nobody knows whether now is a pause.
            why = error.strerror if isinstance(error, OSError) else error
            return f"calendar {path} cannot be used: {why}"
        self._known[name] = now, changed, pauses
        return pauses
