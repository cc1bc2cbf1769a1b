"""The market's clock: bars close, move and open, and what that does to positions and orders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from broker import api
from broker.api import TradeOrder
from broker.market import aggregate, most_bars
from broker.paper import path, rollover
from broker.paper.core import larger_end
from broker.paper.matching import BUYING, MARKET, Position, Reach, Touch, Watch, first_touch, reason_of
from broker.paper.moments import ClosedBar, Step
from broker.paper.series import NEVER, Series
from broker.paper.trades import Trade
from broker.paper.trading import Trading
from protocol.botconfig import TIMEFRAME_SECONDS
from store.errors import StoreError

_COMMENTS: Final = {api.DEAL_REASON_SL: "sl", api.DEAL_REASON_TP: "tp", api.DEAL_REASON_SO: "so"}


class Members(NamedTuple):
    """Whose levels a way of the price is tried on: positions and orders of one symbol."""

    positions: set[int]
    orders: set[int]


class Clock(Trading):
    """`step`, and the market's side of trading."""

    _known = -1  # version of the account that `_reach` is of
    _reach: dict[str, Reach]

    def step(self) -> Step | None:
        """Go to the market's next moment; None where the feed has ended.

        First the bars that end there close: their ways run over stops and orders. Then ticks move, orders
        expire, and bars that open there open: a gap beyond a level fills at the opening price. Where a close is
        followed by no opening the quote stays and the market is closed. What changed is committed before this
        returns. Raises StoreError when that fails; then the moment did not happen, and the next call tries it
        again.
        """
        moment = min(min(each.next_end, each.next_open, each.next_tick) for each in self.series.values())
        if moment >= NEVER:
            self.keep_clock(force=True)
            return None
        account, before = self.account, self.now
        trading = bool(account.positions or account.pending)
        places = [(each, each.place()) for each in self.series.values()] if trading else []
        watched = dict(self.watched)
        deals = len(account.deals)
        closed = self._close_bars(moment, trading)
        self.now = moment
        self._move_and_open(moment, trading)
        if trading and account.changed:
            try:
                self.save()
            except StoreError:
                self.now, self.watched = before, watched
                for series, place in places:
                    series.restore(place)
                raise
        else:
            self.keep_clock()
        bars = tuple(ClosedBar(*bar, self.series[bar[0]].bid, self.series[bar[0]].ask) for bar in closed)
        return Step(moment, bars, tuple(account.deals[deals:]))

    # --- bars ----------------------------------------------------------------------------------------

    def _close_bars(self, moment: int, trading: bool) -> list[tuple[str, str, bytes]]:
        closing = [each for each in self.series.values() if each.next_end <= moment]
        walked = [each.bid for each in closing]  # where a way that was shown in ticks stands
        # All quotes first: a conversion must not depend on the order of the symbols.
        for series in closing:
            series.close_bar()
        if trading:
            for series, bid in zip(closing, walked, strict=True):
                # Inside the bar, so before what happens at its end.
                self._run_bar(series, bid, moment * 1000 - 1)
            self._roll_over(moment)
        closed = [(each.spec.name, each.timeframe, each.last().tobytes()) for each in closing]
        if self.watched:
            closed += self._close_larger(moment)
        return closed

    def _move_and_open(self, moment: int, trading: bool) -> None:
        moving = [(each, each.move()) for each in self.series.values() if each.next_tick <= moment]
        opening = [each for each in self.series.values() if each.next_open <= moment]
        if trading:
            self.expire(moment)
            for series, (before, after) in moving:
                self._walk_all(series, (before, after), moment * 1000)
        for series in opening:
            series.open_bar()
            for (symbol, timeframe), end in self.watched.items():
                if symbol == series.spec.name and end == NEVER:
                    self.watched[symbol, timeframe] = larger_end(series, timeframe)
        if not trading:
            return
        for series in opening:
            self._walk_all(series, (series.bid, series.bid), moment * 1000)
        if any(each.type in MARKET for each in self.account.pending.values()):
            for series in [*opening, *(each for each, _ in moving)]:
                self._go_on(series, moment * 1000)
        self._stop_out(moment)

    def _close_larger(self, moment: int) -> list[tuple[str, str, bytes]]:
        """Bars of larger timeframes, asked for before, that have ended and are followed by another; smallest first.

        As in MetaTrader a bar is over when the next one begins. Where the market sleeps at its end (every night, for
        gold and indices) a decision on it could not be executed before.
        """
        due = [key for key, end in self.watched.items() if end <= moment and self.series[key[0]].next_open <= moment]
        out = []
        for symbol, timeframe in sorted(due, key=lambda key: TIMEFRAME_SECONDS[key[1]]):
            series = self.series[symbol]
            count = most_bars(series.timeframe, timeframe)
            bars = aggregate(series.visible(series.opened - count, series.opened), timeframe)
            out.append((symbol, timeframe, bars[-1:].tobytes()))
            self.watched[symbol, timeframe] = NEVER  # until the next one opens
        return out

    # --- ways of the price -----------------------------------------------------------------------------

    def _on(self, symbol: str) -> tuple[list[Position], list[TradeOrder]]:
        positions = [each for each in self.account.positions.values() if each.symbol == symbol]
        orders = [each for each in self.account.pending.values() if each.symbol == symbol and each.type not in MARKET]
        return positions, orders

    def _run_bar(self, series: Series, shown: float, time_msc: int) -> None:
        """The way of a bar that closed. What was shown in ticks has been walked already, but for the last leg."""
        if self.config.ticks_per_bar > 1:
            self._walk_all(series, (shown, series.bid), time_msc)
            return
        bar = series.last()[0]
        prices = bar["open"].item(), bar["high"].item(), bar["low"].item(), bar["close"].item()
        if not self._reaches(series, prices):
            return
        if self.config.price_model == "ohlc":
            self._walk_all(series, path.ohlc(*prices), time_msc)
            return
        positions, orders = self._on(series.spec.name)
        # A position meets its loss first; an order that fills meets what is worst for the position it makes.
        for buy in (True, False):
            mine = {each.ticket for each in positions if each.buy == buy}
            self._walk(series, path.worst(buy, *prices), Members(mine, set()), time_msc)
        for buy in (True, False):
            mine = {each.ticket for each in orders if (each.type in BUYING) == buy}
            self._walk(series, path.worst(not buy, *prices), Members(set(), mine), time_msc)

    def _walk_all(self, series: Series, way: path.Way, time_msc: int) -> None:
        if self._reaches(series, way):
            positions, orders = self._on(series.spec.name)
            members = Members({each.ticket for each in positions}, {each.ticket for each in orders})
            self._walk(series, way, members, time_msc)

    def _reaches(self, series: Series, way: path.Way) -> bool:
        """Whether anything can happen on a way. Most bars touch nothing, so the nearest levels are remembered."""
        if self._known != self.account.version:
            self._known, self._reach = self.account.version, {}
        symbol = series.spec.name
        reach = self._reach.get(symbol)
        if reach is None:
            positions, orders = self._on(symbol)
            reach = Reach.of([*map(Watch.of_position, positions), *map(Watch.of_order, orders)])
            self._reach[symbol] = reach
        return reach.includes(way, series.spread(), series.spec.digits)

    def _walk(self, series: Series, way: path.Way, members: Members, time_msc: int) -> None:
        """Everything that the members' levels make of a way, in the order in which the price reaches them."""
        if not members.positions and not members.orders:
            return
        spread, digits = series.spread(), series.spec.digits
        served: set[tuple[int, int]] = set()  # an order trades once on a way, and once more after it changed
        at = way[0]
        for end in way[1:]:
            while True:
                touch = first_touch(self._watches(members, served), at, end, spread, digits)
                if touch is None:
                    break
                at = touch.bid
                self._touched(series, touch, members, served, time_msc)
            at = end

    def _watches(self, members: Members, served: set[tuple[int, int]]) -> Iterator[Watch]:
        positions, pending = self.account.positions, self.account.pending
        for ticket in sorted(members.positions):
            if ticket in positions:
                yield Watch.of_position(positions[ticket])
        for ticket in sorted(members.orders):
            order = pending.get(ticket)
            if order is not None and (ticket, order.type) not in served:
                yield Watch.of_order(order)

    def _touched(
        self, series: Series, touch: Touch, members: Members, served: set[tuple[int, int]], time_msc: int
    ) -> None:
        ticket = touch.watch.ticket
        if touch.watch.position:
            position = self.account.positions[ticket]
            self._close(series, position, touch.price, reason_of(position, touch), time_msc)
            return
        order = self.account.pending[ticket]
        served.add((ticket, order.type))
        born = self.activate(series, order, touch.price, time_msc)
        if born:
            members.positions.add(born)

    # --- what the market does to positions and orders ----------------------------------------------------

    def _go_on(self, series: Series, time_msc: int) -> None:
        """What is left of market orders takes what the new price has."""
        for order in list(self.account.pending.values()):
            if order.symbol == series.spec.name and order.type in MARKET:
                self.activate(series, order, series.ask if order.type in BUYING else series.bid, time_msc)

    def _close(self, series: Series, position: Position, price: float, reason: int, time_msc: int) -> None:
        level = {api.DEAL_REASON_SL: position.sl, api.DEAL_REASON_TP: position.tp}.get(reason, price)
        if reason != api.DEAL_REASON_TP:
            price = self.slipped(series.spec, not position.buy, price, position.ticket)
        self.account.execute(
            Trade(
                spec=series.spec,
                buy=not position.buy,
                volume=position.volume,
                price=price,
                time_msc=time_msc,
                reason=reason,
                magic=position.magic,
                comment=f"[{_COMMENTS[reason]} {level:.{series.spec.digits}f}]",
                position=position.ticket,
            )
        )

    def _stop_out(self, moment: int) -> None:
        """Below the stop-out level the worst position is closed, then the next, while its market is open."""
        account, config = self.account, self.config
        while account.positions:
            totals = account.totals()
            level = totals.level if config.stop_out_mode == "percent" else totals.equity
            if not totals.margin or level >= config.stop_out_level:
                return
            open_ = [each for each in account.positions.values() if self.series[each.symbol].forming]
            if not open_:
                return
            worst = min(open_, key=lambda each: (account.profit_of(each) + each.swap, each.ticket))
            series = self.series[worst.symbol]
            price = series.bid if worst.buy else series.ask
            self._close(series, worst, price, api.DEAL_REASON_SO, moment * 1000)

    def _roll_over(self, moment: int) -> None:
        for nights, midnight in rollover.midnights(self.now, moment):
            for position in list(self.account.positions.values()):
                series = self.series[position.symbol]
                rollover.pay(self.account, series, position, nights(series.spec), midnight * 1000 - 1)
