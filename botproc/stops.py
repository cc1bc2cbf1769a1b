"""Where the stop loss and the take profit lie: multiples of ATR(14) from the entry, where the broker takes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import talib

from botproc.desk import Side
from botproc.sizing import NoEntry, exact

if TYPE_CHECKING:
    import pandas as pd

    from broker.api import Rates

    #: Closed bars, oldest first: a frame, or the array that a bot keeps.
    Bars = pd.DataFrame | Rates

ATR_PERIOD: Final = 14
#: Fewest bars for an ATR: four periods. Below, Wilder's smoothing is mostly its seed.
ATR_BARS: Final = 4 * ATR_PERIOD + 1
#: Bars that a bot keeps, and the most that ATR looks at: with the same bars at hand it has the same value.
HISTORY: Final = 250


@dataclass(frozen=True, slots=True)
class Stops:
    """Prices of an entry. `tp` is 0 where there is none."""

    price: float
    sl: float
    tp: float


def atr(bars: Bars) -> float:
    """ATR(14) with Wilder's smoothing on the last bar, in price units, from at most the last `HISTORY` bars.

    True range = max(high - low, |high - close before|, |low - close before|); the first value is the mean of
    14 of them, then (13 * before + true range) / 14. Raises NoEntry with too few bars or in a dead market.
    """
    if len(bars) < ATR_BARS:
        raise NoEntry("atr", f"ATR({ATR_PERIOD}) needs {ATR_BARS} closed bars; there are {len(bars)}")
    high, low, close = (np.asarray(bars[name], dtype=np.float64)[-HISTORY:] for name in ("high", "low", "close"))
    value = float(talib.ATR(high, low, close, ATR_PERIOD)[-1])
    if not value > 0:  # also where it is NaN
        raise NoEntry("atr", f"ATR({ATR_PERIOD}) is {value:g}: the market does not move, a stop has no distance")
    return value


def place(
    side: Side, info: dict[str, Any], tick: dict[str, Any], distance: float, sl_multiple: float, tp_multiple: float
) -> Stops:
    """Stops of a market entry; `distance` is the ATR.

    A buy fills at the ask and is closed at the bid, so its stops keep `trade_stops_level` points from the bid;
    a sell mirrors it. Rounded to the symbol's digits (and its tick size, where that is coarser); what is too
    near is moved out to the nearest price allowed. Raises NoEntry without a quote, or with a stop at or below
    zero.
    """
    bid, ask = exact(tick["bid"]), exact(tick["ask"])
    if bid <= 0 or ask <= 0:
        raise NoEntry("quote", f"there is no quote for {info.get('name', 'the symbol')}")
    grid = max(Decimal(1).scaleb(-int(info["digits"])), exact(info.get("trade_tick_size") or 0.0))
    # At least one step even where the broker asks for none: a stop at the market's price is on the wrong side.
    gap = max(exact(info.get("trade_stops_level") or 0) * exact(info["point"]), grid)
    unit, price, leave = (1, ask, bid) if side == "buy" else (-1, bid, ask)
    reach = unit * exact(distance)
    sl = _clear(_snap(price - reach * exact(sl_multiple), grid), leave - unit * gap, -unit, grid)
    tp = Decimal(0)
    if tp_multiple > 0:
        # A sell's target below zero is never reached: there is none then.
        tp = max(_clear(_snap(price + reach * exact(tp_multiple), grid), leave + unit * gap, unit, grid), tp)
    if sl <= 0:
        raise NoEntry("stop", f"the stop loss would be at {sl}: the distance is larger than the price")
    return Stops(float(price), float(sl), float(tp))


def _snap(price: Decimal, grid: Decimal) -> Decimal:
    return (price / grid).to_integral_value(rounding=ROUND_HALF_EVEN) * grid


def _clear(price: Decimal, nearest: Decimal, away: int, grid: Decimal) -> Decimal:
    """`price`, or where it is nearer than `nearest`, the first step of the grid beyond (away: 1 up, -1 down)."""
    if (price - nearest) * away >= 0:
        return price
    rounding = ROUND_CEILING if away > 0 else ROUND_FLOOR
    return (nearest / grid).to_integral_value(rounding=rounding) * grid
