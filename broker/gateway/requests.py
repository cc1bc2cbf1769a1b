"""Orders in MetaTrader's words: the request, and what a return code means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from broker import api
from protocol.messages import Order

#: Brokers cut and rewrite comments; what fits into 16 characters mostly survives. It is a hint, no identity.
COMMENT_LENGTH: Final = 16
# Bits of SymbolInfo.filling_mode, which the package does not export.
_SYMBOL_FOK: Final = 1
_SYMBOL_IOC: Final = 2

_DONE: Final = frozenset({api.TRADE_RETCODE_DONE, api.TRADE_RETCODE_DONE_PARTIAL, api.TRADE_RETCODE_PLACED})
#: The request may or may not have reached the market.
_UNKNOWN: Final = frozenset({api.TRADE_RETCODE_TIMEOUT, api.TRADE_RETCODE_CONNECTION, api.TRADE_RETCODE_ERROR})


def status_of(retcode: int, *, embedded: bool = False) -> Literal["done", "refused", "unknown"]:
    """Whether a return code says done, refused, or neither for sure.

    `embedded`: the paper terminal itself answered, in this process. It times an order out before it reaches the market,
    so that nothing is to be found out; and what is found out takes a while of the real clock, in which a replay at full
    speed plays many bars.
    """
    if retcode in _DONE:
        return "done"
    if embedded and retcode == api.TRADE_RETCODE_TIMEOUT:
        return "refused"
    return "unknown" if retcode in _UNKNOWN else "refused"


def filling_of(info: Mapping[str, Any]) -> int:
    """A filling mode that the symbol allows: FOK or IOC by its bits, RETURN where execution is not by market."""
    modes = int(info["filling_mode"])
    if modes & _SYMBOL_FOK:
        return api.ORDER_FILLING_FOK
    if modes & _SYMBOL_IOC:
        return api.ORDER_FILLING_IOC
    # Market execution never takes RETURN: where the broker tells no mode at all, all or nothing is the usual one.
    market = int(info["trade_exemode"]) == api.SYMBOL_TRADE_EXECUTION_MARKET
    return api.ORDER_FILLING_FOK if market else api.ORDER_FILLING_RETURN


def request_of(order: Order, filling: int, bid: float, ask: float) -> dict[str, Any]:
    """The request for `order_send`. A close names its position: on a hedging account it would else open one."""
    comment = (order.comment or f"{order.bot_id}.{order.epoch}.{order.seq}")[:COMMENT_LENGTH]
    if order.action == "modify":
        return {
            "action": api.TRADE_ACTION_SLTP,
            "symbol": order.symbol,
            "position": order.position,
            "sl": order.sl,
            "tp": order.tp,
            "magic": order.magic,
            "comment": comment,
        }
    buys = (order.side == "buy") == (order.action == "open")
    request: dict[str, Any] = {
        "action": api.TRADE_ACTION_DEAL,
        "symbol": order.symbol,
        "volume": order.volume,
        "type": api.ORDER_TYPE_BUY if buys else api.ORDER_TYPE_SELL,
        "price": ask if buys else bid,
        "deviation": order.deviation,
        "magic": order.magic,
        "comment": comment,
        "type_time": api.ORDER_TIME_GTC,
        "type_filling": filling,
    }
    if order.action == "open":
        request["sl"] = order.sl
        request["tp"] = order.tp
    else:
        request["position"] = order.position
    return request


def mismatch(order: Order, position: Mapping[str, Any]) -> str:
    """Why this position is not the one that the order means to close or modify; empty when it is."""
    if position["magic"] != order.magic:
        return f"position {order.position} is not this bot's (magic {position['magic']})"
    if position["symbol"] != order.symbol:
        return f"position {order.position} is in {position['symbol']}, not {order.symbol}"
    if order.action == "close":
        side = "buy" if position["type"] == api.POSITION_TYPE_BUY else "sell"
        if side != order.side:
            return f"position {order.position} is a {side}, not a {order.side}"
        if order.volume > float(position["volume"]) + 1e-9:
            return f"position {order.position} has {position['volume']:g} lots, not {order.volume:g}"
    return ""
