"""QUANTUMBOTX_HYBRID: crosses where there is a trend, bands where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from botproc.strategies.regime import RegimeParams, read
from botproc.strategy import Action, Signal, Strategy, StrategyParams, param

if TYPE_CHECKING:
    import pandas as pd


class QuantumbotxHybridParams(RegimeParams):
    """Periods in bars; the band's width in standard deviations."""

    adx: int = param(14, ge=2, le=100, step=1, label="ADX", help="Period of the ADX, in bars.")
    adx_threshold: float = param(25, ge=0, le=100, step=1, label="ADX threshold", help="Above it the market trends.")
    fast: int = param(20, ge=2, le=500, step=1, label="Fast average", help="Period of the fast SMA, in bars.")
    slow: int = param(50, ge=3, le=1000, step=1, label="Slow average", help="Period of the slow SMA, in bars.")
    length: int = param(20, ge=2, le=500, step=1, label="Band length", help="Period of the bands, in bars.")
    std: float = param(2.0, ge=0.1, le=10, step=0.1, label="Band width", help="Width in standard deviations.")
    trend: int = param(200, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")


class QuantumbotxHybrid(Strategy):
    """With the ADX above its threshold: BUY when the fast SMA crosses above the slow one and the close is above the
    trend's SMA, SELL mirrored. Else: BUY when the low touches the lower band and the close is above the trend's SMA,
    SELL when the high touches the upper band and the close is below."""

    id = "QUANTUMBOTX_HYBRID"
    title = "Crosses in trends, bands in ranges"
    Params: ClassVar[type[StrategyParams]] = QuantumbotxHybridParams
    columns_only = True
    params: QuantumbotxHybridParams

    @property
    def lookback(self) -> int:
        """The longest of the windows, with the ADX settled."""
        return self.params.regime_bars

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        regime = read(high, low, close, self.params)
        action: Action = "BUY" if regime.side > 0 else "SELL" if regime.side < 0 else "HOLD"
        return Signal(action, float(close[-1]), f"{regime.text}.", regime.figures)
