"""What an execution is made of, and what an account's money comes to."""

from __future__ import annotations

from typing import Any, NamedTuple

from broker import api
from broker.api import TradeDeal, TradeOrder
from broker.symbols import SymbolSpec


class Costs(NamedTuple):
    """What each deal costs, in the account's currency per lot."""

    commission: float = 0.0
    fee: float = 0.0


class Trade(NamedTuple):
    """One execution: what an order, a stop or a stop-out does at a price."""

    spec: SymbolSpec
    buy: bool  # side of the deal, not of the position
    volume: float
    price: float
    time_msc: int
    reason: int
    magic: int = 0
    comment: str = ""
    sl: float = 0.0
    tp: float = 0.0
    filling: int = api.ORDER_FILLING_FOK
    position: int = 0  # ticket to close; 0: open, or in netting whatever the symbol's position needs
    order: int = 0  # ticket of the order that waited for it; 0: an order of its own, done at once
    asked: float = 0.0  # volume of the order, where that is more than `volume`


class Booked(NamedTuple):
    """Tickets of an execution."""

    order: int
    deal: TradeDeal


class Totals(NamedTuple):
    """The account's money now."""

    floating: float
    equity: float
    margin: float

    @property
    def level(self) -> float:
        """Equity over margin in percent; 0 without margin."""
        return self.equity / self.margin * 100.0 if self.margin else 0.0


def blank_order(*, ticket: int, time_msc: int, volume: float, price_open: float, **fields: Any) -> TradeOrder:
    """An order that was placed at `time_msc`; what `fields` leaves out is empty."""
    values: dict[str, Any] = {
        "time_expiration": 0, "type_time": 0, "state": api.ORDER_STATE_PLACED, "position_id": 0, "position_by_id": 0,
        "price_stoplimit": 0.0,
    }  # fmt: skip
    return TradeOrder(
        ticket=ticket, time_setup=time_msc // 1000, time_setup_msc=time_msc, time_done=0, time_done_msc=0,
        volume_initial=volume, volume_current=volume, price_open=price_open, price_current=price_open, external_id="",
        **(values | fields),
    )  # fmt: skip
