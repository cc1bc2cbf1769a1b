"""Bars and ticks, as far as the clock has come."""

from __future__ import annotations

import datetime as dt

import numpy as np

from broker import api
from broker.api import RES_E_INVALID_PARAMS, RES_E_NOT_FOUND, Rates, Ticks, When
from broker.market import TIMEFRAME_NAMES, aggregate, bar_ends, most_bars
from broker.paper.answers import Failed, answers
from broker.paper.core import Core
from broker.paper.path import tick_prices
from broker.paper.series import Series
from protocol.timeframes import buildable, can_build


def seconds(moment: object, name: str) -> float:
    """Server seconds of a datetime (a naive one is local time, as in the package) or a number. Raises Failed."""
    if isinstance(moment, dt.datetime):
        return moment.timestamp()
    if isinstance(moment, bool) or not isinstance(moment, int | float | np.integer | np.floating):
        raise Failed(RES_E_INVALID_PARAMS, f'Invalid "{name}" argument')
    return float(moment)


class Bars(Core):
    """copy_rates_* and copy_ticks_*."""

    # --- bars ----------------------------------------------------------------------------------------

    @answers
    def copy_rates_from_pos(self, symbol: str, timeframe: int, start_pos: int, count: int) -> Rates:
        """`count` bars, ascending; position 0 is the newest: the one that forms, or the last where none does."""
        series, name = self._bars(symbol, timeframe)
        if start_pos < 0 or count <= 0:
            raise Failed(RES_E_INVALID_PARAMS)
        if name == series.timeframe:
            return series.visible(series.opened - start_pos - count, series.opened - start_pos)
        ratio = most_bars(series.timeframe, name)
        bars = aggregate(series.visible(series.opened - (start_pos + count + 1) * ratio, series.opened), name)
        stop = len(bars) - start_pos
        return bars[max(0, stop - count) : max(0, stop)]

    @answers
    def copy_rates_from(self, symbol: str, timeframe: int, date_from: When, count: int) -> Rates:
        """`count` bars, ascending, the newest of which opened at `date_from` or before."""
        if count <= 0:
            raise Failed(RES_E_INVALID_PARAMS)
        bars = self._all_bars(symbol, timeframe)
        stop = int(np.searchsorted(bars["time"], seconds(date_from, "date_from"), side="right"))
        return bars[max(0, stop - count) : stop]

    @answers
    def copy_rates_range(self, symbol: str, timeframe: int, date_from: When, date_to: When) -> Rates:
        """Bars that opened from `date_from` to `date_to`, both included."""
        bars = self._all_bars(symbol, timeframe)
        start = int(np.searchsorted(bars["time"], seconds(date_from, "date_from"), side="left"))
        stop = int(np.searchsorted(bars["time"], seconds(date_to, "date_to"), side="right"))
        return bars[start:stop]

    def _bars(self, symbol: str, timeframe: int) -> tuple[Series, str]:
        series = self.series_of(symbol)
        name = TIMEFRAME_NAMES.get(timeframe)
        if name is None:
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "timeframe" argument')
        if not can_build(series.timeframe, name):
            allowed = ", ".join(buildable(series.timeframe))
            raise Failed(RES_E_NOT_FOUND, f"Terminal: Not found (no {name} bars: the feed allows {allowed})")
        if name != series.timeframe:
            self.watch(series, name)
        return series, name

    def _all_bars(self, symbol: str, timeframe: int) -> Rates:
        series, name = self._bars(symbol, timeframe)
        bars = series.visible(0, series.opened)
        return bars if name == series.timeframe else aggregate(bars, name)

    # --- ticks ---------------------------------------------------------------------------------------

    @answers
    def copy_ticks_from(self, symbol: str, date_from: When, count: int, flags: int) -> Ticks:
        """At most `count` ticks, ascending, from `date_from` on: a bar's opening, its close, what it shows between."""
        ticks = self._ticks(self.series_of(symbol), flags)
        start = int(np.searchsorted(ticks["time_msc"], seconds(date_from, "date_from") * 1000, side="left"))
        if count <= 0:
            raise Failed(RES_E_INVALID_PARAMS)
        return ticks[start : start + count]

    @answers
    def copy_ticks_range(self, symbol: str, date_from: When, date_to: When, flags: int) -> Ticks:
        """Ticks from `date_from` to `date_to`, both included."""
        ticks = self._ticks(self.series_of(symbol), flags)
        start = int(np.searchsorted(ticks["time_msc"], seconds(date_from, "date_from") * 1000, side="left"))
        stop = int(np.searchsorted(ticks["time_msc"], seconds(date_to, "date_to") * 1000, side="right"))
        return ticks[start:stop]

    def _ticks(self, series: Series, flags: int) -> Ticks:
        if flags not in (api.COPY_TICKS_ALL, api.COPY_TICKS_INFO, api.COPY_TICKS_TRADE):
            raise Failed(RES_E_INVALID_PARAMS, 'Invalid "flags" argument')
        bars = series.bars()
        count = max(2, self.config.ticks_per_bar + 1)  # the opening and the close, and what is shown between
        ticks = np.zeros(0 if flags == api.COPY_TICKS_TRADE else count * len(bars), api.TICKS_DTYPE)
        if not len(ticks):
            return ticks  # nothing is traded on an exchange here
        spec = series.spec
        starts, ends = bars["time"], bar_ends(bars["time"], series.timeframe)
        for number in range(count - 1):
            ticks["time_msc"][number::count] = (starts + (ends - starts) * number // (count - 1)) * 1000
        ticks["time_msc"][count - 1 :: count] = ends * 1000 - 1  # inside its bar, before the next one's opening
        ticks["bid"] = tick_prices(bars, count - 1, spec.digits).ravel()
        ticks["ask"] = np.round(ticks["bid"] + np.repeat(bars["spread"], count) * spec.point, spec.digits)
        ticks["time"] = ticks["time_msc"] // 1000
        ticks["flags"] = api.TICK_FLAG_BID | api.TICK_FLAG_ASK
        return ticks[: len(ticks) - count + 1 + series.tick] if series.forming else ticks
