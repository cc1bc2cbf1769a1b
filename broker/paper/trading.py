"""Requests: what they ask, whether they may be done, and doing them.

Market orders fill at once and whole: a buy at the ask, a sell at the bid, without slippage (the symbols have
market execution, so `price` and `deviation` are read and not used). Pending orders come later: until then the
symbols' `order_mode` has no bit for them, and PENDING is answered 10035 (incorrect or prohibited order type),
which is what a symbol without them answers; MODIFY and REMOVE find no order (10013).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from broker import api, structs
from broker.api import OrderCheckResult, OrderSendResult, TradeRequest
from broker.paper.account import Booked, Trade
from broker.paper.core import Core, Failed, answers
from broker.paper.matching import Position, stops_allowed
from broker.paper.series import Series
from broker.symbols import SymbolSpec
from store.errors import StoreError

TEXTS: Final = {
    0: "Done",
    api.TRADE_RETCODE_DONE: "Request executed",
    api.TRADE_RETCODE_INVALID: "Invalid request",
    api.TRADE_RETCODE_INVALID_VOLUME: "Invalid volume",
    api.TRADE_RETCODE_INVALID_STOPS: "Invalid stops",
    api.TRADE_RETCODE_MARKET_CLOSED: "Market closed",
    api.TRADE_RETCODE_NO_MONEY: "No money",
    api.TRADE_RETCODE_PRICE_OFF: "No prices",
    api.TRADE_RETCODE_NO_CHANGES: "No changes",
    api.TRADE_RETCODE_INVALID_FILL: "Unsupported filling mode",
    api.TRADE_RETCODE_LIMIT_VOLUME: "Volume limit reached",
    api.TRADE_RETCODE_INVALID_ORDER: "Incorrect or prohibited order type",
    api.TRADE_RETCODE_POSITION_CLOSED: "Position already closed",
    api.TRADE_RETCODE_INVALID_CLOSE_VOLUME: "Invalid close volume",
}
_COMMENT_MAX: Final = 31
_INTEGERS: Final = (
    "action",
    "magic",
    "order",
    "deviation",
    "type",
    "type_filling",
    "type_time",
    "position",
    "position_by",
)
_FLOATS: Final = ("volume", "price", "stoplimit", "sl", "tp")
_FILLING_BITS: Final = {
    api.ORDER_FILLING_FOK: api.SYMBOL_FILLING_FOK,
    api.ORDER_FILLING_IOC: api.SYMBOL_FILLING_IOC,
}


class Refusal(Exception):
    """The request is not done; `retcode` says why."""

    def __init__(self, retcode: int, text: str | None = None) -> None:
        super().__init__(retcode)
        self.retcode = retcode
        self.text = text or TEXTS[retcode]


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


class Trading(Core):
    """order_check and order_send."""

    _requests = 0

    @answers
    def order_check(self, request: Mapping[str, Any]) -> OrderCheckResult:
        """What the account would be after the request; retcode 0 where it may be done. Nothing is changed."""
        parsed = parse_request(request)
        try:
            self._perform(parsed)
            retcode, text = 0, TEXTS[0]
        except Refusal as refusal:
            retcode, text = refusal.retcode, refusal.text
        totals, balance = self.account.totals(), self.account.balance
        self.account.undo()
        free = self.calc.money(totals.equity - totals.margin)
        return OrderCheckResult(
            retcode, balance, totals.equity, totals.floating, totals.margin, free, totals.level, text, parsed
        )

    @answers
    def order_send(self, request: Mapping[str, Any]) -> OrderSendResult:
        """Do the request. 10009 means that it is done and committed; after any other retcode nothing changed.

        10011 where the account's database cannot be written.
        """
        parsed = parse_request(request)
        self._requests += 1
        series = self.series.get(parsed.symbol)
        bid, ask = (series.bid, series.ask) if series is not None else (0.0, 0.0)
        deal = order = 0
        volume = price = 0.0
        try:
            booked = self._perform(parsed)
            self.save()
            retcode, text = api.TRADE_RETCODE_DONE, TEXTS[api.TRADE_RETCODE_DONE]
            if booked is not None:
                deal, order = booked.deal.ticket, booked.order
                volume, price = booked.deal.volume, booked.deal.price
        except Refusal as refusal:
            self.account.undo()
            retcode, text = refusal.retcode, refusal.text
        except StoreError as error:  # `save` has undone it
            retcode, text = api.TRADE_RETCODE_ERROR, f"Not committed: {error.message}"
        return OrderSendResult(retcode, deal, order, volume, price, bid, ask, text, self._requests, 0, parsed)

    # --- what a request asks -------------------------------------------------------------------------

    def _perform(self, request: TradeRequest) -> Booked | None:
        """Do it in memory. Raises Refusal; what is half done then is for the caller to undo."""
        if request.action == api.TRADE_ACTION_DEAL:
            return self._deal(request)
        if request.action == api.TRADE_ACTION_SLTP:
            self._move_stops(request)
            return None
        if request.action in (api.TRADE_ACTION_PENDING, api.TRADE_ACTION_CLOSE_BY):
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)
        raise Refusal(api.TRADE_RETCODE_INVALID)

    def _deal(self, request: TradeRequest) -> Booked:
        series = self._tradable(request.symbol)
        spec = series.spec
        if request.type not in (api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL):
            raise Refusal(api.TRADE_RETCODE_INVALID)
        buy = request.type == api.ORDER_TYPE_BUY
        position = self._named_position(request)
        if position is not None:
            if position.buy == buy and not self.account.netting:
                raise Refusal(api.TRADE_RETCODE_INVALID)
            if request.volume > position.volume and not self.account.netting:
                raise Refusal(api.TRADE_RETCODE_INVALID_CLOSE_VOLUME)
        if not volume_allowed(spec, request.volume):
            raise Refusal(api.TRADE_RETCODE_INVALID_VOLUME)
        bit = _FILLING_BITS.get(request.type_filling, 0)
        if not spec.filling & bit:
            raise Refusal(api.TRADE_RETCODE_INVALID_FILL)
        self._check_open(series)
        closes = position is not None and not self.account.netting
        sl, tp = (0.0, 0.0) if closes else self._stops(series, buy, request)
        if not closes:
            self._check_limit(spec, buy, request.volume)
        trade = Trade(
            spec=spec,
            buy=buy,
            volume=round(request.volume, 8),
            price=series.ask if buy else series.bid,
            time_msc=self.now * 1000,
            reason=api.DEAL_REASON_EXPERT,
            magic=request.magic,
            comment=request.comment,
            sl=sl,
            tp=tp,
            filling=request.type_filling,
            position=position.ticket if position is not None and closes else 0,
        )
        if self.calc.margin(spec, trade.volume, trade.price) is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        if self.calc.profit(spec, buy, trade.volume, trade.price, series.bid) is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        before = self.account.totals().margin
        booked = self.account.execute(trade)
        after = self.account.totals()
        # What frees margin is always allowed, whatever is left of the money.
        if after.margin > before and after.equity < after.margin:
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)
        return booked

    def _move_stops(self, request: TradeRequest) -> None:
        position = self._named_position(request)
        if position is None and self.account.netting:
            position = self.account.position_on(request.symbol)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED if request.symbol else api.TRADE_RETCODE_INVALID)
        series = self.series[position.symbol]
        self._check_open(series)
        digits = series.spec.digits
        if (round(request.sl, digits), round(request.tp, digits)) == (position.sl, position.tp):
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        sl, tp = self._stops(series, position.buy, request)
        self.account.modify(position.ticket, sl, tp, self.now * 1000)

    # --- checks --------------------------------------------------------------------------------------

    def _tradable(self, symbol: str) -> Series:
        series = self.series.get(symbol)
        if series is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return series

    def _named_position(self, request: TradeRequest) -> Position | None:
        if not request.position:
            return None
        position = self.account.positions.get(request.position)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED)
        if request.symbol and position.symbol != request.symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return position

    def _check_open(self, series: Series) -> None:
        if not series.forming:
            raise Refusal(api.TRADE_RETCODE_MARKET_CLOSED)
        if series.bid <= 0:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)

    def _stops(self, series: Series, buy: bool, request: TradeRequest) -> tuple[float, float]:
        spec = series.spec
        sl, tp = round(request.sl, spec.digits), round(request.tp, spec.digits)
        if sl < 0 or tp < 0 or not stops_allowed(spec, buy, series.bid, series.ask, sl, tp):
            raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)
        return sl, tp

    def _check_limit(self, spec: SymbolSpec, buy: bool, volume: float) -> None:
        same = [each for each in self.account.positions.values() if each.symbol == spec.name and each.buy == buy]
        if spec.volume_limit and sum(each.volume for each in same) + volume > spec.volume_limit + 1e-9:
            raise Refusal(api.TRADE_RETCODE_LIMIT_VOLUME)
