"""Trending or ranging, and what follows: shared by the two hybrid strategies. No strategy by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import model_validator

from botproc.indicators import adx, adx_bars, bands, sma
from botproc.strategy import StrategyParams, crossing, figure, side_of

if TYPE_CHECKING:
    from botproc.indicators import Values


class RegimeParams(StrategyParams):
    """What both have; each gives its own defaults."""

    adx: int
    adx_threshold: float
    fast: int
    slow: int
    length: int
    std: float
    trend: int

    @model_validator(mode="after")
    def _fast_below_slow(self) -> RegimeParams:
        if self.fast >= self.slow:
            raise ValueError(f"fast ({self.fast}) must be less than slow ({self.slow})")
        return self

    @property
    def regime_bars(self) -> int:
        """Bars that `read` needs."""
        return max(adx_bars(self.adx), self.slow + 1, self.length, self.trend)


class Regime(NamedTuple):
    """What the last bar says."""

    side: int  # 1: buy, -1: sell, 0: nothing
    trending: bool
    text: str
    figures: dict[str, float]


def read(high: Values, low: Values, close: Values, p: RegimeParams) -> Regime:
    """ADX above the threshold: a cross of the averages in the direction of the trend. Else: a touch of the band that
    lies against the trend. The trend: the close against its SMA."""
    price, strength = float(close[-1]), adx(high, low, close, p.adx)
    trend = sma(close, p.trend)
    around = bands(close, p.length, p.std)
    fast, slow = sma(close, p.fast), sma(close, p.slow)
    cross = crossing(sma(close[:-1], p.fast), sma(close[:-1], p.slow), fast, slow)
    direction, trending = side_of(price, trend), strength > p.adx_threshold
    figures = {"adx": strength, "fast": fast, "slow": slow, "upper": around.upper, "lower": around.lower}
    figures["trend"] = trend
    tail = f"the close {figure(price)} is {('on', 'above', 'below')[direction]} SMA({p.trend}) {figure(trend)}"
    head = f"{'Trending' if trending else 'Ranging'} (ADX({p.adx}) {strength:.1f})"
    if trending:
        side = cross if cross == direction else 0
        what = ("has not crossed", "crossed above", "crossed below")[cross]
        event, happened = f"SMA({p.fast}) {figure(fast)} {what} SMA({p.slow}) {figure(slow)}", bool(cross)
    elif direction > 0:
        happened = bool(low[-1] <= around.lower)
        side, what = int(happened), "touched" if happened else "is above"
        event = f"the low {figure(float(low[-1]))} {what} the lower band {figure(around.lower)}"
    elif direction < 0:
        happened = bool(high[-1] >= around.upper)
        side, what = -int(happened), "touched" if happened else "is below"
        event = f"the high {figure(float(high[-1]))} {what} the upper band {figure(around.upper)}"
    else:
        side, happened, event = 0, False, "no trend"
    joint = ", and " if side else ", but " if happened else "; "
    return Regime(side, trending, f"{head}: {event}{joint}{tail}", figures)
