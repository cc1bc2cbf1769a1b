"""Requests as the terminal reads them, and what it answers: return codes and their texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from broker import api, structs
from broker.api import TradeRequest
from broker.paper.answers import Failed
from broker.symbols import SymbolSpec

TEXTS: Final = {
    0: "Done",
    api.TRADE_RETCODE_REQUOTE: "Requote",
    api.TRADE_RETCODE_REJECT: "Request rejected",
    api.TRADE_RETCODE_CANCEL: "Request canceled",
    api.TRADE_RETCODE_PLACED: "Order placed",
    api.TRADE_RETCODE_DONE: "Request executed",
    api.TRADE_RETCODE_DONE_PARTIAL: "Request executed partially",
    api.TRADE_RETCODE_ERROR: "Request processing error",
    api.TRADE_RETCODE_TIMEOUT: "Request timed out",
    api.TRADE_RETCODE_INVALID: "Invalid request",
    api.TRADE_RETCODE_INVALID_VOLUME: "Invalid volume",
    api.TRADE_RETCODE_INVALID_PRICE: "Invalid price",
    api.TRADE_RETCODE_INVALID_STOPS: "Invalid stops",
    api.TRADE_RETCODE_TRADE_DISABLED: "Trade is disabled",
    api.TRADE_RETCODE_MARKET_CLOSED: "Market closed",
    api.TRADE_RETCODE_NO_MONEY: "No money",
    api.TRADE_RETCODE_PRICE_CHANGED: "Price changed",
    api.TRADE_RETCODE_PRICE_OFF: "No prices",
    api.TRADE_RETCODE_INVALID_EXPIRATION: "Invalid expiration",
    api.TRADE_RETCODE_ORDER_CHANGED: "Order was changed",
    api.TRADE_RETCODE_TOO_MANY_REQUESTS: "Too many requests",
    api.TRADE_RETCODE_NO_CHANGES: "No changes",
    api.TRADE_RETCODE_SERVER_DISABLES_AT: "AutoTrading disabled by server",
    api.TRADE_RETCODE_CLIENT_DISABLES_AT: "AutoTrading disabled by client",
    api.TRADE_RETCODE_LOCKED: "Request locked for processing",
    api.TRADE_RETCODE_FROZEN: "Order or position frozen",
    api.TRADE_RETCODE_INVALID_FILL: "Unsupported filling mode",
    api.TRADE_RETCODE_CONNECTION: "No connection with the trade server",
    api.TRADE_RETCODE_ONLY_REAL: "Only real accounts are allowed",
    api.TRADE_RETCODE_LIMIT_ORDERS: "Orders limit reached",
    api.TRADE_RETCODE_LIMIT_VOLUME: "Volume limit reached",
    api.TRADE_RETCODE_INVALID_ORDER: "Incorrect or prohibited order type",
    api.TRADE_RETCODE_POSITION_CLOSED: "Position already closed",
    api.TRADE_RETCODE_INVALID_CLOSE_VOLUME: "Invalid close volume",
    api.TRADE_RETCODE_CLOSE_ORDER_EXIST: "Order to close this position already exists",
    api.TRADE_RETCODE_LIMIT_POSITIONS: "Positions limit reached",
    api.TRADE_RETCODE_REJECT_CANCEL: "Order activation rejected, the order is canceled",
    api.TRADE_RETCODE_LONG_ONLY: "Only long positions are allowed",
    api.TRADE_RETCODE_SHORT_ONLY: "Only short positions are allowed",
    api.TRADE_RETCODE_CLOSE_ONLY: "Only closing of positions is allowed",
    api.TRADE_RETCODE_FIFO_CLOSE: "Positions must be closed by the FIFO rule",
}
#: What `comment_policy = "replace"` writes over a comment.
BROKERS_COMMENT: Final = "Stablehand-Paper"
_CUT: Final = 16
_COMMENT_MAX: Final = 31
_INTEGERS: Final = (
    "action", "magic", "order", "deviation", "type", "type_filling", "type_time", "position", "position_by",
)  # fmt: skip
_FLOATS: Final = ("volume", "price", "stoplimit", "sl", "tp")


class Refusal(Exception):
    """The request is not done; `retcode` says why."""

    def __init__(self, retcode: int, text: str | None = None) -> None:
        super().__init__(retcode)
        self.retcode = retcode
        self.text = text or TEXTS[retcode]


class Outcome(NamedTuple):
    """A request that was done: tickets, what was filled, at which price."""

    order: int = 0
    deal: int = 0
    volume: float = 0.0
    price: float = 0.0
    retcode: int = api.TRADE_RETCODE_DONE


def parse_request(request: object) -> TradeRequest:
    """A request as the terminal reads it; keys that it does not know are ignored, as by the package.

    Raises Failed (RES_E_INVALID_PARAMS, `Invalid "volume" argument`) for a value of the wrong type, a magic
    outside 64 bits unsigned, and a comment of more than 31 characters.
    """
    if isinstance(request, structs.TradeRequest):
        request = request._asdict()
    if not isinstance(request, Mapping):
        raise Failed(api.RES_E_INVALID_PARAMS, "Invalid arguments")
    values: dict[str, Any] = {}
    for key in _INTEGERS:
        values[key] = _integer(key, request.get(key, 0))
    for key in _FLOATS:
        values[key] = _float(key, request.get(key, 0.0))
    for key in ("symbol", "comment"):
        value = request.get(key, "")
        if not isinstance(value, str):
            raise _invalid(key)
        values[key] = value
    expiration = request.get("expiration", 0)
    values["expiration"] = (
        int(expiration.timestamp()) if hasattr(expiration, "timestamp") else _integer("expiration", expiration)
    )
    if not 0 <= values["magic"] < 1 << 64:
        raise _invalid("magic")
    if len(values["comment"]) > _COMMENT_MAX:
        raise _invalid("comment")
    return TradeRequest(**values)


def _integer(key: str, value: object) -> int:
    try:
        return int(value.__index__())  # type: ignore[attr-defined]
    except AttributeError:
        raise _invalid(key) from None


def _float(key: str, value: object) -> float:
    if isinstance(value, str | bytes):
        raise _invalid(key)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise _invalid(key) from None
    if not math.isfinite(number):
        raise _invalid(key)
    return number


def _invalid(key: str) -> Failed:
    return Failed(api.RES_E_INVALID_PARAMS, f'Invalid "{key}" argument')


def volume_allowed(spec: SymbolSpec, volume: float) -> bool:
    """Within volume_min and volume_max, and a multiple of volume_step. Decimal: 0.3 is three steps of 0.1."""
    lots = Decimal(str(round(volume, 10)))
    inside = Decimal(str(spec.volume_min)) <= lots <= Decimal(str(spec.volume_max))
    return inside and lots % Decimal(str(spec.volume_step)) == 0


def available(spec: SymbolSpec, volume: float) -> float:
    """How much of a volume one price has: all of it, or the symbol's liquidity in whole steps."""
    if not spec.liquidity or volume <= spec.liquidity:
        return volume
    step = Decimal(str(spec.volume_step))
    return float(Decimal(str(spec.liquidity)) // step * step)


def rewritten(comment: str, policy: str) -> str:
    """A comment as the broker keeps it."""
    if policy == "keep":
        return comment
    return {"cut16": comment[:_CUT], "replace": BROKERS_COMMENT}.get(policy, "")
