"""The closed bars of one bot, as they come."""

from __future__ import annotations

import numpy as np
import pandas as pd

from botproc.strategy import COLUMNS, Columns
from botproc.window import Window, frame_of
from broker.api import Rates
from broker.market import TIMEFRAMES, aggregate, bar_ends, closed_only
from broker.paper.feeds import ReplayFeed
from broker.paper.terminal import PaperTerminal


class Tape:
    """The bars up to the market's clock; begins with those that closed before its start.

    Making a frame of every bar's window anew takes longer than most strategies do. Where all bars are known from
    the start (a replay) one frame is made of them, and cut; what is later than the clock is never in a cut.
    """

    def __init__(self, terminal: PaperTerminal, symbol: str, timeframe: str, size: int) -> None:
        self._size = size
        series = terminal.series[symbol]
        self._whole: pd.DataFrame | None = None
        self._window = Window(size)
        self._count = 0
        if timeframe != series.timeframe:
            terminal.watch(series, timeframe)  # its steps tell when such a bar closes
        if isinstance(terminal.feed, ReplayFeed):
            all_bars = series.rates if timeframe == series.timeframe else aggregate(series.rates, timeframe)
            self._whole = frame_of(all_bars)
            self._columns = {name: all_bars[name].astype(np.float64) for name in COLUMNS}
            self._times: list[int] = all_bars["time"].tolist()
            self._count = int(np.searchsorted(bar_ends(all_bars["time"], timeframe), terminal.now, side="right"))
            return
        rates: Rates | None = terminal.copy_rates_from_pos(symbol, TIMEFRAMES[timeframe], 0, size + 1)
        if rates is not None:
            self._window.fill(closed_only(rates, timeframe, terminal.now).tobytes())

    def __len__(self) -> int:
        return min(self._count, self._size) if self._whole is not None else len(self._window)

    @property
    def last_time(self) -> int:
        """Opening time of the last closed bar, server seconds; -1 without one."""
        if self._whole is None:
            return self._window.last_time
        return self._times[self._count - 1] if self._count else -1

    def append(self, row: bytes) -> None:
        """One more bar has closed: one record of the rates dtype."""
        if self._whole is None:
            self._window.append(row)
            return
        self._count += 1
        opened = int.from_bytes(row[:8], "little", signed=True)
        if opened != self.last_time:
            raise ValueError(f"the bar of {opened} closed where that of {self.last_time} was expected")

    def columns(self, bars: int) -> Columns | None:
        """The columns of `frame(bars)`; None where they are no sooner had than out of the frame."""
        if self._whole is None:
            return None
        stop = self._count
        return lambda column: self._columns[column][stop - bars : stop]

    def frame(self, bars: int) -> pd.DataFrame:
        """The last bars, at most so many."""
        if self._whole is None:
            return self._window.frame().iloc[-bars:]
        return self._whole.iloc[max(0, self._count - bars) : self._count]
