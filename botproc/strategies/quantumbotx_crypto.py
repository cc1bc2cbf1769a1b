"""QUANTUMBOTX_CRYPTO: the hybrid for markets that never close, with gates of RSI, volatility and weekend."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import talib
from pydantic import model_validator

from botproc.strategies.regime import RegimeParams, read
from botproc.strategy import Action, Signal, Strategy, StrategyParams, param, wilder_bars

if TYPE_CHECKING:
    import pandas as pd

    from botproc.indicators import Values

_DAY_OF_BARS: Final = 24
_WEEKEND_DISTANCE: Final = 15.0
_SATURDAY: Final = 5
_DAY: Final = 86_400


class QuantumbotxCryptoParams(RegimeParams):
    """Periods in bars; the band's width in standard deviations; volatility in percent."""

    adx: int = param(10, ge=2, le=100, step=1, label="ADX", help="Period of the ADX, in bars.")
    adx_threshold: float = param(20, ge=0, le=100, step=1, label="ADX threshold", help="Above it the market trends.")
    fast: int = param(12, ge=2, le=500, step=1, label="Fast average", help="Period of the fast SMA, in bars.")
    slow: int = param(26, ge=3, le=1000, step=1, label="Slow average", help="Period of the slow SMA, in bars.")
    length: int = param(20, ge=2, le=500, step=1, label="Band length", help="Period of the bands, in bars.")
    std: float = param(2.2, ge=0.1, le=10, step=0.1, label="Band width", help="Width in standard deviations.")
    trend: int = param(100, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, in bars.")
    rsi: int = param(14, ge=2, le=100, step=1, label="RSI", help="Period of the RSI, in bars.")
    rsi_overbought: float = param(75, ge=50, le=100, step=1, label="Overbought", help="RSI that counts as too high.")
    rsi_oversold: float = param(25, ge=0, le=50, step=1, label="Oversold", help="RSI that counts as too low.")
    volatility_filter: float = param(
        2.0, ge=0.1, le=100, step=0.1, label="Volatility filter",
        help="No entry where 24 closes deviate by more than this, in percent of their mean.",
    )  # fmt: skip
    weekend_mode: bool = param(True, label="Weekend mode", help="At weekends only with the RSI 15 or more from 50.")

    @model_validator(mode="after")
    def _room_between(self) -> QuantumbotxCryptoParams:
        if self.rsi_oversold >= self.rsi_overbought:
            raise ValueError(f"rsi_oversold ({self.rsi_oversold:g}) must be less than rsi_overbought")
        return self


class QuantumbotxCrypto(Strategy):
    """The rule of QUANTUMBOTX_HYBRID behind gates: a cross counts while the RSI is not yet overbought (SELL: oversold),
    a touch of the band only when it is oversold (SELL: overbought); nothing while the closes of 24 bars deviate by
    more than `volatility_filter` percent, nor at weekends with the RSI within 15 of 50.

    The weekend is that of the server's clock: a bar that opens on Saturday or Sunday.
    """

    id = "QUANTUMBOTX_CRYPTO"
    title = "Hybrid for crypto markets"
    Params: ClassVar[type[StrategyParams]] = QuantumbotxCryptoParams
    columns_only = True
    params: QuantumbotxCryptoParams

    @property
    def lookback(self) -> int:
        """The longest of the windows, with ADX and RSI settled."""
        return max(self.params.regime_bars, wilder_bars(self.params.rsi) + 1, _DAY_OF_BARS)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        regime, rsi = read(high, low, close, self.params), float(talib.RSI(close, self.params.rsi)[-1])
        volatility = _deviation(close[-_DAY_OF_BARS:])
        weekend = _weekday(self.last(bars, "time")[-1]) >= _SATURDAY
        refusal = self._refusal(regime.side, regime.trending, rsi, volatility, weekend) if regime.side else ""
        action: Action = "HOLD"
        if regime.side and not refusal:
            action = "BUY" if regime.side > 0 else "SELL"
        text = f"{regime.text}; {refusal}" if refusal else f"{regime.text}; RSI({self.params.rsi}) is {rsi:.2f}"
        figures = {**regime.figures, "rsi": rsi, "volatility": volatility}
        return Signal(action, float(close[-1]), f"{text}.", figures)

    def _refusal(self, side: int, trending: bool, rsi: float, volatility: float, weekend: bool) -> str:
        """Why a side is not taken; empty where it is."""
        p = self.params
        if volatility > p.volatility_filter:
            return f"not taken: 24 closes deviate by {volatility:.2f} %, more than {p.volatility_filter:g}"
        if trending:
            passed = rsi < p.rsi_overbought if side > 0 else rsi > p.rsi_oversold
        else:
            passed = rsi < p.rsi_oversold if side > 0 else rsi > p.rsi_overbought
        if not passed:
            return f"not taken: RSI({p.rsi}) is {rsi:.2f}"
        if p.weekend_mode and weekend and abs(rsi - 50.0) < _WEEKEND_DISTANCE:
            return f"not taken at a weekend: RSI({p.rsi}) {rsi:.2f} is too near 50"
        return ""


def _weekday(moment: float) -> int:
    """Of a moment by the server's clock; Monday 0."""
    return (int(moment) // _DAY + 3) % 7  # 1970-01-01 was a Thursday


def _deviation(close: Values) -> float:
    """Population deviation in percent of the mean."""
    return float(100.0 * np.std(close) / np.mean(close))
