"""BOLLINGER_REVERSION: back from the band, with the trend."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import talib

from botproc.strategy import Action, Signal, Strategy, StrategyParams, figure, param, side_of

if TYPE_CHECKING:
    import pandas as pd


class BollingerReversionParams(StrategyParams):
    """Periods in bars; the band's width in standard deviations (of the population, as TA-Lib has it)."""

    length: int = param(20, ge=2, le=500, step=1, label="Band length", help="Period of the bands, in bars.")
    std: float = param(2.0, ge=0.1, le=10, step=0.1, label="Band width", help="Width in standard deviations.")
    trend: int = param(200, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")


class BollingerReversion(Strategy):
    """BUY when the close is above the trend's SMA and the low touches the lower band; SELL when the close is below
    it and the high touches the upper band."""

    id = "BOLLINGER_REVERSION"
    title = "Bollinger reversion with the trend"
    Params: ClassVar[type[StrategyParams]] = BollingerReversionParams
    columns_only = True
    params: BollingerReversionParams

    @property
    def lookback(self) -> int:
        """The longer of the two windows; the rule looks at the last bar alone."""
        return max(self.params.length, self.params.trend)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close = self.last(bars, "close")
        low, high = float(self.last(bars, "low")[-1]), float(self.last(bars, "high")[-1])
        p = self.params
        trend, price = float(talib.SMA(close[-p.trend :], p.trend)[-1]), float(close[-1])
        bands = talib.BBANDS(close[-p.length :], p.length, p.std, p.std)
        upper, middle, lower = (float(band[-1]) for band in bands)
        direction = side_of(price, trend)
        tail = f"the close {figure(price)} is {('on', 'above', 'below')[direction]} SMA({p.trend}) {figure(trend)}"
        action: Action
        if direction > 0 and low <= lower:
            action, text = "BUY", f"The low {figure(low)} touched the lower band {figure(lower)} while {tail}"
        elif direction < 0 and high >= upper:
            action, text = "SELL", f"The high {figure(high)} touched the upper band {figure(upper)} while {tail}"
        elif direction > 0:
            action, text = "HOLD", f"The low {figure(low)} is above the lower band {figure(lower)}; {tail}"
        elif direction < 0:
            action, text = "HOLD", f"The high {figure(high)} is below the upper band {figure(upper)}; {tail}"
        else:
            action, text = "HOLD", f"No trend: {tail}"
        figures = {"upper": upper, "middle": middle, "lower": lower, "trend": trend}
        return Signal(action, price, f"{text}.", figures)
