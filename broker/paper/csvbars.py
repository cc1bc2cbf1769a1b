"""Bars out of a MetaTrader CSV export: read at once, checked at once; the line is looked for only when it is wrong.

Three layouts are understood: `time,open,high,low,close,tick_volume,spread,real_volume`,
`time,open,high,low,close,volume`, and what MetaTrader itself writes:
`<DATE> <TIME> <OPEN> <HIGH> <LOW> <CLOSE> <TICKVOL> <VOL> <SPREAD>` with tabs. Extra columns are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
import numpy.typing as npt

from broker.api import RATES_DTYPE, Rates
from broker.market import bar_ends, bar_starts
from protocol.botconfig import TIMEFRAME_SECONDS
from protocol.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_PRICES: Final = ("open", "high", "low", "close")
_NEEDED: Final = ("time", *_PRICES)
_RENAMED: Final = {"tickvol": "tick_volume", "vol": "real_volume", "volume": "tick_volume", "datetime": "time"}
_MAX_DIGITS: Final = 8
#: With so many bars the decimals seen are all that there are.
_SURE: Final = 500


@dataclass(frozen=True, slots=True)
class Gap:
    """Bars that a file does not have: from `start` to `end` (server seconds), `bars` of them missing."""

    start: int
    end: int
    bars: int


@dataclass(frozen=True, slots=True)
class CsvBars:
    """The content of one file. `digits`: decimals of its prices, `sure` where there are bars enough to know."""

    path: Path
    rates: Rates
    digits: int
    sure: bool
    has_spread: bool
    gaps: tuple[Gap, ...]

    @property
    def longest_gap(self) -> Gap | None:
        """The gap with the most bars missing; weekends count too."""
        return max(self.gaps, key=lambda gap: gap.bars, default=None)


def read_bars(path: Path, timeframe: str) -> CsvBars:
    """The bars of `path`, whose bars are of `timeframe`, ascending, prices rounded to the file's own digits.

    Raises InvalidInput with one line: file, line, column, what stands there and what would be right.
    """
    text = _read_text(path)
    header, separator = _header(path, text)
    _check_columns(path, header)
    table = _table(path, text, header, separator)
    out = np.zeros(len(table), RATES_DTYPE)
    out["time"] = _times(path, table)
    for column in _PRICES:
        values = _numbers(path, table, column)
        bad = ~np.isfinite(values) | (values <= 0)
        if bad.any():
            _wrong(path, table, bad, column, "not a price above 0")
        out[column] = values
    for column in ("tick_volume", "spread", "real_volume"):
        if column in table.columns:
            values = _numbers(path, table, column)
            bad = ~np.isfinite(values) | (values < 0) | (values > 2**31 - 1)
            if bad.any():
                _wrong(path, table, bad, column, "not a whole number from 0 to 2147483647")
            out[column] = values
    digits = _digits(out)
    for column in _PRICES:
        out[column] = np.round(out[column], digits)
    _check_order(path, table, out, timeframe)
    _check_ranges(path, table, out)
    return CsvBars(
        path=path,
        rates=out,
        digits=digits,
        sure=len(out) >= _SURE,
        has_spread="spread" in table.columns,
        gaps=_gaps(out, timeframe),
    )


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        near = sorted(other.name for other in path.parent.glob("*.csv"))[:6]
        hint = f"the folder has {', '.join(near)}" if near else "the folder has no CSV file"
        raise InvalidInput(f"{path}: no such file", hint=hint) from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    # MetaTrader exports are UTF-16 or UTF-8, with or without a byte order mark.
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}: line {line}: not text", hint="a CSV file in UTF-8 or UTF-16") from None
    if not text.strip():
        raise InvalidInput(f"{path}: empty file", hint=f"columns {','.join(_NEEDED)} and one bar a line")
    return text


def _header(path: Path, text: str) -> tuple[list[str], str]:
    first = text[: text.find("\n")] if "\n" in text else text
    separator = max("\t,;", key=first.count)
    names = [name.strip().strip('"<>').lower() for name in first.strip("\r\n").split(separator)]
    names = [_RENAMED.get(name, name) for name in names]
    # Where a file has both, `volume` is the real one.
    if names.count("tick_volume") == 2:
        names[len(names) - 1 - names[::-1].index("tick_volume")] = "real_volume"
    if "date" in names and "time" in names:
        names[names.index("time")] = "hour"
        names[names.index("date")] = "time"
    return names, separator


def _check_columns(path: Path, header: list[str]) -> None:
    for name in _NEEDED:
        if name not in header:
            raise InvalidInput(
                f"{path}: line 1: column {name!r} is missing", hint=f"the first line must name {','.join(_NEEDED)}"
            )
        if header.count(name) > 1:
            raise InvalidInput(f"{path}: line 1: column {name!r} stands there twice")


def _table(path: Path, text: str, header: list[str], separator: str) -> pd.DataFrame:
    import io

    import pandas as pd  # here: half a second, and only a replay reads files

    try:
        table = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, names=header, skiprows=1, index_col=False,
            skip_blank_lines=False, quotechar='"', low_memory=False,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise InvalidInput(f"{path}: {' '.join(str(error).split())}") from None
    while len(table) and table.iloc[-1].isna().all():
        table = table.iloc[:-1]  # blank lines at the end
    if not len(table):
        raise InvalidInput(f"{path}: line 2: no bars", hint="one bar a line below the first line")
    return table


def _times(path: Path, table: pd.DataFrame) -> npt.NDArray[np.int64]:
    import pandas as pd

    column = table["time"].astype("string")
    if "hour" in table.columns:
        column = column + " " + table["hour"].astype("string")
    whole = column.str.fullmatch(r"\d{9,11}").fillna(False)
    if bool(whole.all()):
        return np.asarray(column.astype("int64"), np.int64)
    text = column.str.replace(".", "-", regex=False)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    bad = stamps.isna().to_numpy()
    if bad.any():
        _wrong(path, table, bad, "time", "not a time like 2020-01-31 14:00:00")
    seconds = stamps.dt.tz_localize(None).to_numpy("datetime64[s]").astype(np.int64)
    return np.asarray(seconds)


def _numbers(path: Path, table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    import pandas as pd

    values = table[column]
    if values.dtype.kind not in "iuf":
        numbers = pd.to_numeric(values, errors="coerce")
        bad = numbers.isna().to_numpy()
        if bad.any():
            _wrong(path, table, bad, column, "not a number")
        values = numbers
    return values.to_numpy(np.float64)


def _digits(rates: Rates) -> int:
    """Decimals of the prices. A hair off is the writer's float, not a decimal: 1.3216700000000001 has five."""
    prices = np.concatenate([rates[column] for column in _PRICES])
    for digits in range(_MAX_DIGITS):
        scaled = prices * 10.0**digits
        if np.all(np.abs(scaled - np.rint(scaled)) < 1e-4):
            return digits
    return _MAX_DIGITS


