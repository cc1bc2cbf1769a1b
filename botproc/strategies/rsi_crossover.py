"""RSI_CROSSOVER: the RSI crosses its own average, with the trend."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import talib

from botproc.strategy import Action, Signal, Strategy, StrategyParams, crossing, figure, param, side_of, wilder_bars

if TYPE_CHECKING:
    import pandas as pd


class RsiCrossoverParams(StrategyParams):
    """Periods, in bars."""

    rsi: int = param(14, ge=2, le=100, step=1, label="RSI", help="Period of the RSI, in bars.")
    rsi_ma: int = param(10, ge=2, le=100, step=1, label="RSI average", help="Period of the RSI's own SMA, in bars.")
    trend: int = param(50, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")


class RsiCrossover(Strategy):
    """BUY when the RSI crosses above its own SMA while the close is above the trend's SMA; SELL when it crosses
    below while the close is below."""

    id = "RSI_CROSSOVER"
    title = "RSI crossover with the trend"
    Params: ClassVar[type[StrategyParams]] = RsiCrossoverParams
    columns_only = True
    params: RsiCrossoverParams

    @property
    def lookback(self) -> int:
        """The RSI settled, its average on the last bar and on the one before; the trend's average."""
        return max(wilder_bars(self.params.rsi) + self.params.rsi_ma + 1, self.params.trend)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close = self.last(bars, "close")
        p = self.params
        line = talib.RSI(close, p.rsi)
        average_line = talib.SMA(line, p.rsi_ma)
        trend = float(talib.SMA(close[-p.trend :], p.trend)[-1])
        price = float(close[-1])
        before, rsi = float(line[-2]), float(line[-1])
        average_before, average = float(average_line[-2]), float(average_line[-1])
        cross, direction = crossing(before, average_before, rsi, average), side_of(price, trend)
        where = ("on", "above", "below")[direction]
        tail = f"the close {figure(price)} is {where} SMA({p.trend}) {figure(trend)}"
        action: Action
        if cross == 0:
            action, text = "HOLD", f"No cross: RSI({p.rsi}) {rsi:.2f} against its average {average:.2f}; {tail}"
        else:
            text = f"RSI({p.rsi}) {rsi:.2f} crossed {'above' if cross > 0 else 'below'} its average {average:.2f}"
            if cross == direction:
                action, text = ("BUY" if cross > 0 else "SELL"), f"{text} and {tail}"
            else:
                action, text = "HOLD", f"{text}, but {tail}"
        figures = {
            "rsi": rsi,
            "rsi_ma": average,
            "rsi_before": before,
            "rsi_ma_before": average_before,
            "trend": trend,
        }
        return Signal(action, price, f"{text}.", figures)
