"""The plan of one entry: stops, volume and margin, all known before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botproc import sizing, stops
from botproc.desk import Desk, Side
from botproc.sizing import NoEntry
from broker.api import (
    SYMBOL_TRADE_MODE_FULL,
    SYMBOL_TRADE_MODE_LONGONLY,
    SYMBOL_TRADE_MODE_SHORTONLY,
)
from protocol.botconfig import BotConfig

if TYPE_CHECKING:
    from botproc.stops import Bars

_ALLOWED: Final[dict[Side, frozenset[int]]] = {
    "buy": frozenset({SYMBOL_TRADE_MODE_FULL, SYMBOL_TRADE_MODE_LONGONLY}),
    "sell": frozenset({SYMBOL_TRADE_MODE_FULL, SYMBOL_TRADE_MODE_SHORTONLY}),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent: lots, stops; what it risks, in account currency; `note`: what moved the volume."""

    volume: float
    stops: stops.Stops
    atr: float
    risk: float
    note: str


def plan(config: BotConfig, desk: Desk, side: Side, bars: Bars) -> Plan:
    """The plan of a market entry. Raises NoEntry (and says why), StablehandError when the terminal failed."""
    distance = stops.atr(bars)
    info = desk.symbol_info()
    _may_trade(info, side)
    account = desk.account_info()
    placed = stops.place(side, info, desk.tick(), distance, config.sl_atr_multiplier, config.tp_atr_multiplier)
    loss = -desk.calc_profit(side, 1.0, placed.price, placed.sl)
    sized = sizing.lots(
        balance=float(account["balance"]),
        risk_percent=config.risk_percent,
        loss_of_one_lot=abs(loss),
        info=info,
        min_lot=config.min_lot,
    )
    margin, free = desk.calc_margin(side, sized.volume, placed.price), float(account["margin_free"])
    if margin > free:
        raise NoEntry("margin", f"{sized.volume:g} lots need a margin of {margin:.2f}; {free:.2f} is free")
    return Plan(sized.volume, placed, distance, sized.risk, sized.note)


def _may_trade(info: dict[str, Any], side: Side) -> None:
    if info.get("trade_mode", SYMBOL_TRADE_MODE_FULL) not in _ALLOWED[side]:
        raise NoEntry("trade_mode", f"the broker allows no new {side} of {info.get('name', 'the symbol')}")
