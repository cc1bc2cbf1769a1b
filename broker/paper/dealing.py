"""Requests that trade at once: DEAL, SLTP and CLOSE_BY."""

from __future__ import annotations

from broker import api
from broker.api import TradeRequest
from broker.paper.chance import draw, draw_points
from broker.paper.checks import Checks
from broker.paper.matching import MARKET, Position
from broker.paper.requests import Outcome, Refusal, available, rewritten
from broker.paper.series import Series
from broker.paper.trades import Trade, blank_order
from broker.symbols import ORDERS_CLOSE_BY, ORDERS_MARKET, ORDERS_SL, ORDERS_TP, SymbolSpec

_AGREED = (api.SYMBOL_TRADE_EXECUTION_REQUEST, api.SYMBOL_TRADE_EXECUTION_INSTANT)


class Dealing(Checks):
    """Market orders, stops of positions, and closing two positions against each other."""

    #: Bid and ask where the last request arrived; for its answer.
    arrived: tuple[float, float] = (0.0, 0.0)
    #: A check looks at the present quote: it does not travel.
    checking = False

    def slipped(self, spec: SymbolSpec, buy: bool, price: float, *occasion: object) -> float:
        """A price made worse by the configured slippage."""
        points = draw_points(self.config.seed, self.config.slippage_points, "slippage", self.now, *occasion)
        return round(price + (points if buy else -points) * spec.point, spec.digits)

    def arrive(self, series: Series) -> None:
        """The request reaches the market after the configured latency, and finds these prices."""
        config = self.config
        self.arrived = series.bid, series.ask
        if self.checking or not (config.latency_ms or config.latency_jitter_ms):
            return
        jitter = draw(config.seed, "latency", self.now, self.account.next_order, self.requests_now)
        late = config.latency_ms + int(config.latency_jitter_ms * jitter)
        if late > config.order_timeout_ms:
            raise Refusal(api.TRADE_RETCODE_TIMEOUT)
        bid = series.bid_at(self.now * 1000 + late)
        self.arrived = bid, round(bid + series.spread(), series.spec.digits)

    def deal(self, request: TradeRequest) -> Outcome:
        """A market order: opens, adds, reduces, closes or turns."""
        series = self.tradable(request.symbol)
        spec = series.spec
        if request.type not in MARKET:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        self.check_type(spec, ORDERS_MARKET)
        buy = request.type == api.ORDER_TYPE_BUY
        hedging = not self.account.netting
        position = self.named_position(request.position, request.symbol)
        if position is not None and hedging:
            self._check_close(position, buy, request.volume)
        self.check_volume(spec, request.volume)
        self.check_filling(spec, request.type_filling, pending=False)
        self.check_open(series)
        closing = position if hedging else None
        if closing is not None:
            self._check_may_close(series, closing)
        elif not self._reduces(spec.name, buy, request.volume):
            self.check_direction(spec, buy)
        self.arrive(series)
        price = self._price(series, buy, request)
        sl = tp = 0.0
        if closing is None:
            self._check_stop_types(spec, request)
            sl, tp = self.checked_stops(spec, buy, *self.arrived, request)
            self.check_limits(spec, buy, request.volume, position=True)
        trade = Trade(
            spec=spec,
            buy=buy,
            volume=self._fillable(spec, request),
            price=price,
            time_msc=self.now * 1000,
            reason=api.DEAL_REASON_EXPERT,
            magic=request.magic,
            comment=rewritten(request.comment, self.config.comment_policy),
            sl=sl,
            tp=tp,
            filling=request.type_filling,
            position=closing.ticket if closing is not None else 0,
            asked=round(request.volume, 8),
        )
        return self._execute(series, trade, closing)

    def _execute(self, series: Series, trade: Trade, closing: Position | None) -> Outcome:
        spec = trade.spec
        if self.calc.margin(spec, trade.volume, trade.price) is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        if self.calc.profit(spec, trade.buy, trade.volume, trade.price, series.bid) is None:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)
        left = round(trade.asked - trade.volume, 8)
        if left and trade.filling == api.ORDER_FILLING_RETURN:
            trade = self._stay(trade, left, closing)
        before = self.account.totals().margin
        booked = self.account.execute(trade)
        after = self.account.totals()
        # What frees margin is always allowed, whatever is left of the money.
        if after.margin > before and after.equity < after.margin:
            raise Refusal(api.TRADE_RETCODE_NO_MONEY)
        retcode = api.TRADE_RETCODE_DONE_PARTIAL if left else api.TRADE_RETCODE_DONE
        return Outcome(booked.order, booked.deal.ticket, booked.deal.volume, booked.deal.price, retcode)

    def _stay(self, trade: Trade, left: float, closing: Position | None) -> Trade:
        """What the price does not have waits as an order for the next price."""
        ticket = self.account.take_order()
        order = blank_order(
            ticket=ticket, time_msc=trade.time_msc, type=int(not trade.buy), type_filling=trade.filling,
            magic=trade.magic, reason=trade.reason, volume=trade.asked, price_open=trade.price, sl=trade.sl,
            tp=trade.tp, symbol=trade.spec.name, comment=trade.comment,
        )  # fmt: skip
        identifier = closing.identifier if closing is not None else 0
        partial = api.ORDER_STATE_PARTIAL
        self.account.place(order._replace(volume_current=left, state=partial, position_id=identifier))
        return trade._replace(order=ticket)

    def _check_close(self, position: Position, buy: bool, volume: float) -> None:
        if position.buy == buy:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        if volume > position.volume:
            raise Refusal(api.TRADE_RETCODE_INVALID_CLOSE_VOLUME)
        if any(each.position_id == position.identifier for each in self.account.pending.values()):
            raise Refusal(api.TRADE_RETCODE_CLOSE_ORDER_EXIST)

    def _check_may_close(self, series: Series, position: Position) -> None:
        if self.config.fifo_close:
            side = [
                each for each in self.account.positions.values()
                if (each.symbol, each.type) == (position.symbol, position.type)
            ]  # fmt: skip
            if min(side, key=lambda each: (each.time_msc, each.ticket)).ticket != position.ticket:
                raise Refusal(api.TRADE_RETCODE_FIFO_CLOSE)
        price = series.bid if position.buy else series.ask
        self.check_not_frozen(series.spec, price, position.sl, position.tp)

    def _reduces(self, symbol: str, buy: bool, volume: float) -> bool:
        """Netting: the order makes a position smaller and nothing else."""
        position = self.account.position_on(symbol) if self.account.netting else None
        return position is not None and position.buy != buy and volume <= position.volume

    def _check_stop_types(self, spec: SymbolSpec, request: TradeRequest) -> None:
        if request.sl:
            self.check_type(spec, ORDERS_SL)
        if request.tp:
            self.check_type(spec, ORDERS_TP)

    def _price(self, series: Series, buy: bool, request: TradeRequest) -> float:
        """The price of execution: what is there, or where the price is agreed on first, within the deviation."""
        spec = series.spec
        price = self.arrived[1] if buy else self.arrived[0]
        if spec.execution not in _AGREED:
            if self.checking:
                return price
            return self.slipped(spec, buy, price, self.account.next_order, self.requests_now)
        if request.price <= 0:
            raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)
        if abs(price - request.price) > request.deviation * spec.point + spec.point / 1000:
            instant = spec.execution == api.SYMBOL_TRADE_EXECUTION_INSTANT
            raise Refusal(api.TRADE_RETCODE_REQUOTE if instant else api.TRADE_RETCODE_PRICE_CHANGED)
        return price

    def _fillable(self, spec: SymbolSpec, request: TradeRequest) -> float:
        volume = round(request.volume, 8)
        part = available(spec, volume)
        if part < volume:
            if request.type_filling == api.ORDER_FILLING_FOK:
                raise Refusal(api.TRADE_RETCODE_REJECT)
            if part < spec.volume_min:
                raise Refusal(api.TRADE_RETCODE_CANCEL)
        return part

    def move_stops(self, request: TradeRequest) -> Outcome:
        """SLTP: a position's stops."""
        position = self.named_position(request.position, request.symbol)
        if position is None and self.account.netting:
            position = self.account.position_on(request.symbol)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED if request.symbol else api.TRADE_RETCODE_INVALID)
        series = self.tradable(position.symbol)
        spec = series.spec
        self.check_open(series)
        self._check_stop_types(spec, request)
        if (round(request.sl, spec.digits), round(request.tp, spec.digits)) == (position.sl, position.tp):
            raise Refusal(api.TRADE_RETCODE_NO_CHANGES)
        self.check_not_frozen(spec, series.bid if position.buy else series.ask, position.sl, position.tp)
        sl, tp = self.checked_stops(spec, position.buy, series.bid, series.ask, request)
        self.account.modify(position.ticket, sl, tp, self.now * 1000)
        return Outcome()

    def close_by(self, request: TradeRequest) -> Outcome:
        """CLOSE_BY: two opposite positions of a symbol against each other; on a netting account there are none."""
        first, other = self.named_position(request.position), self.named_position(request.position_by)
        if first is None or other is None or first.symbol != other.symbol or first.buy == other.buy:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        series = self.tradable(first.symbol)
        self.check_type(series.spec, ORDERS_CLOSE_BY)
        self.check_open(series)
        for position in (first, other):
            self.check_not_frozen(
                series.spec, series.bid if position.buy else series.ask, position.sl, position.tp
            )  # fmt: skip
            if any(each.position_id == position.identifier for each in self.account.pending.values()):
                raise Refusal(api.TRADE_RETCODE_CLOSE_ORDER_EXIST)
        comment = rewritten(request.comment, self.config.comment_policy)
        trade = Trade(
            spec=series.spec, buy=not first.buy, volume=0.0, price=other.price_open, time_msc=self.now * 1000,
            reason=api.DEAL_REASON_EXPERT, magic=request.magic or first.magic, comment=comment,
        )  # fmt: skip
        booked = self.account.close_by(first, other, trade)
        return Outcome(booked.order, booked.deal.ticket, booked.deal.volume, booked.deal.price)
