"""Bars: timeframes, when a bar ends, larger bars out of smaller ones, and rates as a DataFrame.

All times are server seconds, stamped as if they were UTC, which is what MetaTrader does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import numpy as np
import numpy.typing as npt

from broker import api
from broker.api import RATES_DTYPE, Rates
from protocol.botconfig import TIMEFRAME_SECONDS

if TYPE_CHECKING:
    import pandas as pd

#: Name -> MetaTrader's number, and back.
TIMEFRAMES: Final[dict[str, int]] = {name: getattr(api, f"TIMEFRAME_{name}") for name in TIMEFRAME_SECONDS}
TIMEFRAME_NAMES: Final[dict[int, str]] = {number: name for name, number in TIMEFRAMES.items()}

_DAY: Final = 86_400
_WEEK: Final = 604_800
# 1970-01-01 was a Thursday; MetaTrader's weeks begin on Sunday.
_FIRST_SUNDAY: Final = 3 * _DAY

Times = npt.NDArray[np.int64]


def bar_starts(times: Times, timeframe: str) -> Times:
    """Opening times of the bars of `timeframe` that hold `times`. Shape as given."""
    if timeframe == "MN1":
        months = times.astype("datetime64[s]").astype("datetime64[M]")
        return months.astype("datetime64[s]").astype(np.int64)
    if timeframe == "W1":
        return (times - _FIRST_SUNDAY) // _WEEK * _WEEK + _FIRST_SUNDAY
    seconds = TIMEFRAME_SECONDS[timeframe]
    return times // seconds * seconds


def bar_ends(starts: Times, timeframe: str) -> Times:
    """When the bars that open at `starts` end (the next one's opening). Shape as given."""
    if timeframe == "MN1":
        months = starts.astype("datetime64[s]").astype("datetime64[M]") + 1
        return months.astype("datetime64[s]").astype(np.int64)
    return starts + TIMEFRAME_SECONDS[timeframe]


def bar_end(start: int, timeframe: str) -> int:
    """When the bar that opens at `start` ends."""
    if timeframe == "MN1":
        return int(bar_ends(np.array([start], np.int64), timeframe)[0])
    return start + TIMEFRAME_SECONDS[timeframe]


def closed_only(rates: Rates, timeframe: str, now: float) -> Rates:
    """`rates` without a last bar that still forms at server time `now`."""
    if len(rates) and bar_end(int(rates["time"][-1]), timeframe) > now:
        return rates[:-1]
    return rates


def most_bars(base: str, timeframe: str) -> int:
    """How many bars of `base` one bar of `timeframe` has at most."""
    longest = 31 * _DAY if timeframe == "MN1" else TIMEFRAME_SECONDS[timeframe]
    return -(-longest // TIMEFRAME_SECONDS[base])


def aggregate(rates: Rates, timeframe: str) -> Rates:
    """Larger bars out of smaller ones: first open, highest high, lowest low, last close, summed volumes.

    `spread` is the smallest, as in MetaTrader. Gaps stay gaps. The first bar may be incomplete when `rates`
    begins inside it.
    """
    if not len(rates):
        return rates
    starts = bar_starts(rates["time"], timeframe)
    first = np.flatnonzero(np.r_[True, starts[1:] != starts[:-1]])
    last = np.r_[first[1:] - 1, len(rates) - 1]
    out = np.empty(len(first), RATES_DTYPE)
    out["time"] = starts[first]
    out["open"] = rates["open"][first]
    out["close"] = rates["close"][last]
    out["high"] = np.maximum.reduceat(rates["high"], first)
    out["low"] = np.minimum.reduceat(rates["low"], first)
    out["spread"] = np.minimum.reduceat(rates["spread"], first)
    out["tick_volume"] = np.add.reduceat(rates["tick_volume"], first)
    out["real_volume"] = np.add.reduceat(rates["real_volume"], first)
    return out


def from_bytes(raw: bytes) -> Rates:
    """Rates out of their bytes, as they travel in messages. The array is its own copy."""
    return np.frombuffer(raw, RATES_DTYPE).copy()


def to_frame(rates: Rates) -> pd.DataFrame:
    """Rates as a DataFrame with an index `time` (datetime64, UTC) and the other columns of the dtype."""
    import pandas as pd  # here: half a second, and most who import this module need none of it

    frame = pd.DataFrame({name: rates[name] for name in cast("tuple[str, ...]", RATES_DTYPE.names)[1:]})
    frame.index = pd.DatetimeIndex(rates["time"].astype("datetime64[s]").astype("datetime64[ns]"), tz="UTC")
    frame.index.name = "time"
    return frame


def from_frame(frame: pd.DataFrame) -> Rates:
    """The other way round."""
    out = np.empty(len(frame), RATES_DTYPE)
    index = cast("pd.DatetimeIndex", frame.index)
    out["time"] = index.tz_localize(None).to_numpy("datetime64[s]").astype(np.int64)
    for name in cast("tuple[str, ...]", RATES_DTYPE.names)[1:]:
        out[name] = frame[name].to_numpy()
    return out
