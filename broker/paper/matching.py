"""When a price touches a level: pure rules, no state.

A buy position lives on the bid and a sell on the ask; a buy order waits for the ask and a sell order for the
bid. The ask is the bid and the bar's spread. A level that the price passes on its way is filled at its own
price; one that lies behind already when the price appears (a gap) is filled at that price.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from broker import api
from broker.api import DEAL_REASON_SL, DEAL_REASON_TP, POSITION_TYPE_BUY, TradeOrder
from broker.paper.path import Way
from broker.symbols import SymbolSpec

#: Types of pending orders that buy, and those whose level the price must rise to.
BUYING: Final = frozenset(
    {api.ORDER_TYPE_BUY, api.ORDER_TYPE_BUY_LIMIT, api.ORDER_TYPE_BUY_STOP, api.ORDER_TYPE_BUY_STOP_LIMIT}
)
LIMITS: Final = frozenset({api.ORDER_TYPE_BUY_LIMIT, api.ORDER_TYPE_SELL_LIMIT})
STOPS: Final = frozenset({api.ORDER_TYPE_BUY_STOP, api.ORDER_TYPE_SELL_STOP})
STOP_LIMITS: Final = frozenset({api.ORDER_TYPE_BUY_STOP_LIMIT, api.ORDER_TYPE_SELL_STOP_LIMIT})
MARKET: Final = frozenset({api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL})
PENDING: Final = LIMITS | STOPS | STOP_LIMITS
_ABOVE: Final = frozenset(
    {api.ORDER_TYPE_SELL_LIMIT, api.ORDER_TYPE_BUY_STOP, api.ORDER_TYPE_BUY_STOP_LIMIT}
)  # fmt: skip


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


class Watch(NamedTuple):
    """The levels of one position or order: what happens at or below `below`, and at or above `above` (0: none)."""

    ticket: int
    position: bool
    on_ask: bool
    below: float
    above: float

    @classmethod
    def of_position(cls, position: Position) -> Watch:
        """Its SL and TP."""
        down, up = (position.sl, position.tp) if position.buy else (position.tp, position.sl)
        return cls(position.ticket, True, not position.buy, down, up)

    @classmethod
    def of_order(cls, order: TradeOrder) -> Watch:
        """Its price; for a stop-limit order the price at which the limit order is placed."""
        above = order.type in _ABOVE
        price = order.price_open
        return cls(order.ticket, False, order.type in BUYING, 0.0 if above else price, price if above else 0.0)


class Touch(NamedTuple):
    """A level that the price reached: of what, on its side's price, and where the bid stood then."""

    watch: Watch
    price: float
    bid: float
    upper: bool  # the level `above`


class Reach(NamedTuple):
    """How far bid and ask must go before anything of a symbol is touched: the quick question before the exact one."""

    bid_down: float
    bid_up: float
    ask_down: float
    ask_up: float

    @classmethod
    def of(cls, watches: Iterable[Watch]) -> Reach:
        """The nearest levels of all."""
        down, up = [-inf, -inf], [inf, inf]
        for watch in watches:
            if watch.below:
                down[watch.on_ask] = max(down[watch.on_ask], watch.below)
            if watch.above:
                up[watch.on_ask] = min(up[watch.on_ask], watch.above)
        return cls(down[0], up[0], down[1], up[1])

    def includes(self, way: Way, spread: float, digits: int) -> bool:
        """Whether anything can be touched on that way of the bid."""
        low, high = min(way), max(way)
        return (
            low <= self.bid_down
            or high >= self.bid_up
            or round(low + spread, digits) <= self.ask_down
            or round(high + spread, digits) >= self.ask_up
        )


def first_touch(watches: Iterable[Watch], start: float, end: float, spread: float, digits: int) -> Touch | None:
    """What the bid touches first on its way from `start` to `end`; at the same price the first in the order given."""
    nearest: Touch | None = None
    least = 0.0
    for watch in watches:
        add = spread if watch.on_ask else 0.0
        begin, finish = round(start + add, digits), round(end + add, digits)
        upper = False
        if watch.below and min(begin, finish) <= watch.below:
            price = min(begin, watch.below)
        elif watch.above and max(begin, finish) >= watch.above:
            price, upper = max(begin, watch.above), True
        else:
            continue
        way = abs(price - begin)
        if nearest is None or way < least:
            bid = start if price == begin else round(price - add, digits)
            nearest, least = Touch(watch, price, bid, upper), way
    return nearest


def reason_of(position: Position, touch: Touch) -> int:
    """Whether the level touched is the position's stop loss or its take profit."""
    return DEAL_REASON_TP if touch.upper == position.buy else DEAL_REASON_SL


def far_enough(spec: SymbolSpec, level: int, upper: float, lower: float) -> bool:
    """Whether `upper` lies above `lower` by at least `level` points. A float's last bit does not count."""
    return upper - lower >= level * spec.point - spec.point / 1000 and upper > lower


def stops_allowed(spec: SymbolSpec, buy: bool, bid: float, ask: float, sl: float, tp: float) -> bool:
    """Whether sl and tp (0: none) lie on their sides, at least `stops_level` points from the closing price.

    Buy: bid - sl and tp - bid; sell: sl - ask and ask - tp (mql5.com article 2555). For a pending order both
    prices are the order's own.
    """
    price = bid if buy else ask
    down, up = (sl, tp) if buy else (tp, sl)
    if down and not far_enough(spec, spec.stops_level, price, down):
        return False
    return not (up and not far_enough(spec, spec.stops_level, up, price))


def frozen(spec: SymbolSpec, price: float, *levels: float) -> bool:
    """Whether one of the levels (0: none) is so near to the price that it cannot be changed any more."""
    if not spec.freeze_level:
        return False
    near = spec.freeze_level * spec.point + spec.point / 1000
    return any(level and abs(level - price) <= near for level in levels)