def _check_order(path: Path, table: pd.DataFrame, rates: Rates, timeframe: str) -> None:
    times = rates["time"]
    bad = np.r_[False, times[1:] <= times[:-1]]
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        same = times[row] == times[row - 1]
        what = "the same time as the line before" if same else "earlier than the line before"
        _wrong(path, table, bad, "time", f"{what}; bars must rise in time, each once")
    bad = bar_starts(times, timeframe) != times
    if bad.any():
        _wrong(path, table, bad, "time", f"no {timeframe} bar opens then")


def _check_ranges(path: Path, table: pd.DataFrame, rates: Rates) -> None:
    upper = np.maximum(rates["open"], rates["close"])
    lower = np.minimum(rates["open"], rates["close"])
    bad = rates["high"] < upper
    if bad.any():
        _wrong(path, table, bad, "high", "below open, close or low; the highest price of the bar stands here")
    bad = rates["low"] > lower
    if bad.any():
        _wrong(path, table, bad, "low", "above open, close or high; the lowest price of the bar stands here")


def _gaps(rates: Rates, timeframe: str) -> tuple[Gap, ...]:
    ends = bar_ends(rates["time"], timeframe)
    at = np.flatnonzero(rates["time"][1:] > ends[:-1])
    seconds = TIMEFRAME_SECONDS[timeframe]
    return tuple(
        Gap(start=int(ends[i]), end=int(rates["time"][i + 1]), bars=int(rates["time"][i + 1] - ends[i]) // seconds)
        for i in at
    )


def _wrong(path: Path, table: pd.DataFrame, bad: npt.NDArray[np.bool_], column: str, what: str) -> NoReturn:
    import pandas as pd

    row = int(np.flatnonzero(bad)[0])
    more = int(bad.sum()) - 1
    value = table[column].iloc[row]
    if column == "time" and "hour" in table.columns:
        value = f"{value} {table['hour'].iloc[row]}"
    shown = "nothing" if pd.isna(value) else str(value)[:40]
    # Line 1 is the header; the rest has one bar a line.
    raise InvalidInput(
        f"{path}: line {row + 2}, column {column}: {shown} is {what}",
        hint=f"and {more} more line{'s' if more > 1 else ''}" if more else None,
    )
