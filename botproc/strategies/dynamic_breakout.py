"""DYNAMIC_BREAKOUT: out of a channel with the trend, by a bar that is large enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import talib

from botproc.indicators import ema
from botproc.strategy import Action, Signal, Strategy, StrategyParams, ema_bars, figure, param, side_of, wilder_bars

if TYPE_CHECKING:
    import pandas as pd


class DynamicBreakoutParams(StrategyParams):
    """Periods in bars; the bar's range in multiples of the ATR."""

    donchian: int = param(20, ge=2, le=500, step=1, label="Channel", help="Bars of the channel to break out of.")
    ema: int = param(50, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's EMA, in bars.")
    atr: int = param(14, ge=2, le=200, step=1, label="ATR", help="Period of the ATR, in bars.")
    multiple: float = param(
        0.8, ge=0, le=10, step=0.1, label="Bar range", help="The bar's range must exceed this multiple of the ATR."
    )


class DynamicBreakout(Strategy):
    """BUY when the close is above the highest high of the `donchian` bars before and above the EMA, and the bar's
    range exceeds `multiple` times the ATR; SELL when it is below their lowest low and below the EMA, by such a bar."""

    id = "DYNAMIC_BREAKOUT"
    title = "Channel breakout by a large bar"
    Params: ClassVar[type[StrategyParams]] = DynamicBreakoutParams
    columns_only = True
    params: DynamicBreakoutParams

    @property
    def lookback(self) -> int:
        """The channel and the bar that breaks it, the EMA settled, or the ATR settled."""
        return max(self.params.donchian + 1, ema_bars(self.params.ema), wilder_bars(self.params.atr) + 1)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        p, price = self.params, float(close[-1])
        top, bottom = float(high[-p.donchian - 1 : -1].max()), float(low[-p.donchian - 1 : -1].min())
        trend, atr = ema(close, p.ema), float(talib.ATR(high, low, close, p.atr)[-1])
        span = float(high[-1] - low[-1])
        figures = {"top": top, "bottom": bottom, "trend": trend, "atr": atr, "range": span}
        side = 1 if price > top else -1 if price < bottom else 0
        if not side:
            text = f"The close {figure(price)} is inside the channel {figure(bottom)} to {figure(top)}."
            return Signal("HOLD", price, text, figures)
        edge = f"above the channel's top {figure(top)}" if side > 0 else f"below its bottom {figure(bottom)}"
        where = ("on", "above", "below")[side_of(price, trend)]
        large = span > p.multiple * atr
        action: Action = "HOLD"
        if large and side == side_of(price, trend):
            action = "BUY" if side > 0 else "SELL"
        tail = f"{'and' if action != 'HOLD' else 'but'} {where} EMA({p.ema}) {figure(trend)}, by a bar of"
        tail += f" {span / atr if atr > 0 else 0.0:.2f} x ATR({p.atr}) {figure(atr)}"
        return Signal(action, price, f"The close {figure(price)} is {edge}, {tail}.", figures)
