"""Indicators that several strategies share, on float64 arrays, oldest first. What TA-Lib has is TA-Lib's.

Sources: J. Bollinger, "Bollinger on Bollinger Bands" (2001), for bands and bandwidth; R. Donchian's channel as
in MetaTrader; J. W. Wilder, "New Concepts in Technical Trading Systems" (1978), for RSI, ATR and ADX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import talib

from botproc.strategy import ema_bars, wilder_bars

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float64]


class Bands(NamedTuple):
    """Bollinger bands of one bar, and (upper - lower) / middle."""

    upper: float
    middle: float
    lower: float

    @property
    def width(self) -> float:
        """The bandwidth, as a share of the price."""
        return (self.upper - self.lower) / self.middle


def bands(close: Values, length: int, std: float) -> Bands:
    """Bands of the last bar: the mean of `length` closes and `std` population deviations around it."""
    part = close[-length:]
    middle, width = float(part.mean()), std * float(part.std())
    return Bands(middle + width, middle, middle - width)


def bandwidths(close: Values, length: int, std: float, bars: int) -> Values:
    """Bandwidth of each of the last `bars` bars. Needs length + bars - 1 closes."""
    windows = np.lib.stride_tricks.sliding_window_view(close[-(length + bars - 1) :], length)
    return np.asarray(2.0 * std * windows.std(axis=1) / windows.mean(axis=1), dtype=np.float64)


def sma(values: Values, period: int) -> float:
    """Simple average of the last `period` values."""
    return float(values[-period:].mean())


def ema(values: Values, period: int) -> float:
    """Exponential average on the last value. Give it `ema_bars(period)` values."""
    return float(talib.EMA(values, period)[-1])


def adx(high: Values, low: Values, close: Values, period: int) -> float:
    """Wilder's average directional index on the last bar, 0 to 100. Give it `adx_bars(period)` bars."""
    return float(talib.ADX(high, low, close, period)[-1])


def adx_bars(period: int) -> int:
    """Bars that an ADX needs: it smooths twice, one after the other."""
    return 2 * wilder_bars(period)


def macd_bars(fast: int, slow: int, signal: int) -> int:
    """Bars that a MACD needs: the slower average settled, and then its signal line.

    Stricter than for an average by itself: the histogram is a small difference of large numbers.
    """
    return ema_bars(max(fast, slow), 1e-6) + ema_bars(signal, 1e-6)


def middle_of(high: Values, low: Values, period: int, ago: int = 0) -> float:
    """Middle between the highest high and the lowest low of `period` bars that ended `ago` bars before the last."""
    stop = len(high) - ago
    return (float(high[stop - period : stop].max()) + float(low[stop - period : stop].min())) / 2.0
