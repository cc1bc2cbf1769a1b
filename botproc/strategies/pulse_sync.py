"""PULSE_SYNC: trend, MACD and stochastic beat together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import talib
from pydantic import model_validator

from botproc.indicators import macd_bars, sma
from botproc.strategy import Action, Signal, Strategy, StrategyParams, crossing, figure, param, side_of

if TYPE_CHECKING:
    import pandas as pd

_SMA: Any = 0  # TA-Lib's number of the simple average


class PulseSyncParams(StrategyParams):
    """Periods, in bars."""

    trend: int = param(100, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")
    macd_fast: int = param(12, ge=2, le=200, step=1, label="MACD fast", help="Period of the MACD's fast EMA.")
    macd_slow: int = param(26, ge=3, le=400, step=1, label="MACD slow", help="Period of the MACD's slow EMA.")
    macd_signal: int = param(9, ge=2, le=200, step=1, label="MACD signal", help="Period of the MACD's signal line.")
    stoch_k: int = param(14, ge=2, le=200, step=1, label="Stochastic %K", help="Bars of the stochastic's range.")
    stoch_slow: int = param(3, ge=1, le=50, step=1, label="Stochastic slowing", help="SMA that makes the slow %K.")
    stoch_d: int = param(3, ge=1, le=50, step=1, label="Stochastic %D", help="SMA of the slow %K that makes the %D.")

    @model_validator(mode="after")
    def _fast_below_slow(self) -> PulseSyncParams:
        if self.macd_fast >= self.macd_slow:
            raise ValueError(f"macd_fast ({self.macd_fast}) must be less than macd_slow ({self.macd_slow})")
        return self


class PulseSync(Strategy):
    """BUY when the close is above the trend's SMA, the MACD histogram above zero, and the stochastic's %K crosses
    above its %D; SELL when the close is below, the histogram below zero, and %K crosses below %D."""

    id = "PULSE_SYNC"
    title = "Trend, MACD and stochastic in step"
    Params: ClassVar[type[StrategyParams]] = PulseSyncParams
    columns_only = True
    params: PulseSyncParams

    @property
    def lookback(self) -> int:
        """The trend's window, the MACD settled, or the stochastic's windows on the last bar and the one before."""
        p = self.params
        return max(p.trend, macd_bars(p.macd_fast, p.macd_slow, p.macd_signal), p.stoch_k + p.stoch_slow + p.stoch_d)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        p = self.params
        price, trend = float(close[-1]), sma(close, p.trend)
        needed = macd_bars(p.macd_fast, p.macd_slow, p.macd_signal)
        histogram = float(talib.MACD(close[-needed:], p.macd_fast, p.macd_slow, p.macd_signal)[2][-1])
        k_line, d_line = talib.STOCH(high, low, close, p.stoch_k, p.stoch_slow, _SMA, p.stoch_d, _SMA)
        # Running sums leave 1e-14 where the stochastic is zero, and that would cross.
        (k_before, k), (d_before, d) = (np.round(line[-2:], 9).tolist() for line in (k_line, d_line))
        cross = crossing(k_before, d_before, k, d)
        direction = side_of(price, trend)
        # Against the price: in a market that stands still a histogram is rounding alone.
        pulse = side_of(price + histogram, price)
        words = ("on", "above", "below")
        tail = f"the close {figure(price)} is {words[direction]} SMA({p.trend}) {figure(trend)}"
        tail += f" and the MACD histogram {figure(histogram)} {words[pulse]} zero"
        stochastic = f"%K {k:.2f} {('has not crossed', 'crossed above', 'crossed below')[cross]} %D {d:.2f}"
        action: Action = "HOLD"
        if cross and cross == direction == pulse:
            action = "BUY" if cross > 0 else "SELL"
        joint = ", and " if action != "HOLD" else ", but " if cross else "; "
        figures = {"trend": trend, "histogram": histogram, "k": k, "d": d}
        return Signal(action, price, f"{stochastic[:1].upper()}{stochastic[1:]}{joint}{tail}.", figures)
