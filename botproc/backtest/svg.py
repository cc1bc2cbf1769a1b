"""Charts as SVG, drawn by hand: no library, no script, nothing fetched."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from botproc.backtest import figures

_LEFT: Final = 64
_RIGHT: Final = 14
_TOP: Final = 10
_BOTTOM: Final = 24


@dataclass(frozen=True, slots=True)
class Mark:
    """A triangle on a line: `up` below it, else above; `title` is shown under the pointer."""

    x: float
    y: float
    up: bool
    style: str
    title: str


class Chart:
    """A plot of time against a value. `style` names classes of the page's style sheet."""

    def __init__(
        self, times: tuple[float, float], values: tuple[float, float], *, width: int = 920, height: int = 260
    ) -> None:
        self.width, self.height = width, height
        self._t0, self._t1 = times[0], max(times[1], times[0] + 1)
        low, high = values
        if high <= low:
            low, high = low - max(abs(low) * 0.01, 1e-9), high + max(abs(high) * 0.01, 1e-9)
        room = (high - low) * 0.05
        self._low, self._high = low - room, high + room
        self._parts: list[str] = []

    def x(self, time: float) -> float:
        """Where a moment lies."""
        inside = self.width - _LEFT - _RIGHT
        return _LEFT + inside * (time - self._t0) / (self._t1 - self._t0)

    def y(self, value: float) -> float:
        """Where a value lies."""
        inside = self.height - _TOP - _BOTTOM
        return _TOP + inside * (self._high - value) / (self._high - self._low)

    def grid(self, label: Callable[[float], str] | None = None) -> None:
        """Lines at round values and at months or years, with their labels: plain numbers, if nothing else is said."""
        values = ticks(self._low, self._high, 5)
        label = label or figures.alike(values)
        for value in values:
            y = self.y(value)
            self._parts.append(
                f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{self.width - _RIGHT}" y2="{y:.1f}"/>'
            )
            self._parts.append(
                f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>'
            )
        for time, text in dates(self._t0, self._t1):
            x = self.x(time)
            foot = self.height - _BOTTOM
            self._parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{foot}"/>')
            self._parts.append(
                f'<text class="tick" x="{x:.1f}" y="{self.height - 7}" text-anchor="middle">{text}</text>'
            )

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points of (time, value)."""
        self._parts.append(f'<polyline class="line {style}" points="{self._path(points)}"/>')

    def area(self, points: Sequence[tuple[float, float]], base: float, style: str) -> None:
        """What lies between the line and a value."""
        if not points:
            return
        closed = [(points[0][0], base), *points, (points[-1][0], base)]
        self._parts.append(f'<polygon class="area {style}" points="{self._path(closed)}"/>')

    def level(self, value: float, style: str) -> None:
        """A line at one value."""
        y = self.y(value)
        self._parts.append(
            f'<line class="line {style}" x1="{_LEFT}" y1="{y:.1f}" x2="{self.width - _RIGHT}" y2="{y:.1f}"/>'
        )

    def marks(self, marks: Sequence[Mark]) -> None:
        """Entries and ends."""
        for mark in marks:
            x, y, step = self.x(mark.x), self.y(mark.y), 5 if mark.up else -5
            path = f"M{x:.1f} {y + step * 0.4:.1f}l4 {step * 1.6:.1f}h-8z"
            self._parts.append(f'<path class="mark {mark.style}" d="{path}"><title>{escape(mark.title)}</title></path>')

    def bars(self, groups: Sequence[tuple[float, float, float, str, str]]) -> None:
        """Upright bars: from time, to time, value, style, title."""
        zero = self.y(0.0)
        for start, end, value, style, title in groups:
            left, right, y = self.x(start), self.x(end), self.y(value)
            top, tall = min(y, zero), max(abs(y - zero), 0.8)
            self._parts.append(
                f'<rect class="bar {style}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.8):.1f}"'
                f' height="{tall:.1f}"><title>{escape(title)}</title></rect>'
            )

    def plain_axis(self, label: Callable[[float], str], texts: Sequence[tuple[float, str]]) -> None:
        """The grid where the horizontal is no time: labels given."""
        for value in ticks(self._low, self._high, 5):
            y = self.y(value)
            self._parts.append(
                f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{self.width - _RIGHT}" y2="{y:.1f}"/>'
            )
            self._parts.append(
                f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>'
            )
        for place, text in texts:
            self._parts.append(
                f'<text class="tick" x="{self.x(place):.1f}" y="{self.height - 7}" text-anchor="middle">{text}</text>'
            )

    def render(self, title: str) -> str:
        """The drawing; `title` for those who cannot see it."""
        head = f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(title, quote=True)}">'
        return head + "".join(self._parts) + "</svg>"

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(time):.1f},{self.y(value):.1f}" for time, value in points)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most some `most` round values between: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(step * n, 10) for n in range(first, math.floor(high / step) + 1)]


def dates(start: float, end: float) -> list[tuple[float, str]]:
    """Moments to label on a time axis: years, months or days, whichever give a handful."""
    begin, finish = (dt.datetime.fromtimestamp(moment, dt.UTC) for moment in (start, end))
    days = (end - start) / 86_400
    out: list[tuple[float, str]] = []
    if days <= 45:
        step = max(1, round(days / 8))
        day = dt.datetime(begin.year, begin.month, begin.day, tzinfo=dt.UTC) + dt.timedelta(days=1)
        while day <= finish:
            out.append((day.timestamp(), day.strftime("%d %b")))
            day += dt.timedelta(days=step)
        return out
    step = next((months for months in (1, 2, 3, 6, 12) if days / 30.4 / months <= 10), 24)
    year, month = begin.year, begin.month
    for _ in range(2000):  # some 160 years of months
        month += 1
        if month > 12:
            year, month = year + 1, 1
        day = dt.datetime(year, month, 1, tzinfo=dt.UTC)
        if day > finish:
            break
        if (month - 1) % min(step, 12) == 0 and (step < 24 or year % 2 == 0):
            out.append((day.timestamp(), str(year) if month == 1 else day.strftime("%b" if days < 400 else "%b %y")))
    return out
