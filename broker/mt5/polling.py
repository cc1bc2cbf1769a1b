"""Bars of a terminal that is only asked, never tells: each symbol and timeframe once, however many bots want it.

A bar has closed when a newer one is there, or when the server's clock has passed its end by a moment: at the end of
a week no newer one comes. By the clock only a bar ends that the last tick has reached: any other has begun since that
tick was read, and a clock by which it is over is wrong (after a weekend the server may be in another zone).

Bars that are told long after they ended are history: who decided on them would trade on what was known long ago. So
are those of which some before them are not told at all. Both are `missed`: whoever follows must read them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from broker.api import RATES_DTYPE, Rates, Tick
from broker.market import TIMEFRAMES, bar_end
from broker.paper.moments import ClosedBar

#: Seconds of server time that a bar is given for ticks that travel, where only the clock says that it has ended.
GRACE: Final = 2
_FEW: Final = 3
_MANY: Final = 300
#: Seconds between two looks at a bar whose time is over, where no tick comes.
_QUIET: Final = 5.0
#: Seconds by which a bar may be told later than it could have been and still count, beside those between two looks.
LATE: Final = 10.0

Topic = tuple[str, str]  # symbol, timeframe


class Quote(NamedTuple):
    """A symbol's last tick, and whether it was not there at the look before."""

    tick: Tick
    fresh: bool


@dataclass(slots=True)
class _Line:
    """One symbol and timeframe: opening times of the bar that forms, and of the last one that closed.

    `looked`: when all that had closed was told, monotonic. `doubted`: what was told last may not be as it was told.
    """

    forming: int = 0
    closed: int = 0
    look_at: float = 0.0
    looked: float = float("inf")  # no bar is late before the first look
    doubted: bool = False


class Polled:
    """For the terminal thread. `rates` is the terminal's copy_rates_from_pos, `tick` its symbol_info_tick.

    `late`: seconds without a look at a topic after which what has closed meanwhile is late.
    """

    def __init__(self, rates: Callable[..., Any], tick: Callable[[str], Any], late: float = LATE) -> None:
        self._rates = rates
        self._tick = tick
        self._late = late
        self._lines: dict[Topic, _Line] = {}
        self._stamps: dict[str, int] = {}
        #: Of the bars that the last step told, the topics whose followers must read all anew.
        self.missed: tuple[Topic, ...] = ()

    def draft(self) -> Polled:
        """The same state once more: what is done with it happens here only where it is put in this one's place."""
        made = Polled(self._rates, self._tick, self._late)
        made._lines = {key: replace(line) for key, line in self._lines.items()}
        made._stamps = dict(self._stamps)
        return made

    def watch(self, symbol: str, timeframe: str, now: int) -> None:
        """Have its bars told from now on."""
        if (symbol, timeframe) in self._lines or timeframe not in TIMEFRAMES:
            return
        rates = self._fetch(symbol, timeframe, _FEW)
        if rates is None or not len(rates):
            return  # asked again with the next attach
        line = _Line(forming=int(rates["time"][-1]))
        closed = _closed(rates, timeframe, now)
        line.closed = int(closed["time"][-1]) if len(closed) else 0
        self._lines[symbol, timeframe] = line

    def doubt(self) -> None:
        """What was told last may be wrong: it is to be read anew with the next bar of each topic."""
        for line in self._lines.values():
            line.doubted = True

    def closed(self, symbol: str, timeframe: str) -> int | None:
        """Opening time of the last bar that was told (or was there when it began); None: not watched."""
        line = self._lines.get((symbol, timeframe))
        return None if line is None else line.closed

    @property
    def symbols(self) -> list[str]:
        """Those that are watched, each once."""
        return list(dict.fromkeys(symbol for symbol, _ in self._lines))

    def quotes(self) -> dict[str, Quote]:
        """The last tick of each watched symbol."""
        found: dict[str, Quote] = {}
        for symbol in self.symbols:
            tick = self._tick(symbol)
            if tick is None:
                continue
            stamp, before = int(tick.time_msc), self._stamps.get(symbol)
            self._stamps[symbol] = stamp
            found[symbol] = Quote(tick, before is not None and stamp > before)
        return found

    def step(self, quotes: dict[str, Quote], now: int, mono: float) -> tuple[ClosedBar, ...]:
        """Bars that have closed since the last step. `now`: server seconds, past for sure; `mono`: monotonic."""
        told: list[ClosedBar] = []
        missed: list[Topic] = []
        for (symbol, timeframe), line in self._lines.items():
            quote = quotes.get(symbol)
            if quote is None:
                continue
            if max(int(quote.tick.time), now - GRACE) < bar_end(line.forming, timeframe):
                line.looked = mono
                continue
            if not quote.fresh and mono < line.look_at:
                continue
            line.look_at = mono + _QUIET
            rates, whole = self._since(symbol, timeframe, line)
            if rates is None:
                continue
            fresh = _news(rates, timeframe, line, now, int(quote.tick.time))
            if len(fresh) and (line.doubted or not whole or mono - line.looked > self._late):
                missed.append((symbol, timeframe))
                line.doubted = False
            line.looked = mono
            for row in fresh:
                told.append(ClosedBar(symbol, timeframe, row.tobytes(), float(quote.tick.bid), float(quote.tick.ask)))
        self.missed = tuple(missed)
        return tuple(told)

    def _since(self, symbol: str, timeframe: str, line: _Line) -> tuple[Rates | None, bool]:
        """The bars since the last that was told, and whether they are all of them; None where there is no answer."""
        begun = line.closed or line.forming
        rates = self._fetch(symbol, timeframe, _FEW)
        if rates is not None and len(rates) and int(rates["time"][0]) > begun:
            rates = self._fetch(symbol, timeframe, _MANY)  # several have passed since
        if rates is None or not len(rates):
            return None, True
        return rates, int(rates["time"][0]) <= begun

    def _fetch(self, symbol: str, timeframe: str, count: int) -> Rates | None:
        rates = self._rates(symbol, TIMEFRAMES[timeframe], 0, count)
        return None if rates is None else rates.astype(RATES_DTYPE, copy=False)


def _news(rates: Rates, timeframe: str, line: _Line, now: int, reached: int) -> Rates:
    """Those of `rates` that have closed since the last that was told. `reached`: the last tick's time."""
    line.forming = max(line.forming, int(rates["time"][-1]))
    closed = _closed(rates, timeframe, now if int(rates["time"][-1]) <= reached else reached)
    fresh: Rates = closed[closed["time"] > line.closed]
    if len(fresh):
        line.closed = int(fresh["time"][-1])
    return fresh


def _closed(rates: Rates, timeframe: str, now: int) -> Rates:
    """Those with a newer one behind them, and the last one too where its time is over."""
    if bar_end(int(rates["time"][-1]), timeframe) <= now - GRACE:
        return rates
    return rates[:-1]
