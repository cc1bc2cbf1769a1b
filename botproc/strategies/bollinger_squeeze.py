"""BOLLINGER_SQUEEZE: out of narrow bands, unless the RSI says that it has gone too far already."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import talib

from botproc.strategies.squeeze import SqueezeParams, breakout
from botproc.strategy import Action, Signal, Strategy, StrategyParams, param, wilder_bars

if TYPE_CHECKING:
    import pandas as pd

_HIGH, _LOW = 70.0, 30.0


class BollingerSqueezeParams(SqueezeParams):
    """Of the squeeze, and of the RSI."""

    rsi: int = param(14, ge=2, le=100, step=1, label="RSI", help="Period of the RSI, in bars.")


class BollingerSqueeze(Strategy):
    """After a bar whose bandwidth was below `squeeze_factor` times its mean over `squeeze_window` bars: BUY when the
    close is above that bar's upper band and the RSI below 70, SELL when it is below its lower band and the RSI
    above 30."""

    id = "BOLLINGER_SQUEEZE"
    title = "Breakout from a Bollinger squeeze"
    Params: ClassVar[type[StrategyParams]] = BollingerSqueezeParams
    columns_only = True
    params: BollingerSqueezeParams

    @property
    def lookback(self) -> int:
        """The squeeze's windows, or the RSI settled."""
        return max(self.params.squeeze_bars, wilder_bars(self.params.rsi) + 1)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, p = self.last(bars, "close"), self.params
        out, rsi = breakout(close, p), float(talib.RSI(close, p.rsi)[-1])
        tail = f"RSI({p.rsi}) is {rsi:.2f}"
        action: Action
        if out.side > 0 and rsi < _HIGH:
            action, text = "BUY", f"{out.text}, and {tail}"
        elif out.side < 0 and rsi > _LOW:
            action, text = "SELL", f"{out.text}, and {tail}"
        elif out.side:
            action, text = "HOLD", f"{out.text}, but {tail}: it has gone far already"
        else:
            action, text = "HOLD", f"{out.text}; {tail}"
        return Signal(action, float(close[-1]), f"{text}.", {**out.figures, "rsi": rsi})
