"""Requests about orders that wait: PENDING, MODIFY and REMOVE; and what becomes of such orders."""

from __future__ import annotations

from typing import Any, Final

from broker import api
from broker.api import TradeOrder, TradeRequest
from broker.paper.dealing import Dealing
from broker.paper.matching import BUYING, LIMITS, MARKET, PENDING, STOP_LIMITS, STOPS, Watch, first_touch
from broker.paper.requests import Outcome, Refusal, available, rewritten
from broker.paper.series import Series
from broker.paper.trades import Trade, blank_order
from broker.symbols import ORDERS_LIMIT, ORDERS_STOP, ORDERS_STOP_LIMIT

_DAY: Final = 86_400
_LIMIT_OF: Final = {
    api.ORDER_TYPE_BUY_STOP_LIMIT: api.ORDER_TYPE_BUY_LIMIT,
    api.ORDER_TYPE_SELL_STOP_LIMIT: api.ORDER_TYPE_SELL_LIMIT,
}


def _mode_bit(kind: int) -> int:
    return ORDERS_LIMIT if kind in LIMITS else ORDERS_STOP if kind in STOPS else ORDERS_STOP_LIMIT


class Waiting(Dealing):
    """Pending orders."""

    def place_pending(self, request: TradeRequest) -> Outcome:
        """PENDING: an order waits for its price."""
        series = self.tradable(request.symbol)
        spec, kind = series.spec, request.type
        if kind not in PENDING:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        self.check_type(spec, _mode_bit(kind))
        buy = kind in BUYING
        self.check_volume(spec, request.volume)
        self.check_filling(spec, request.type_filling, pending=True)
        if request.type_filling == api.ORDER_FILLING_BOC and kind in STOPS:
            raise Refusal(api.TRADE_RETCODE_INVALID_FILL)
        self.check_open(series)
        self.check_direction(spec, buy)
        self.arrive(series)
        expires = self._expires(request, series)
        price, stoplimit, sl, tp = self._prices(series, kind, request)
        self.check_limits(spec, buy, request.volume, position=False)
        if self.config.limit_orders and len(self.account.pending) >= self.config.limit_orders:
            raise Refusal(api.TRADE_RETCODE_LIMIT_ORDERS)
        if not self.calc.converts(spec):
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        order = blank_order(
            ticket=self.account.take_order(), time_msc=self.now * 1000, type=kind, type_filling=request.type_filling,
            type_time=request.type_time, time_expiration=expires, magic=request.magic,
            reason=api.ORDER_REASON_EXPERT, volume=round(request.volume, 8), price_open=price, sl=sl, tp=tp,
            price_stoplimit=stoplimit, symbol=spec.name,
            comment=rewritten(request.comment, self.config.comment_policy),
        )  # fmt: skip
        self.account.place(order)
        exchange = spec.execution == api.SYMBOL_TRADE_EXECUTION_EXCHANGE
        if exchange and kind in LIMITS:
            self._cross(series, order)
        retcode = api.TRADE_RETCODE_PLACED if exchange else api.TRADE_RETCODE_DONE
        return Outcome(order.ticket, 0, order.volume_initial, price, retcode)

    def _cross(self, series: Series, order: TradeOrder) -> None:
        """A limit order that lies through the market takes what is there, unless it is only to be booked."""
        touch = first_touch([Watch.of_order(order)], series.bid, series.bid, series.spread(), series.spec.digits)
        if touch is None:
            return
        if order.type_filling == api.ORDER_FILLING_BOC:
            raise Refusal(api.TRADE_RETCODE_CANCEL)
        self.activate(series, order, touch.price, self.now * 1000)
        done = self.account.orders[-1] if self.account.orders else order
        if done.ticket == order.ticket and done.state == api.ORDER_STATE_REJECTED:
            raise Refusal(api.TRADE_RETCODE_REJECT_CANCEL)

    def modify_order(self, request: TradeRequest) -> Outcome:
        """MODIFY: price, stops and expiration of an order that waits."""
        order, series = self._waiting(request)
        if order.type in MARKET:
            raise Refusal(api.TRADE_RETCODE_LOCKED)
        self.check_open(series)
        spec = series.spec
        self.check_not_frozen(spec, series.ask if order.type in BUYING else series.bid, order.price_open)
        expires = self._expires(request, series)
        wanted = (request.price, request.stoplimit, request.sl, request.tp)
        price, stoplimit, sl, tp = (round(each, spec.digits) for each in wanted)
        changes: dict[str, Any] = {
            "price_open": price, "price_stoplimit": stoplimit, "sl": sl, "tp": tp, "type_time": request.type_time,
            "time_expiration": expires,
        }  # fmt: skip
        if all(getattr(order, name) == value for name, value in changes.items()):
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        self._prices(series, order.type, request)
        self.account.place(order._replace(**changes))
        return Outcome(order.ticket, 0, order.volume_current, price)

    def remove_order(self, request: TradeRequest) -> Outcome:
        """REMOVE: an order waits no longer."""
        order, series = self._waiting(request)
        self.check_open(series)
        if order.type not in MARKET:
            price = series.ask if order.type in BUYING else series.bid
            self.check_not_frozen(series.spec, price, order.price_open)
        self.account.retire(order.ticket, api.ORDER_STATE_CANCELED, self.now * 1000)
        return Outcome(order.ticket)

    def _waiting(self, request: TradeRequest) -> tuple[TradeOrder, Series]:
        order = self.account.pending.get(request.order)
        if order is None:
            # An order that was there is filled, cancelled or expired by now.
            gone = self.account.was_order(request.order)
            raise Refusal(api.TRADE_RETCODE_ORDER_CHANGED if gone else api.TRADE_RETCODE_INVALID)
        if request.symbol and request.symbol != order.symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return order, self.tradable(order.symbol)

    def _prices(self, series: Series, kind: int, request: TradeRequest) -> tuple[float, float, float, float]:
        """The order's price, its limit price, SL and TP: rounded and checked."""
        digits = series.spec.digits
        price, stoplimit = round(request.price, digits), 0.0
        if kind in STOP_LIMITS:
            stoplimit = round(request.stoplimit, digits)
        self.check_pending_price(series, kind, price, stoplimit)
        self._check_stop_types(series.spec, request)
        opens = stoplimit or price
        return price, stoplimit, *self.checked_stops(series.spec, kind in BUYING, opens, opens, request)

    def _expires(self, request: TradeRequest, series: Series) -> int:
        """When the order expires, in server seconds; 0: never."""
        kind = request.type_time
        if not 0 <= kind <= api.ORDER_TIME_SPECIFIED_DAY or not series.spec.expiration_mode & (1 << kind):
            raise Refusal(api.TRADE_RETCODE_INVALID_EXPIRATION)
        if kind == api.ORDER_TIME_GTC:
            return 0
        if kind == api.ORDER_TIME_DAY:
            return (self.now // _DAY + 1) * _DAY
        until = request.expiration
        if kind == api.ORDER_TIME_SPECIFIED_DAY:
            until = (until // _DAY + 1) * _DAY if until else 0
        if until <= self.now:
            raise Refusal(api.TRADE_RETCODE_INVALID_EXPIRATION)
        return until

    # --- what becomes of them ------------------------------------------------------------------------

    def expire(self, moment: int) -> None:
        """Orders whose time is over."""
        for order in list(self.account.pending.values()):
            if 0 < order.time_expiration <= moment:
                self.account.retire(order.ticket, api.ORDER_STATE_EXPIRED, moment * 1000)

    def activate(self, series: Series, order: TradeOrder, price: float, time_msc: int) -> int:
        """The price came to the order, which trades at it, or becomes a limit order. The position's ticket, or 0."""
        account, spec = self.account, series.spec
        if order.type in STOP_LIMITS:
            limit = _LIMIT_OF[order.type]
            account.place(order._replace(type=limit, price_open=order.price_stoplimit, price_stoplimit=0.0))
            return 0
        buy, volume = order.type in BUYING, order.volume_current
        if order.type in STOPS:
            price = self.slipped(spec, buy, price, order.ticket)
        closing = None
        if order.position_id and order.type in MARKET:
            closing = next((p for p in account.positions.values() if p.identifier == order.position_id), None)
            if closing is not None and closing.buy != buy:
                volume = min(volume, closing.volume)
            elif account.netting or order.ticket not in account.positions:
                account.retire(order.ticket, api.ORDER_STATE_CANCELED, time_msc)
                return 0
            else:
                closing = None
        part = available(spec, volume)
        too_little = part < spec.volume_min or (part < volume and order.type_filling == api.ORDER_FILLING_FOK)
        if part < volume and too_little:
            account.retire(order.ticket, api.ORDER_STATE_CANCELED, time_msc)
            return 0
        if closing is None and not self._may_activate(order, buy, part, price):
            account.retire(order.ticket, api.ORDER_STATE_REJECTED, time_msc)
            return 0
        return self._fill_order(order, part, price, time_msc, closing.ticket if closing is not None else 0, series)

    def _may_activate(self, order: TradeOrder, buy: bool, volume: float, price: float) -> bool:
        spec, most = self.series[order.symbol].spec, self.config.limit_positions
        held = len(self.account.positions) if order.ticket not in self.account.positions else 0
        if most and held >= most and not (self.account.netting and self.account.position_on(order.symbol)):
            return False
        return self.affords(spec, buy, volume, price)

    def _fill_order(
        self, order: TradeOrder, volume: float, price: float, time_msc: int, position: int, series: Series
    ) -> int:
        account = self.account
        trade = Trade(
            spec=series.spec, buy=order.type in BUYING, volume=volume, price=price, time_msc=time_msc,
            reason=order.reason, magic=order.magic, comment=order.comment, sl=order.sl, tp=order.tp,
            filling=order.type_filling, position=position, order=order.ticket,
        )  # fmt: skip
        booked = account.execute(trade)
        left = round(order.volume_current - volume, 8)
        held: dict[str, Any] = {"volume_current": left, "price_current": price}
        if not left:
            account.retire(
                order.ticket, api.ORDER_STATE_FILLED, time_msc, position_id=booked.deal.position_id, **held
            )  # fmt: skip
        elif order.type_filling == api.ORDER_FILLING_IOC or (position and position not in account.positions):
            account.retire(
                order.ticket, api.ORDER_STATE_CANCELED, time_msc, position_id=booked.deal.position_id, **held
            )  # fmt: skip
        else:
            account.place(order._replace(state=api.ORDER_STATE_PARTIAL, **held))
        identifier = booked.deal.position_id
        return next((p.ticket for p in account.positions.values() if p.identifier == identifier), 0)
