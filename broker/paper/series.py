"""The bars of one symbol, and how far the clock has come in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.api import RATES_DTYPE, Rates
from broker.market import bar_ends
from broker.paper.path import LEAST_TICKS, Way, along, tick_prices, tick_times, way_of
from broker.symbols import SymbolSpec

#: Later than any bar.
NEVER: Final = 1 << 62

#: Gives the bars that follow, or None where the feed has ended.
Grow = Callable[[], Rates | None]


class Place(NamedTuple):
    """Where a series stands; `Series.restore` goes back to it."""

    opened_at: int
    forming: bool
    tick: int
    bid: float
    ask: float


def no_more() -> Rates | None:
    """A series that has all its bars from the beginning."""
    return None


class Series:
    """Bars of one symbol in one timeframe, ascending; what lies beyond the clock is not shown.

    A bar opens at its `time`; until its end only its opening price is known, or with `ticks` of 3 and more as
    much of its way as the clock has walked. `bid` and `ask` are the last quote (0 before the first bar).
    `forming` says that a bar is open, which is also when the market is.
    """

    def __init__(
        self, spec: SymbolSpec, timeframe: str, rates: Rates, *, grow: Grow = no_more, keep: int = 0, ticks: int = 1
    ) -> None:
        self.spec = spec
        self.timeframe = timeframe
        self._grow = grow
        self._keep = keep  # bars kept behind the clock when more are made; 0: all
        self._ticks = ticks
        self._way: list[float] = []  # bids of the forming bar's ticks, the opening first
        self._tick_times: list[int] = []
        self.tick = 0  # ticks of the forming bar after its opening
        self.next_tick = NEVER
        self._shifted = 0  # bars dropped at the front so far
        self._point, self._digits = spec.point, spec.digits
        self._take(rates)
        self.opened = 0  # bars that have opened so far, closed ones included
        self.forming = False
        self.bid = self.ask = 0.0
        self.next_open = NEVER
        self.next_end = NEVER
        self._look_ahead()

    def skip_to(self, time: int) -> None:
        """Take all bars that have ended by `time` as history; a bar that is open at `time` forms."""
        while not len(self._ends) or int(self._ends[-1]) <= time:
            if not self._more():
                break
        self.opened = int(np.searchsorted(self._ends, time, side="right"))
        self.forming = False
        self.next_end = NEVER
        if self.opened:
            self._quote(self._closes)
        self._look_ahead()
        if self.next_open <= time:
            self.open_bar()
            while self.next_tick <= time:
                self.move()

    def close_bar(self) -> None:
        """The forming bar ends: the quote is its close."""
        self.forming = False
        self.next_end = self.next_tick = NEVER
        self._quote(self._closes)

    def open_bar(self) -> None:
        """The next bar opens: the quote is its opening price."""
        self.opened += 1
        self.forming = True
        self.tick = 0
        self.next_end = self._ends.item(self.opened - 1)
        self._quote(self._opens)
        self._look_ahead()
        if self._ticks >= LEAST_TICKS:
            self._plan(0)

    def move(self) -> tuple[float, float]:
        """The forming bar's next tick: bids before and after it."""
        before = self.bid
        self._plan(self.tick + 1)
        self.bid = self._way[self.tick]
        self.ask = round(self.bid + self._spreads.item(self.opened - 1) * self._point, self._digits)
        return before, self.bid

    def bid_at(self, time_msc: int) -> float:
        """The bid at a moment inside the forming bar, on its way. For what is on the way to the market."""
        if not self.forming:
            return self.bid
        start = self._times.item(self.opened - 1) * 1000
        span = self._ends.item(self.opened - 1) * 1000 - start
        if time_msc - start >= span:
            return float(self._closes.item(self.opened - 1))
        way: Way = tuple(self._way) if self._way else way_of(self.last())
        return round(along(way, (time_msc - start) / span), self._digits)

    def spread(self) -> float:
        """The newest bar's spread as a difference of prices."""
        return self._spreads.item(self.opened - 1) * self._point if self.opened else 0.0

    def _plan(self, tick: int) -> None:
        """The forming bar stands at its tick number `tick`; when the next one comes."""
        if tick == 0:
            last = self.opened - 1
            self._way = tick_prices(self.last(), self._ticks, self._digits)[0].tolist()
            self._tick_times = tick_times(self._times.item(last), self._ends.item(last), self._ticks)
        self.tick = tick
        self.next_tick = self._tick_times[tick] if tick < len(self._tick_times) else NEVER

    def place(self) -> Place:
        """Where the series stands."""
        return Place(self._shifted + self.opened, self.forming, self.tick, self.bid, self.ask)

    def restore(self, place: Place) -> None:
        """Go back to a place of a moment ago."""
        self.opened = place.opened_at - self._shifted
        self.forming, self.bid, self.ask = place.forming, place.bid, place.ask
        self.next_end = self._ends.item(self.opened - 1) if self.forming else NEVER
        self.next_tick = NEVER
        if self.forming and self._ticks >= LEAST_TICKS:
            self._plan(0)
            self._plan(place.tick)
        self._look_ahead()

    def last(self) -> Rates:
        """The newest bar, complete: shape (1,). For the close, never to be shown before."""
        return self.rates[self.opened - 1 : self.opened]

    def bars(self) -> Rates:
        """All bars that have opened, the forming one complete. Never to be shown as they are."""
        return self.rates[: self.opened]

    def visible(self, start: int, stop: int) -> Rates:
        """Bars `start` to `stop` (not included) of those opened, as a copy; a forming bar holds one tick."""
        stop = min(stop, self.opened)
        out = self.rates[max(start, 0) : stop].copy()
        if self.forming and stop == self.opened and len(out):
            row = out[-1]
            walked = self._way[: self.tick + 1] if self._way else [row["open"].item()]
            row["high"], row["low"], row["close"] = max(walked), min(walked), walked[-1]
            row["tick_volume"] = max(1, int(row["tick_volume"]) * self.tick // self._ticks)
            row["real_volume"] = int(row["real_volume"]) * self.tick // self._ticks
        return out

    @property
    def time(self) -> int:
        """Server time of the last quote, in seconds; 0 before the first."""
        if not self.opened:
            return 0
        if self.forming:
            return self._tick_times[self.tick - 1] if self.tick else int(self._times.item(self.opened - 1))
        return int(self._ends.item(self.opened - 1)) - 1

    @property
    def time_msc(self) -> int:
        """The same in milliseconds: a close lies one millisecond before the end of its bar."""
        if self.opened and not self.forming:
            return self._ends.item(self.opened - 1) * 1000 - 1
        return self.time * 1000

    def _quote(self, prices: npt.NDArray[np.float64]) -> None:
        last = self.opened - 1
        self.bid = prices.item(last)
        self.ask = round(self.bid + self._spreads.item(last) * self._point, self._digits)

    def _look_ahead(self) -> None:
        if self.opened >= len(self._times):
            while self._more() and self.opened >= len(self._times):
                pass
        self.next_open = self._times.item(self.opened) if self.opened < len(self._times) else NEVER

    def _more(self) -> bool:
        fresh = self._grow()
        if fresh is None:
            return False
        behind = self.rates
        if self._keep and self.opened > self._keep:
            drop = self.opened - self._keep
            behind = behind[drop:]
            self.opened -= drop
            self._shifted += drop
        self._take(np.concatenate([behind, fresh]).astype(RATES_DTYPE, copy=False))
        return True

    def _take(self, rates: Rates) -> None:
        self.rates = rates
        # Views of single columns: reading one number through them is several times as fast as through a row.
        self._times, self._opens, self._closes = rates["time"], rates["open"], rates["close"]
        self._spreads = rates["spread"]
        self._ends = bar_ends(self._times, self.timeframe)
