"""When a price touches a stop: pure rules, no state.

A buy lives on the bid, a sell on the ask, which is the bid and the bar's spread. A stop touched inside a bar is
filled at its own price; a bar that opens beyond it (a gap) fills at the opening price. Where one bar touches
both SL and TP nobody knows which came first: the SL is taken, the worse of the two.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.api import DEAL_REASON_SL, DEAL_REASON_TP, POSITION_TYPE_BUY
from broker.symbols import SymbolSpec


class Position(NamedTuple):
    """An open position. `swap` is what has gathered so far; sl and tp are 0 where there is none."""

    ticket: int
    identifier: int
    symbol: str
    type: int
    volume: float
    price_open: float
    sl: float
    tp: float
    swap: float
    time_msc: int
    time_update_msc: int
    magic: int
    reason: int
    comment: str

    @property
    def buy(self) -> bool:
        """Whether it gains when the price rises."""
        return self.type == POSITION_TYPE_BUY


class Fill(NamedTuple):
    """A stop was touched: at which price it is filled, and why (DEAL_REASON_SL or _TP)."""

    price: float
    reason: int


def inside_bar(position: Position, spec: SymbolSpec, high: float, low: float, spread: int) -> Fill | None:
    """What a bar does to a position that was open during all of it. Prices of the bid, `spread` in points."""
    add = 0.0 if position.buy else spread * spec.point
    high, low = round(high + add, spec.digits), round(low + add, spec.digits)
    sl, tp = position.sl, position.tp
    if position.buy:
        if sl and low <= sl:
            return Fill(sl, DEAL_REASON_SL)
        return Fill(tp, DEAL_REASON_TP) if tp and high >= tp else None
    if sl and high >= sl:
        return Fill(sl, DEAL_REASON_SL)
    return Fill(tp, DEAL_REASON_TP) if tp and low <= tp else None


def at_open(position: Position, bid: float, ask: float) -> Fill | None:
    """What a bar's opening quote does to a position: beyond a stop it is filled at that quote."""
    price = bid if position.buy else ask
    sl, tp = position.sl, position.tp
    if sl and (price <= sl if position.buy else price >= sl):
        return Fill(price, DEAL_REASON_SL)
    if tp and (price >= tp if position.buy else price <= tp):
        return Fill(price, DEAL_REASON_TP)
    return None


def stops_allowed(spec: SymbolSpec, buy: bool, bid: float, ask: float, sl: float, tp: float) -> bool:
    """Whether sl and tp (0: none) lie on their sides, at least `stops_level` points from the closing price.

    Buy: bid - sl and tp - bid; sell: sl - ask and ask - tp (mql5.com article 2555).
    """
    price = bid if buy else ask
    down, up = (sl, tp) if buy else (tp, sl)
    # Exactly `stops_level` points away is allowed, and must not fail for a float's last bit.
    least = spec.stops_level * spec.point - spec.point / 1000
    if down and not (price - down >= least and down < price):
        return False
    return not (up and not (up - price >= least and up > price))
