"""The last closed bars of one bot: kept as a small array, given out as a DataFrame only to a rule that needs one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from botproc.strategy import COLUMNS, Columns
from broker.api import RATES_DTYPE, Rates


class Window:
    """At most `size` closed bars, oldest first."""

    __slots__ = ("_bars", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._bars: Rates = np.empty(0, RATES_DTYPE)

    def __len__(self) -> int:
        return len(self._bars)

    @property
    def last_time(self) -> int:
        """Opening time of the last closed bar, server seconds; -1 without one."""
        return int(self._bars["time"][-1]) if len(self._bars) else -1

    def fill(self, raw: bytes) -> None:
        """Take a history (bytes of the rates dtype, oldest first) in place of what was kept."""
        self._bars = np.frombuffer(raw, RATES_DTYPE)[-self.size :].copy()

    def append(self, row: bytes) -> None:
        """Add one closed bar (one record of the rates dtype). One that is not newer than the last is ignored."""
        bar = np.frombuffer(row, RATES_DTYPE)
        if int(bar["time"][0]) > self.last_time:
            self._bars = np.concatenate((self._bars[-(self.size - 1) :] if self.size > 1 else self._bars[:0], bar))

    @property
    def rates(self) -> Rates:
        """The bars as they are kept. Do not change them."""
        return self._bars

    def columns(self, count: int) -> Columns:
        """The last `count` values of a column by its name, as `botproc.strategy.Strategy.decide` takes them."""
        bars = self._bars[-count:]
        return lambda name: np.ascontiguousarray(bars[name], dtype=np.float64)

    def frame(self) -> pd.DataFrame:
        """The bars with the columns that `botproc.strategy.COLUMNS` names; `time` in UTC."""
        return frame_of(self._bars)


def frame_of(bars: Rates) -> pd.DataFrame:
    """Rates as strategies get them: the columns of `botproc.strategy.COLUMNS`, `time` in UTC."""
    columns = {name: bars[name] for name in COLUMNS[1:]}
    time = pd.DatetimeIndex(bars["time"].astype("datetime64[s]").astype("datetime64[ns]"), tz="UTC")
    return pd.DataFrame({"time": time, **columns})
