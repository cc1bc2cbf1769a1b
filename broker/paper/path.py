"""The way of the price inside a bar, of which only four prices are known.

`ohlc`: a bar that rises goes open, low, high, close; one that falls goes open, high, low, close (so does
MetaTrader's own tester). `worst` turns the way against one side: a buy sees the low first, a sell the high.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.api import Rates

#: Prices of the bid, from the opening to the close; the price moves straight from one to the next.
Way = tuple[float, ...]
#: With fewer ticks a way does not reach both its extremes.
LEAST_TICKS: Final = 3


def ohlc(opened: float, high: float, low: float, close: float) -> Way:
    """The way that a bar is taken to have gone."""
    return (opened, low, high, close) if close >= opened else (opened, high, low, close)


def worst(buy: bool, opened: float, high: float, low: float, close: float) -> Way:
    """The way that is worst for an open position of that side."""
    return (opened, low, high, close) if buy else (opened, high, low, close)


def way_of(bar: Rates) -> Way:
    """The way of one bar: shape (1,)."""
    row = bar[0]
    return ohlc(row["open"].item(), row["high"].item(), row["low"].item(), row["close"].item())


@cache
def _corners(ticks: int) -> tuple[int, int, int, int]:
    """At which tick each of the four prices stands; the last is the close."""
    return 0, max(1, ticks // 3), max(2, 2 * ticks // 3), ticks


def tick_prices(rates: Rates, ticks: int, digits: int) -> npt.NDArray[np.float64]:
    """Prices of the bid at each tick of each bar, the opening first and the close last: shape (bars, ticks + 1)."""
    if ticks < LEAST_TICKS:
        return np.column_stack([rates["open"], rates["close"]])
    rises = rates["close"] >= rates["open"]
    first, second = np.where(rises, rates["low"], rates["high"]), np.where(rises, rates["high"], rates["low"])
    corners = np.column_stack([rates["open"], first, second, rates["close"]])
    at = np.interp(np.arange(ticks + 1), _corners(ticks), (0.0, 1.0, 2.0, 3.0))
    leg = np.minimum(at.astype(np.int64), 2)
    share = at - leg
    return np.asarray(np.round(corners[:, leg] * (1 - share) + corners[:, leg + 1] * share, digits))


def tick_times(start: int, end: int, ticks: int) -> list[int]:
    """Server seconds of the ticks between a bar's opening and its close: `ticks` - 1 of them."""
    if ticks < LEAST_TICKS:
        return []
    return [start + (end - start) * number // ticks for number in range(1, ticks)]


def along(way: Way, share: float) -> float:
    """The price after a share (0 to 1) of the bar's time, each leg of the way taking as long as the others."""
    legs = len(way) - 1
    at = min(max(share, 0.0), 1.0) * legs
    leg = min(int(at), legs - 1)
    return way[leg] + (way[leg + 1] - way[leg]) * (at - leg)
