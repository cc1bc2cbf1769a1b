"""INDEX_BREAKOUT_PRO: a level that was tested and broken, with the votes of structure and volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import talib

from botproc.indicators import sma
from botproc.strategy import Action, Signal, Strategy, StrategyParams, figure, param, side_of, wilder_bars

if TYPE_CHECKING:
    import pandas as pd

    from botproc.indicators import Values

_ATR: Final = 14
#: A bar touches a level when its end is nearer than this share of the ATR.
_NEAR: Final = 0.5


class IndexBreakoutProParams(StrategyParams):
    """Periods in bars; sizes in multiples of ATR(14); volume as a multiple of its mean."""

    breakout: int = param(20, ge=3, le=500, step=1, label="Level", help="Bars whose high and low are the levels.")
    volume_multiple: float = param(
        1.5, ge=0, le=20, step=0.1, label="Volume", help="Volume of the break, as a multiple of the mean before it."
    )
    confirm: int = param(2, ge=1, le=20, step=1, label="Confirmation", help="Closes in a row beyond the level.")
    touches: int = param(3, ge=1, le=20, step=1, label="Touches", help="Bars that tested the level before.")
    min_size: float = param(0.2, ge=0, le=10, step=0.1, label="Size", help="The last close beyond the level, in ATR.")
    trend: int = param(50, ge=2, le=1000, step=1, label="Trend", help="Period of the trend's SMA, and of the VWAP.")
    use_vwap: bool = param(True, label="VWAP", help="Whether the volume-weighted average price has a vote.")


class IndexBreakoutPro(Strategy):
    """BUY when the last `confirm` closes are above the resistance, the last by `min_size` times ATR(14), and at most
    one vote is missing: `touches` bars tested the level, the close is above the trend's SMA, it is above the VWAP,
    and the break's volume is `volume_multiple` times the mean before it. SELL mirrors it at the support.

    Resistance and support are the highest high and the lowest low of the `breakout` bars before those closes. A bar
    tests a level when its high (low) lies within half an ATR of it. The volume is the largest of the closes that
    confirm, its mean that of the `breakout` bars. The VWAP is that of `trend` bars, over their typical prices
    (high + low + close) / 3.
    """

    id = "INDEX_BREAKOUT_PRO"
    title = "Confirmed break of a tested level"
    Params: ClassVar[type[StrategyParams]] = IndexBreakoutProParams
    columns_only = True
    params: IndexBreakoutProParams

    @property
    def lookback(self) -> int:
        """The level's bars and those that confirm, the trend's window, or the ATR settled."""
        p = self.params
        return max(p.breakout + p.confirm, p.trend, wilder_bars(_ATR) + 1)

    def analyze(self, bars: pd.DataFrame) -> Signal:
        """See the class."""
        close, high, low = (self.last(bars, name) for name in ("close", "high", "low"))
        volume, p, price = self.last(bars, "tick_volume"), self.params, float(close[-1])
        before = slice(-p.breakout - p.confirm, -p.confirm)
        top, bottom = float(high[before].max()), float(low[before].min())
        atr = float(talib.ATR(high, low, close, _ATR)[-1])
        newest = close[-p.confirm :]
        side = 1 if newest.min() > top else -1 if newest.max() < bottom else 0
        figures = {"resistance": top, "support": bottom, "atr": atr}
        if not side:
            text = f"The close {figure(price)} has not broken {figure(bottom)} or {figure(top)}"
            return Signal("HOLD", price, f"{text} with {p.confirm} closes.", figures)
        level, ends = (top, high[before]) if side > 0 else (bottom, low[before])
        size = abs(price - level) / atr if atr > 0 else 0.0
        mean = float(volume[before].mean())
        ratio = float(volume[-p.confirm :].max()) / mean if mean > 0 else 0.0
        tests, trend = int((abs(ends - level) <= _NEAR * atr).sum()), sma(close, p.trend)
        vwap = _vwap(high[-p.trend :], low[-p.trend :], close[-p.trend :], volume[-p.trend :])
        votes = {
            f"{tests} tests": tests >= p.touches,
            f"SMA({p.trend}) {figure(trend)}": side_of(price, trend) == side,
            f"volume {ratio:.2f} x": ratio >= p.volume_multiple,
        }
        if p.use_vwap:
            votes[f"VWAP {figure(vwap)}"] = side_of(price, vwap) == side
        for_it = sum(votes.values())
        figures |= {"size": size, "tests": float(tests), "volume_ratio": ratio, "trend": trend, "vwap": vwap}
        action: Action = "HOLD"
        if size >= p.min_size and for_it >= len(votes) - 1:
            action = "BUY" if side > 0 else "SELL"
        name = "resistance" if side > 0 else "support"
        text = f"{p.confirm} closes {'above' if side > 0 else 'below'} the {name} {figure(level)}, by {size:.2f} x ATR"
        told = ", ".join(f"{'yes' if said else 'no'} {what}" for what, said in votes.items())
        return Signal(action, price, f"{text}; {for_it} of {len(votes)} votes ({told}).", figures | {"votes": for_it})


def _vwap(high: Values, low: Values, close: Values, volume: Values) -> float:
    """Mean of the typical prices, weighted by volume; of equal weights where there is no volume."""
    typical = (high + low + close) / 3.0
    total = float(volume.sum())
    return float((typical * volume).sum()) / total if total > 0 else float(typical.mean())
