"""The equity curve: drawdown, Sharpe ratio, months, and a thinner one to draw."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_DAY: Final = 86_400
_TRADING_DAYS: Final = 252  # a year of a market that rests at weekends
_ALL_DAYS: Final = 365
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest falls of the equity below its highest point so far: in money, and in percent of that point."""

    money: float
    percent: float
    start: int
    """When the fall in percent began, at its peak: server seconds."""
    bottom: int


def drawdown(times: Sequence[int], equity: Sequence[float], first: float) -> Drawdown:
    """Of an equity that began with `first`. The two deepest falls need not be the same."""
    if not len(equity):
        return Drawdown(0.0, 0.0, 0, 0)
    values = np.asarray(equity, dtype=np.float64)
    peaks = np.maximum(np.maximum.accumulate(values), first)
    falls = peaks - values
    shares = falls / peaks
    at = int(shares.argmax())
    top = int(values[: at + 1].argmax())
    return Drawdown(round(float(falls.max()), 2), round(100.0 * float(shares[at]), 3), int(times[top]), int(times[at]))


def sharpe(times: Sequence[int], equity: Sequence[float], first: float) -> float | None:
    """Sharpe ratio of daily returns, a year's: mean / standard deviation * sqrt(days a year).

    Returns from the last equity of one server day to that of the next day with bars; the deviation is a sample's
    (n - 1); the riskless rate is 0; 252 days a year, 365 where the market trades on Saturdays too. None with
    fewer than two days or without any movement. W. F. Sharpe, "The Sharpe Ratio", The Journal of Portfolio
    Management 21 (1), 1994.
    """
    if not len(times):
        return None
    # The last moment of a bar is the first of the next: midnight belongs to the day that it ends.
    days = (np.asarray(times, dtype=np.int64) - 1) // _DAY
    ends = np.flatnonzero(np.r_[days[1:] != days[:-1], True])
    levels = np.r_[first, np.asarray(equity, dtype=np.float64)[ends]]
    if len(ends) < 2 or (levels <= 0).any():
        return None
    returns = levels[1:] / levels[:-1] - 1.0
    spread = float(returns.std(ddof=1))
    if spread <= 1e-12:
        return None
    weekdays = (days[ends] + 3) % 7  # 1970-01-01 was a Thursday; Monday 0
    year = _ALL_DAYS if (weekdays == _SATURDAY).any() else _TRADING_DAYS
    return round(float(returns.mean()) / spread * math.sqrt(year), 3)


def months(times: Sequence[int], equity: Sequence[float], first: float) -> dict[str, float]:
    """Return of each month in percent, by `2020-01`."""
    last: dict[str, float] = {}
    for moment, value in zip(times, equity, strict=True):
        last[dt.datetime.fromtimestamp(moment - 1, dt.UTC).strftime("%Y-%m")] = value
    out, before = {}, first
    for month, value in last.items():
        out[month] = round(100.0 * (value / before - 1.0), 3) if before > 0 else 0.0
        before = value
    return out


def thin(equity: Sequence[float], most: int) -> list[int]:
    """Indices of at most some `most` points that draw the same picture: of each stretch its lowest and its highest."""
    count = len(equity)
    if count <= most:
        return list(range(count))
    values = np.asarray(equity, dtype=np.float64)
    kept = {0, count - 1}
    for part in np.array_split(np.arange(count), max(1, most // 2)):
        kept.add(int(part[values[part].argmin()]))
        kept.add(int(part[values[part].argmax()]))
    return sorted(kept)
