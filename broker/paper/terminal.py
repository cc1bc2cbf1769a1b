"""The paper terminal: MetaTrader 5's functions, over a market whose clock `step` moves."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from broker import api
from broker.api import RES_E_AUTH_FAILED, RES_E_INVALID_PARAMS, TradeDeal
from broker.market import aggregate, most_bars
from broker.paper.account import Trade
from broker.paper.core import Failed, answers, answers_or, larger_end
from broker.paper.history import History
from broker.paper.matching import Fill, Position, at_open, inside_bar
from broker.paper.reads import STOP_OUT_LEVEL, Reads
from broker.paper.series import NEVER, Series
from broker.paper.trading import Trading
from protocol.botconfig import TIMEFRAME_SECONDS
from store.errors import StoreError

_DAY: Final = 86_400
_COMMENTS: Final = {api.DEAL_REASON_SL: "sl", api.DEAL_REASON_TP: "tp", api.DEAL_REASON_SO: "so"}


class ClosedBar(NamedTuple):
    """A bar that closed: one record of the rates dtype, and the symbol's quote after the moment."""

    symbol: str
    timeframe: str
    row: bytes
    bid: float
    ask: float


class Step(NamedTuple):
    """One moment of the market: server seconds, bars that closed, deals that stops and stop-outs made."""

    time: int
    closed: tuple[ClosedBar, ...]
    deals: tuple[TradeDeal, ...] = ()


