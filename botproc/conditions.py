"""Conditions that last: told once when they begin and once when they end, never at every cycle between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: (action, text, data) of one history row.
Report = Callable[[str, str, dict[str, Any]], None]


class Conditions:
    """What holds at the moment, by kind."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._active: dict[str, str] = {}

    def __contains__(self, kind: str) -> bool:
        return kind in self._active

    def begin(self, kind: str, action: str, text: str, data: dict[str, Any] | None = None) -> bool:
        """Report it under `action` unless it holds already; whether it was reported."""
        if kind in self._active:
            return False
        self._active[kind] = text
        self._report(action, text, {**(data or {}), "condition": kind})
        return True

    def end(self, kind: str, text: str = "") -> None:
        """Report as INFO that it is over, if it held."""
        began = self._active.pop(kind, None)
        if began is not None:
            self._report("INFO", text or f"over: {began}", {"condition": kind})

    def end_all(self, prefix: str) -> None:
        """End every condition whose kind begins so."""
        for kind in [kind for kind in self._active if kind.startswith(prefix)]:
            self.end(kind)
