"""What may refuse a request, whatever it asks."""

from __future__ import annotations

from typing import Final

from broker import api
from broker.api import TradeRequest
from broker.calendar import is_open_at
from broker.paper.answers import Failed
from broker.paper.core import Core
from broker.paper.matching import BUYING, Position, far_enough, frozen, stops_allowed
from broker.paper.requests import Refusal, volume_allowed
from broker.paper.series import Series
from broker.symbols import SymbolSpec

_FILLING_BITS: Final = {
    api.ORDER_FILLING_FOK: api.SYMBOL_FILLING_FOK,
    api.ORDER_FILLING_IOC: api.SYMBOL_FILLING_IOC,
    api.ORDER_FILLING_BOC: api.SYMBOL_FILLING_BOC,
}


class Checks(Core):
    """The gates that every request passes, and checks that several kinds share. All raise Refusal."""

    def check_gates(self) -> None:
        """Whether terminal, account and server take requests at all."""
        switches = self.switches
        if switches.api_disabled:
            raise Failed(api.RES_E_AUTO_TRADING_DISABLED)
        if not switches.online:
            raise Refusal(api.TRADE_RETCODE_CONNECTION)
        if not switches.autotrading:
            raise Refusal(api.TRADE_RETCODE_CLIENT_DISABLES_AT)
        if not switches.trade_allowed:
            raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
        if not switches.experts_allowed:
            raise Refusal(api.TRADE_RETCODE_SERVER_DISABLES_AT)

    def tradable(self, symbol: str) -> Series:
        """The symbol, which must be one that this account may trade."""
        series = self.series.get(symbol)
        if series is None:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        if series.spec.only_real and self.config.trade_mode != "real":
            raise Refusal(api.TRADE_RETCODE_ONLY_REAL)
        if series.spec.trade_mode == api.SYMBOL_TRADE_MODE_DISABLED:
            raise Refusal(api.TRADE_RETCODE_TRADE_DISABLED)
        return series

    def check_type(self, spec: SymbolSpec, bit: int) -> None:
        """Whether the symbol has orders of that type."""
        if not spec.order_mode & bit:
            raise Refusal(api.TRADE_RETCODE_INVALID_ORDER)

    def named_position(self, ticket: int, symbol: str = "") -> Position | None:
        """The position of that ticket (0: None)."""
        if not ticket:
            return None
        position = self.account.positions.get(ticket)
        if position is None:
            raise Refusal(api.TRADE_RETCODE_POSITION_CLOSED)
        if symbol and position.symbol != symbol:
            raise Refusal(api.TRADE_RETCODE_INVALID)
        return position

    def check_volume(self, spec: SymbolSpec, volume: float) -> None:
        """Within the symbol's bounds, in its steps."""
        if not volume_allowed(spec, volume):
            raise Refusal(api.TRADE_RETCODE_INVALID_VOLUME)

    def check_filling(self, spec: SymbolSpec, filling: int, *, pending: bool) -> None:
        """RETURN wherever execution is not by market, and for all pending orders; the rest by the symbol's bits."""
        by_market = spec.execution == api.SYMBOL_TRADE_EXECUTION_MARKET
        if filling == api.ORDER_FILLING_RETURN and (pending or not by_market):
            return
        if filling == api.ORDER_FILLING_BOC and not pending:
            raise Refusal(api.TRADE_RETCODE_INVALID_FILL)
        if not spec.filling & _FILLING_BITS.get(filling, 0):
            raise Refusal(api.TRADE_RETCODE_INVALID_FILL)

    def market_open(self, series: Series) -> bool:
        """Whether orders are taken now: a bar forms, and where the calendar counts, it is open."""
        if not series.forming:
            return False
        config = self.config
        return config.sessions == "data" or is_open_at(self.now, series.spec.session, config.server_timezone)

    def check_open(self, series: Series) -> None:
        """The market is open and has prices."""
        if not self.market_open(series):
            raise Refusal(api.TRADE_RETCODE_MARKET_CLOSED)
        if series.bid <= 0:
            raise Refusal(api.TRADE_RETCODE_PRICE_OFF)

    def check_direction(self, spec: SymbolSpec, buy: bool) -> None:
        """Whether the symbol's trade mode lets a position of that side be opened."""
        if spec.trade_mode == api.SYMBOL_TRADE_MODE_CLOSEONLY:
            raise Refusal(api.TRADE_RETCODE_CLOSE_ONLY)
        if spec.trade_mode == api.SYMBOL_TRADE_MODE_LONGONLY and not buy:
            raise Refusal(api.TRADE_RETCODE_LONG_ONLY)
        if spec.trade_mode == api.SYMBOL_TRADE_MODE_SHORTONLY and buy:
            raise Refusal(api.TRADE_RETCODE_SHORT_ONLY)

    def checked_stops(
        self, spec: SymbolSpec, buy: bool, bid: float, ask: float, request: TradeRequest
    ) -> tuple[float, float]:
        """SL and TP, rounded, on their sides and far enough from the price."""
        sl, tp = round(request.sl, spec.digits), round(request.tp, spec.digits)
        if sl < 0 or tp < 0 or not stops_allowed(spec, buy, bid, ask, sl, tp):
            raise Refusal(api.TRADE_RETCODE_INVALID_STOPS)
        return sl, tp

    def check_limits(self, spec: SymbolSpec, buy: bool, volume: float, *, position: bool) -> None:
        """Volume of one direction, pending orders included; `position`: and one more position."""
        account = self.account
        if spec.volume_limit:
            total = volume + sum(
                each.volume for each in account.positions.values() if (each.symbol, each.buy) == (spec.name, buy)
            )
            total += sum(
                each.volume_current
                for each in account.pending.values()
                if (each.symbol, each.type in BUYING) == (spec.name, buy) and not each.position_id
            )
            if total > spec.volume_limit + 1e-9:
                raise Refusal(api.TRADE_RETCODE_LIMIT_VOLUME)
        if not position or not self.config.limit_positions:
            return
        adds = not (account.netting and account.position_on(spec.name))
        if adds and len(account.positions) >= self.config.limit_positions:
            raise Refusal(api.TRADE_RETCODE_LIMIT_POSITIONS)

    def check_not_frozen(self, spec: SymbolSpec, price: float, *levels: float) -> None:
        """None of the levels (0: none) is within the freeze level of the price."""
        if frozen(spec, price, *levels):
            raise Refusal(api.TRADE_RETCODE_FROZEN)

    def check_pending_price(self, series: Series, kind: int, price: float, stoplimit: float) -> None:
        """A pending order's price on its side of the market, at least `stops_level` points away.

        Limits: buy below the ask, sell above the bid; stops the other way round; a stop-limit's limit price lies
        on the near side of its stop price: a buy's below it, a sell's above.
        """
        spec, buy = series.spec, kind in BUYING
        market = series.ask if buy else series.bid
        limit = kind in (api.ORDER_TYPE_BUY_LIMIT, api.ORDER_TYPE_SELL_LIMIT)
        # On an exchange a limit order may lie through the market: it is filled at once.
        level = spec.stops_level
        good = price > 0
        if good and not (limit and spec.execution == api.SYMBOL_TRADE_EXECUTION_EXCHANGE):
            upper, lower = (market, price) if buy == limit else (price, market)
            good = far_enough(spec, level, upper, lower)
        if good and kind in (api.ORDER_TYPE_BUY_STOP_LIMIT, api.ORDER_TYPE_SELL_STOP_LIMIT):
            upper, lower = (price, stoplimit) if buy else (stoplimit, price)
            good = stoplimit > 0 and far_enough(spec, level, upper, lower)
        if not good:
            raise Refusal(api.TRADE_RETCODE_INVALID_PRICE)

    def affords(self, spec: SymbolSpec, buy: bool, volume: float, price: float) -> bool:
        """Whether there is free margin for an order that becomes active; what only reduces is always allowed."""
        position = self.account.position_on(spec.name) if self.account.netting else None
        freed = 0.0
        if position is not None and position.buy != buy:
            if volume <= position.volume:
                return True
            volume -= position.volume
            freed = self.calc.margin(spec, position.volume, position.price_open) or 0.0
        margin = self.calc.margin(spec, volume, price)
        totals = self.account.totals()
        return margin is not None and margin - freed <= totals.equity - totals.margin