class PaperTerminal(Reads, History, Trading):
    """One paper account and its market. Not for several threads at once, as the real one.

    A new account begins at the feed's start, with a deposit; an old one goes on where its database says.
    """

    @property
    def lockstep(self) -> bool:
        """Whether the market waits for the bots (`bars_per_second = "max"`)."""
        return self.config.bars_per_second == "max"

    @property
    def interval(self) -> float | None:
        """Seconds between two steps; None in lockstep."""
        speed = self.config.bars_per_second
        return None if isinstance(speed, str) else 1.0 / speed

    # --- the connection ------------------------------------------------------------------------------

    def initialize(self, *args: Any, **kwargs: Any) -> bool:
        """Connect again after `shutdown`. Arguments are those of `login`."""
        self.connected = True
        return self.login(**kwargs) if "login" in kwargs else self._succeed()

    @answers_or(False)
    def login(self, *args: Any, **kwargs: Any) -> bool:
        """True for the account's own number, which is the only one here."""
        number = args[0] if args else kwargs.get("login")
        if number != self.login_number:
            raise Failed(RES_E_AUTH_FAILED, "Terminal: Authorization failed")
        return True

    def shutdown(self) -> None:
        """Disconnect: until `initialize` every function fails. The account stays; `close` leaves it for good."""
        self.connected = False

    @answers
    def version(self) -> tuple[int, int, str]:
        """Terminal version, build, and the build's day, of the package whose API this is."""
        return (500, 6231, "27 Sep 2026")

    def last_error(self) -> tuple[int, str]:
        """Code and text of the last call's failure; (1, "Success") after a success."""
        return self.error

    @answers_or(True)
    def _succeed(self) -> bool:
        return True

    def close(self) -> None:
        """Keep the clock's place and close the database."""
        self.keep_clock(force=True)
        self._db.close()

    # --- money ---------------------------------------------------------------------------------------

    @answers
    def order_calc_margin(self, action: int, symbol: str, volume: float, price: float) -> float:
        """Margin in the account's currency, whatever else is open. None where no symbol converts it."""
        series = self._calc_arguments(action, symbol, volume=volume, price=price)
        margin = self.calc.margin(series.spec, volume, price)
        if margin is None:
            raise self._no_path(series.spec.margin_currency)
        return margin

    @answers
    def order_calc_profit(
        self, action: int, symbol: str, volume: float, price_open: float, price_close: float
    ) -> float:
        """Profit in the account's currency. None where no symbol converts it."""
        series = self._calc_arguments(action, symbol, volume=volume, price_open=price_open, price_close=price_close)
        buy = action == api.ORDER_TYPE_BUY
        profit = self.calc.profit(series.spec, buy, volume, price_open, price_close)
        if profit is None:
            raise self._no_path(series.spec.profit)
        return profit

    def _calc_arguments(self, action: int, symbol: str, **numbers: float) -> Series:
        if action not in (api.ORDER_TYPE_BUY, api.ORDER_TYPE_SELL):
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "action" argument')
        series = self.series_of(symbol)
        for name, value in numbers.items():
            if isinstance(value, str) or not 0 < value < 1e15:
                raise Failed(RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
        return series

    def _no_path(self, currency: str) -> Failed:
        text = f"Terminal: Call failed (no symbol converts {currency} to {self.calc.currency})"
        return Failed(api.RES_E_FAIL, text)

    # --- the clock -----------------------------------------------------------------------------------

    def step(self) -> Step | None:
        """Go to the market's next moment; None where the feed has ended.

        First the bars that end there close: their paths run over SL and TP. Then those that open there open,
        and a gap beyond a stop fills at the opening price. Where a close is followed by no opening the quote
        stays and the market is closed. What changed is committed before this returns. Raises StoreError when
        that fails; then the moment did not happen, and the next call tries it again.
        """
        moment = min(min(each.next_end, each.next_open) for each in self.series.values())
        if moment >= NEVER:
            self.keep_clock(force=True)
            return None
        account, before = self.account, self.now
        trading = bool(account.positions)
        places = [(each, each.place()) for each in self.series.values()] if trading else []
        watched = dict(self.watched)
        deals = len(account.deals)
        closed = self._close_bars(moment)
        self.now = moment
        self._open_bars(moment)
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

    def _close_bars(self, moment: int) -> list[tuple[str, str, bytes]]:
        closing = [each for each in self.series.values() if each.next_end <= moment]
        # All quotes first: a conversion must not depend on the order of the symbols.
        for series in closing:
            series.close_bar()
        if self.account.positions:
            for series in closing:
                self._run_path(series, moment)
            self._roll_over(moment)
        closed = [(each.spec.name, each.timeframe, each.last().tobytes()) for each in closing]
        if self.watched:
            closed += self._close_larger(moment)
        return closed

    def _open_bars(self, moment: int) -> None:
        opening = [each for each in self.series.values() if each.next_open <= moment]
        for series in opening:
            series.open_bar()
            for (symbol, timeframe), end in self.watched.items():
                if symbol == series.spec.name and end == NEVER:
                    self.watched[symbol, timeframe] = larger_end(series, timeframe)
        if self.account.positions:
            for series in opening:
                for position in self._on(series):
                    fill = at_open(position, series.bid, series.ask)
                    if fill is not None:
                        self._fill(series, position, fill, moment * 1000)
            self._stop_out(moment)

    def _close_larger(self, moment: int) -> list[tuple[str, str, bytes]]:
        """Bars of larger timeframes, asked for before, that ended by now; smallest timeframe first."""
        due = [key for key, end in self.watched.items() if end <= moment]
        out = []
        for symbol, timeframe in sorted(due, key=lambda key: TIMEFRAME_SECONDS[key[1]]):
            series = self.series[symbol]
            count = most_bars(series.timeframe, timeframe)
            bars = aggregate(series.visible(series.opened - count, series.opened), timeframe)
            out.append((symbol, timeframe, bars[-1:].tobytes()))
            self.watched[symbol, timeframe] = NEVER  # until the next one opens
        return out

    # --- what the market does to positions -------------------------------------------------------------

    def _on(self, series: Series) -> list[Position]:
        return [each for each in self.account.positions.values() if each.symbol == series.spec.name]

    def _run_path(self, series: Series, moment: int) -> None:
        positions = self._on(series)
        if not positions:
            return
        bar = series.last()[0]
        high, low, spread = bar["high"].item(), bar["low"].item(), bar["spread"].item()
        for position in positions:
            fill = inside_bar(position, series.spec, high, low, spread)
            if fill is not None:
                # Inside the bar, so before what happens at its end.
                self._fill(series, position, fill, moment * 1000 - 1)

    def _fill(self, series: Series, position: Position, fill: Fill, time_msc: int) -> None:
        digits = series.spec.digits
        level = {api.DEAL_REASON_SL: position.sl, api.DEAL_REASON_TP: position.tp}.get(fill.reason, fill.price)
        self.account.execute(
            Trade(
                spec=series.spec,
                buy=not position.buy,
                volume=position.volume,
                price=fill.price,
                time_msc=time_msc,
                reason=fill.reason,
                magic=position.magic,
                comment=f"[{_COMMENTS[fill.reason]} {level:.{digits}f}]",
                position=position.ticket,
            )
        )

    def _stop_out(self, moment: int) -> None:
        """Below the stop-out level the worst position is closed, then the next, while its market is open."""
        account = self.account
        while account.positions:
            totals = account.totals()
            if not totals.margin or totals.level >= STOP_OUT_LEVEL:
                return
            open_ = [each for each in account.positions.values() if self.series[each.symbol].forming]
            if not open_:
                return
            worst = min(open_, key=lambda each: (account.profit_of(each) + each.swap, each.ticket))
            series = self.series[worst.symbol]
            price = series.bid if worst.buy else series.ask
            self._fill(series, worst, Fill(price, api.DEAL_REASON_SO), moment * 1000)

    def _roll_over(self, moment: int) -> None:
        """Swap for each midnight passed: Monday's to Friday's, threefold on the day that pays the weekend."""
        for midnight in range((self.now // _DAY + 1) * _DAY, moment + 1, _DAY):
            weekday = (midnight // _DAY + 3) % 7  # of the day that ended, Sunday 0
            if weekday in (api.DAY_OF_WEEK_SATURDAY, api.DAY_OF_WEEK_SUNDAY):
                continue
            for position in list(self.account.positions.values()):
                spec = self.series[position.symbol].spec
                points = spec.swap_long if position.buy else spec.swap_short
                self.account.add_swap(position.ticket, points * (3 if weekday == spec.triple_day else 1))
