"""When entries are allowed: trading hours, and a calendar of pauses for news and holidays. Pure.

All times are the terminal's server time, as charts and deals show it.
"""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS_RULE: Final = 'as "08:00-17:00" or "Mon-Fri 08:00-17:00" or "Sun,Mon 22:00-02:00", in server time'
_WINDOW: Final = re.compile(r"(?:([A-Za-z,-]+)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_DAY: Final = 86_400
_HEADER: Final = "from"


@dataclass(frozen=True, slots=True)
class Window:
    """Entries are allowed from `start` to before `end`, minutes of the day; past midnight where end <= start."""

    days: frozenset[int]  # Monday 0
    start: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether a minute of a weekday lies in it."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        return (weekday in self.days and minute >= self.start) or ((weekday - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Pause:
    """No entry from `start` to before `end` (server seconds), on these symbols; on all where none is named."""

    start: int
    end: int
    reason: str
    symbols: frozenset[str] = frozenset()

    def holds(self, symbol: str, now: float) -> bool:
        """Whether it holds for that symbol at that time."""
        return self.start <= now < self.end and (not self.symbols or symbol in self.symbols)


def parse_hours(texts: Iterable[str]) -> tuple[Window, ...]:
    """Trading hours out of the configuration. Raises ValueError with what is wrong and what would be right."""
    return tuple(_window(text) for text in texts)


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} are no hours: {HOURS_RULE}")
    days, *clock = found.groups()
    first, first_minute, last, last_minute = (int(number) for number in clock)
    start, end = first * 60 + first_minute, last * 60 + last_minute
    if first_minute > 59 or last_minute > 59 or start >= 1440 or end > 1440:
        raise ValueError(f"{text!r}: no such time of day; {HOURS_RULE}")
    return Window(_days(days, text) if days else frozenset(range(7)), start, end)


def _days(text: str, whole: str) -> frozenset[int]:
    known = {name.lower(): number for number, name in enumerate(DAYS)}
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in known or (dash and last not in known):
            raise ValueError(f"{whole!r}: days are {', '.join(DAYS)}; {HOURS_RULE}")
        begin, end = known[first], known[last] if dash else known[first]
        found.update(number % 7 for number in range(begin, end + 1 if end >= begin else end + 8))
    return frozenset(found)


def open_at(windows: Sequence[Window], now: float) -> bool:
    """Whether entries are allowed at that server time; without any window: always."""
    minute = int(now) % _DAY // 60
    weekday = (int(now) // _DAY + 3) % 7  # 1970-01-01 was a Thursday
    return not windows or any(window.holds(weekday, minute) for window in windows)


def parse_calendar(text: str) -> tuple[Pause, ...]:
    """A calendar file: lines of `from,until,reason[,symbols]`.

    As `2024-01-05 13:00,2024-01-05 15:00,NFP,EURUSD USDJPY`. A day alone is meant whole. A line that begins with #
    is a remark, and the first may be the heading. Raises ValueError naming the line.
    """
    pauses: list[Pause] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if not pauses and cells[0].lower() == _HEADER:
            continue
        if len(cells) < 3:
            raise ValueError(f"line {number}: a pause is from,until,reason[,symbols]")
        start, end = _moment(cells[0], number, last=False), _moment(cells[1], number, last=True)
        if end <= start:
            raise ValueError(f"line {number}: it ends before it begins")
        symbols = frozenset(cells[3].split()) if len(cells) > 3 else frozenset()
        pauses.append(Pause(start, end, cells[2] or "pause", symbols))
    return tuple(pauses)


def _moment(text: str, number: int, *, last: bool) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"line {number}: {text!r} is no time: write 2024-01-05 13:30") from None
    if moment.tzinfo is not None:
        raise ValueError(f"line {number}: {text!r}: times are server time, without a zone")
    seconds = int(moment.replace(tzinfo=dt.UTC).timestamp())
    return seconds + _DAY if last and len(text) <= 10 else seconds


def pause_at(pauses: Iterable[Pause], symbol: str, now: float) -> Pause | None:
    """The pause that holds for that symbol at that server time."""
    return next((pause for pause in pauses if pause.holds(symbol, now)), None)
