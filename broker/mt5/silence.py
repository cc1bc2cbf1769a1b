"""Symbols of which the terminal shows no quote: selected again once in a while, and told where it lasts.

A terminal quotes what stands in its Market Watch. Somebody may take a symbol out of it, a terminal that is started anew
may come up with another list, and a broker may offer it no longer. Without a quote no bar of it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Seconds between two attempts to select a symbol.
SELECT_EVERY: Final = 5.0
#: Seconds for which a symbol has had no quote when that is told.
TOLD_AFTER: Final = 30.0


@dataclass(slots=True)
class _Silent:
    """Since when (monotonic), when it is selected again, and the line that was told."""

    since: float
    select_at: float
    told: str = ""


class Silence:
    """For the terminal thread. `select` is the terminal's symbol_select."""

    def __init__(self, select: Callable[[str], Any]) -> None:
        self._select = select
        self._silent: dict[str, _Silent] = {}

    def look(self, quoted: Mapping[str, bool], mono: float) -> list[tuple[str, bool]]:
        """Which of the symbols that are followed have a quote now; lines for people, and whether each is bad news."""
        lines: list[tuple[str, bool]] = []
        for symbol, is_there in quoted.items():
            line = self._spoke(symbol, mono) if is_there else self._missed(symbol, mono)
            lines += [(line, not is_there)] if line else []
        return lines

    def _spoke(self, symbol: str, mono: float) -> str:
        silent = self._silent.pop(symbol, None)
        if silent is None or not silent.told:
            return ""
        return f"over after {mono - silent.since:.0f} s: {silent.told}"

    def _missed(self, symbol: str, mono: float) -> str:
        silent = self._silent.setdefault(symbol, _Silent(since=mono, select_at=mono))
        if mono >= silent.select_at:
            silent.select_at = mono + SELECT_EVERY
            self._select(symbol)
        if silent.told or mono - silent.since < TOLD_AFTER:
            return ""
        silent.told = (
            f"the terminal shows no quote of {symbol}, and no bar of it is told; "
            "look whether the broker offers it, and whether its Market Watch is full"
        )
        return silent.told
