"""Buy, Sell and Close: the three helpers that the MetaTrader5 package has beside its functions."""

from __future__ import annotations

from typing import Any, Final, Literal

from broker import api
from broker.api import OrderSendResult, TradePosition
from broker.paper import dropin

#: A requote or a missing price is tried again so often in all.
_TRIES: Final = 10
_DEVIATION: Final = 10  # points
_AGAIN: Final = frozenset({api.TRADE_RETCODE_REQUOTE, api.TRADE_RETCODE_PRICE_OFF})


def Buy(  # noqa: N802
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> OrderSendResult | None:  # fmt: skip
    """Buy at the market; `ticket`: the position that it closes. None where the terminal fails."""
    return _trade(api.ORDER_TYPE_BUY, symbol, volume, price, comment, ticket)


def Sell(  # noqa: N802
    symbol: str, volume: float, price: float | None = None, *, comment: str | None = None, ticket: int | None = None
) -> OrderSendResult | None:  # fmt: skip
    """Sell at the market; `ticket`: the position that it closes. None where the terminal fails."""
    return _trade(api.ORDER_TYPE_SELL, symbol, volume, price, comment, ticket)


def Close(  # noqa: N802
    symbol: str, *, comment: str | None = None, ticket: int | None = None
) -> bool | Literal["Partially"] | None:
    """Close all positions of a symbol, or that of a ticket.

    True: all are closed. "Partially": some. False: none, or there was none. None: the terminal failed.
    """
    found = dropin.positions_get(ticket=ticket) if ticket is not None else dropin.positions_get(symbol=symbol)
    if found is None:
        return None
    closed = 0
    for position in found:
        result = _against(position, comment)
        if result is None:
            return None
        closed += result.retcode == api.TRADE_RETCODE_DONE
    if closed and closed < len(found):
        return "Partially"
    return closed > 0


def _against(position: TradePosition, comment: str | None) -> OrderSendResult | None:
    kind = api.ORDER_TYPE_SELL if position.type == api.POSITION_TYPE_BUY else api.ORDER_TYPE_BUY
    return _trade(kind, position.symbol, position.volume, None, comment, position.ticket)


def _trade(
    kind: int, symbol: str, volume: float, price: float | None, comment: str | None, ticket: int | None
) -> OrderSendResult | None:
    """Send a market order: at `price` once, without one at the present price, again after a requote."""
    result = None
    for _ in range(_TRIES if price is None else 1):
        at = price if price is not None else _price(kind, symbol)
        if at is None:
            return None
        request: dict[str, Any] = {
            "action": api.TRADE_ACTION_DEAL, "symbol": symbol, "volume": volume, "type": kind, "price": at,
            "deviation": _DEVIATION,
        }  # fmt: skip
        if comment is not None:
            request["comment"] = comment
        if ticket is not None:
            request["position"] = ticket
        result = dropin.order_send(request)
        if result is None or result.retcode not in _AGAIN:
            break
    return result


def _price(kind: int, symbol: str) -> float | None:
    tick = dropin.symbol_info_tick(symbol)
    if tick is None:
        return None
    return tick.ask if kind == api.ORDER_TYPE_BUY else tick.bid
