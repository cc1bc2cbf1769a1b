"""QUANTUM_VELOCITY: out of narrow bands, on the side of a long exponential average."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from botproc.indicators import ema
from botproc.strategies.squeeze import SqueezeParams, breakout
from botproc.strategy import Action, Signal, Strategy, StrategyParams, ema_bars, figure, param, side_of

if TYPE_CHECKING:
    import pandas as pd


class QuantumVelocityParams(SqueezeParams):
    """Of the squeeze, and of the trend."""

    ema: int = param(200, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's EMA, in bars.")


class QuantumVelocity(Strategy):
    """After a bar whose bandwidth was below `squeeze_factor` times its mean over `squeeze_window` bars: BUY when the
    close is above that bar's upper band and above the EMA, SELL when it is below its lower band and below the EMA."""

    id = "QUANTUM_VELOCITY"
    title = "Squeeze breakout with the trend"
    Params: ClassVar[type[StrategyParams]] = QuantumVelocityParams
    columns_only = True
    params: QuantumVelocityParams

    @property
    def lookback(self) -> int:
        """The squeeze's windows, or the EMA settled."""
        return max(self.params.squeeze_bars, ema_bars(self.params.ema))

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, p = self.last(bars, "close"), self.params
        price, out = float(close[-1]), breakout(close, p)
        trend = ema(close[-ema_bars(p.ema) :], p.ema)
        direction = side_of(price, trend)
        tail = f"it is {('on', 'above', 'below')[direction]} EMA({p.ema}) {figure(trend)}"
        action: Action
        if out.side and out.side == direction:
            action, text = ("BUY" if out.side > 0 else "SELL"), f"{out.text}, and {tail}"
        elif out.side:
            action, text = "HOLD", f"{out.text}, but {tail}"
        else:
            action, text = "HOLD", f"{out.text}; the close {figure(price)} against EMA({p.ema}): {tail}"
        return Signal(action, price, f"{text}.", {**out.figures, "trend": trend})
