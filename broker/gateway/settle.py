"""What became of an order whose answer was lost: read from the terminal's deals. Pure.

Anything newer than the tickets recorded before the send, with that magic, symbol, side and volume, is that
order. Absence counts only once the caller knows that nothing can still arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from broker import api
from broker.structs import TradeDeal, TradePosition
from store.ledger import OrderIntent, ResultRow

_ENTRIES: Final = frozenset({api.DEAL_ENTRY_IN, api.DEAL_ENTRY_INOUT})
_EXITS: Final = frozenset({api.DEAL_ENTRY_OUT, api.DEAL_ENTRY_INOUT, api.DEAL_ENTRY_OUT_BY})
#: Deals that the server makes by itself; never the answer to a request.
_SERVER_REASONS: Final = frozenset({api.DEAL_REASON_SL, api.DEAL_REASON_TP, api.DEAL_REASON_SO})
_LOT: Final = 1e-9


def found(
    intent: OrderIntent,
    deals: Iterable[TradeDeal],
    positions: Iterable[TradePosition],
    claimed: Collection[int] = (),
) -> ResultRow | None:
    """The result of an order that was executed, or None where the terminal shows no trace of it.

    `claimed`: deals that are known to be other orders' results.
    """
    payload = intent.payload
    if intent.action == "modify":
        return _modified(intent, payload, positions)
    fills = [deal for deal in deals if deal.ticket not in claimed and _fits(intent, payload, deal)]
    if not fills:
        return None
    # A fill in parts has several deals of one order; another order's deals are not added to it.
    first = fills[0].order
    parts = [deal for deal in fills if deal.order == first]
    volume = sum(deal.volume for deal in parts)
    if volume > float(payload["volume"]) + _LOT:
        return None
    price = sum(deal.price * deal.volume for deal in parts) / volume
    return ResultRow(
        id=intent.id,
        status="done",
        retcode=api.TRADE_RETCODE_DONE if volume > float(payload["volume"]) - _LOT else api.TRADE_RETCODE_DONE_PARTIAL,
        deal=parts[-1].ticket,
        order=first,
        volume=volume,
        price=price,
        reason="found at the terminal",
    )


def _fits(intent: OrderIntent, payload: Mapping[str, Any], deal: TradeDeal) -> bool:
    buys = (payload["side"] == "buy") == (intent.action == "open")
    if (
        deal.ticket <= intent.before_deal
        or deal.order <= intent.before_order
        or deal.magic != payload["magic"]
        or deal.symbol != payload["symbol"]
        or deal.type != (api.DEAL_TYPE_BUY if buys else api.DEAL_TYPE_SELL)
        or deal.reason in _SERVER_REASONS
    ):
        return False
    if intent.action == "open":
        return deal.entry in _ENTRIES
    return deal.entry in _EXITS and (not payload["position"] or deal.position_id == payload["position"])


def _modified(intent: OrderIntent, payload: Mapping[str, Any], positions: Iterable[TradePosition]) -> ResultRow | None:
    for position in positions:
        if position.ticket == payload["position"]:
            same = abs(position.sl - payload["sl"]) < 1e-9 and abs(position.tp - payload["tp"]) < 1e-9
            if same:
                return ResultRow(intent.id, "done", api.TRADE_RETCODE_DONE, reason="found at the terminal")
    return None
