"""A strategy that always has a reason to trade: it turns its position on every bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botproc.strategy import Signal, Strategy

if TYPE_CHECKING:
    import pandas as pd


class Flipper(Strategy):
    """BUY on bars of even hours, SELL on those of odd ones."""

    @property
    def lookback(self) -> int:
        """The last bar says all."""
        return 2

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        hour = int(bars["time"].iloc[-1].timestamp()) // 3600
        return Signal("BUY" if hour % 2 == 0 else "SELL", float(bars["close"].iloc[-1]), f"hour {hour}")
