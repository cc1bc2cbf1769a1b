"""MA_CROSSOVER: two simple moving averages cross."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import talib
from pydantic import model_validator

from botproc.strategy import Action, Signal, Strategy, StrategyParams, crossing, figure, param, side_of

if TYPE_CHECKING:
    import pandas as pd


class MaCrossoverParams(StrategyParams):
    """Periods of the two averages, in bars."""

    fast: int = param(20, ge=2, le=500, step=1, label="Fast average", help="Period of the fast SMA, in bars.")
    slow: int = param(50, ge=3, le=1000, step=1, label="Slow average", help="Period of the slow SMA, in bars.")

    @model_validator(mode="after")
    def _fast_below_slow(self) -> MaCrossoverParams:
        if self.fast >= self.slow:
            raise ValueError(f"fast ({self.fast}) must be less than slow ({self.slow})")
        return self


class MaCrossover(Strategy):
    """BUY when the fast SMA of the close crosses above the slow one, SELL when it crosses below."""

    id = "MA_CROSSOVER"
    title = "Moving average crossover"
    Params: ClassVar[type[StrategyParams]] = MaCrossoverParams
    columns_only = True
    params: MaCrossoverParams

    @property
    def lookback(self) -> int:
        """The slow average on the last bar and on the one before."""
        return self.params.slow + 1

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close = self.last(bars, "close")
        p = self.params
        fast_line, slow_line = talib.SMA(close, p.fast), talib.SMA(close, p.slow)
        fast_before, fast = float(fast_line[-2]), float(fast_line[-1])
        slow_before, slow = float(slow_line[-2]), float(slow_line[-1])
        names = f"SMA({p.fast}) {figure(fast)}", f"SMA({p.slow}) {figure(slow)}"
        action: Action
        match crossing(fast_before, slow_before, fast, slow):
            case 1:
                action, text = "BUY", f"{names[0]} crossed above {names[1]}"
            case -1:
                action, text = "SELL", f"{names[0]} crossed below {names[1]}"
            case _:
                side = ("on", "above", "below")[side_of(fast, slow)]
                action, text = "HOLD", f"No cross: {names[0]} is {side} {names[1]}"
        figures = {"fast": fast, "slow": slow, "fast_before": fast_before, "slow_before": slow_before}
        return Signal(action, float(close[-1]), f"{text}.", figures)
