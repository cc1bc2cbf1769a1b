"""Where the paper market's prices come from: made by a seed, or played back from MetaTrader's exports."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from broker.api import Rates
from broker.market import aggregate, bar_ends
from broker.paper.csvbars import CsvBars, read_bars
from broker.paper.series import Series
from broker.paper.synthetic import CHUNK, FIRST, START, State, base_time, history_bars, make_chunk
from broker.paper.terms import check_names, with_terms
from broker.symbols import spec_for_prices, spec_of
from protocol.botconfig import TIMEFRAME_SECONDS, AccountConfig
from protocol.errors import InvalidInput
from protocol.timeframes import buildable, can_build

_DAY: Final = 86_400
_SLACK: Final = 7 * _DAY  # a start on a holiday is not outside the data
_KEEP_CHUNKS: Final = 10  # chunks of history that a made market shows, at least


@dataclass(frozen=True, slots=True)
class ChunkState:
    """What must be kept so that chunk `chunk` of `symbol` is made without those before it."""

    symbol: str
    chunk: int
    state: State


class Feed(Protocol):
    """A source of bars for the clock to walk over."""

    series: dict[str, Series]

    @property
    def start(self) -> int:
        """Server time at which a new account begins."""
        ...

    def seek(self, time: int) -> None:
        """Put every series where it stood at server time `time`."""
        ...

    def unsaved(self) -> list[ChunkState]:
        """What was made since `saved`, to be kept with the account."""
        ...

    def saved(self) -> None:
        """All that `unsaved` gave is kept."""
        ...


class SyntheticFeed:
    """Made bars, from Monday 2024-01-01 00:00 on, without end. Raises InvalidInput for an unknown symbol."""

    def __init__(self, config: AccountConfig, states: list[ChunkState] | None = None) -> None:
        if config.timeframe == "MN1":
            raise InvalidInput("timeframe MN1: the synthetic market makes bars of M1 to W1")
        self._timeframe = config.timeframe
        self._seed = config.seed
        self._spread = config.spread_points
        self._states = {(row.symbol, row.chunk): row.state for row in states or []}
        self._unsaved: list[ChunkState] = []
        self._next = dict.fromkeys(config.symbols, 0)
        self._specs = {name: with_terms(spec_of(name), config) for name in config.symbols}
        self._ticks = config.ticks_per_bar
        self._keep = max(_KEEP_CHUNKS, 2 * history_bars(config.timeframe) // CHUNK)
        self.series: dict[str, Series] = {}

    @property
    def start(self) -> int:
        return START

    def seek(self, time: int) -> None:
        """Begin some chunks before `time`, or as far back as there are bars."""
        chunk = (time - base_time(self._timeframe)) // (TIMEFRAME_SECONDS[self._timeframe] * CHUNK)
        for symbol, spec in self._specs.items():
            self._next[symbol] = max(0, chunk - self._keep + 1)
            series = Series(
                spec,
                self._timeframe,
                self._make(symbol),
                grow=partial(self._make, symbol),
                keep=self._keep * CHUNK,
                ticks=self._ticks,
            )
            series.skip_to(time)
            self.series[symbol] = series

    def unsaved(self) -> list[ChunkState]:
        return self._unsaved

    def saved(self) -> None:
        self._unsaved = []

    def _make(self, symbol: str) -> Rates:
        chunk = self._next[symbol]
        rates, after = make_chunk(
            self._specs[symbol], self._timeframe, self._seed, chunk, self._state(symbol, chunk), self._spread
        )
        self._next[symbol] = chunk + 1
        self._remember(symbol, chunk + 1, after)
        return rates

    def _state(self, symbol: str, chunk: int) -> State:
        """What chunk `chunk` begins with; made from the nearest one known where it was not kept."""
        known = chunk
        while known > 0 and (symbol, known) not in self._states:
            known -= 1
        state = self._states.get((symbol, known), FIRST)
        for number in range(known, chunk):
            _, state = make_chunk(self._specs[symbol], self._timeframe, self._seed, number, state, self._spread)
            self._remember(symbol, number + 1, state)
        return state

    def _remember(self, symbol: str, chunk: int, state: State) -> None:
        if (symbol, chunk) not in self._states:
            self._states[symbol, chunk] = state
            self._unsaved.append(ChunkState(symbol, chunk, state))


class ReplayFeed:
    """Bars of SYMBOL_TIMEFRAME.csv, one file a symbol, from `start` to the last bar before `end`.

    Bars that ended before `start` are history. Gaps stay gaps: `files[symbol].gaps` lists them.
    Raises InvalidInput for a file that is missing, broken, or has no bar in the time asked for.
    """

    def __init__(self, config: AccountConfig, base_dir: Path) -> None:
        if config.path is None:
            raise InvalidInput('feed = "replay" needs path', hint='path = "FOLDER" with SYMBOL_TIMEFRAME.csv')
        folder = (base_dir / config.path).resolve()
        if not folder.is_dir():
            raise InvalidInput(f"path {config.path}: no folder {folder}", hint="it is relative to the config file")
        self.files: dict[str, CsvBars] = {symbol: _read(folder, symbol, config) for symbol in config.symbols}
        self._config = config
        self._timeframe = config.timeframe
        self._spread = config.spread_points
        start, end = _moment("start", config.start), _moment("end", config.end)
        self._check_span(config, start, end)
        self._end = end
        first = min(int(file.rates["time"][0]) for file in self.files.values())
        self._start = first if start is None else start
        self.series: dict[str, Series] = {}

    @property
    def start(self) -> int:
        return self._start

    def seek(self, time: int) -> None:
        """Put every series where it stood at `time`."""
        for symbol, file in self.files.items():
            spec = with_terms(spec_for_prices(symbol, file.digits, sure=file.sure), self._config)
            rates = file.rates
            if not file.has_spread:
                usual = spec.spread if self._spread is None else self._spread
                spec = replace(spec, spread=usual)
                rates = rates.copy()
                rates["spread"] = usual
            if self._end is not None:
                rates = rates[bar_ends(rates["time"], self._timeframe) <= self._end]
            series = Series(spec, self._timeframe, rates, ticks=self._config.ticks_per_bar)
            series.skip_to(time)
            self.series[symbol] = series

    def unsaved(self) -> list[ChunkState]:
        return []

    def saved(self) -> None:
        return None

    def _check_span(self, config: AccountConfig, start: int | None, end: int | None) -> None:
        times = {name: file.rates["time"] for name, file in self.files.items()}
        spans = {name: (int(column[0]), int(column[-1])) for name, column in times.items()}
        first, last = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
        span = f"the files hold {_shown(first)} to {_shown(last)}"
        if start is not None and end is not None and end <= start:
            raise InvalidInput(f"end {config.end} is not after start {config.start}", hint=span)
        for name, value, text in (("start", start, config.start), ("end", end, config.end)):
            if value is not None and not first - _SLACK <= value <= last + _SLACK:
                raise InvalidInput(f"{name} {text} lies outside the data", hint=span)
        for symbol, file in self.files.items():
            column = times[symbol]
            inside = (column >= (start or column[0])) & (column < (end or column[-1] + 1))
            if not inside.any():
                begin, finish = (_shown(moment) for moment in spans[symbol])
                asked = f"{config.start or 'the beginning'} and {config.end or 'the end'}"
                raise InvalidInput(
                    f"{file.path}: no bar of {symbol} between {asked}", hint=f"it holds {begin} to {finish}"
                )


def make_feed(config: AccountConfig, base_dir: Path, states: list[ChunkState] | None = None) -> Feed:
    """The feed of an account; `seek` it before use. Raises InvalidInput."""
    doubled = {name for name in config.symbols if config.symbols.count(name) > 1}
    if doubled:
        raise InvalidInput(f"symbols: {sorted(doubled)[0]} stands there twice")
    if not config.symbols:
        raise InvalidInput("symbols: none given", hint='symbols = ["EURUSD"]')
    check_names(config)
    if config.feed == "synthetic":
        if config.resample_from is not None:
            raise InvalidInput(
                "resample_from is for a replay", hint="the synthetic market makes bars of any timeframe: set timeframe"
            )
        return SyntheticFeed(config, states)
    return ReplayFeed(config, base_dir)


def _read(folder: Path, symbol: str, config: AccountConfig) -> CsvBars:
    """The bars of a symbol's file in the account's timeframe, put together where the file's are smaller."""
    base = config.resample_from or config.timeframe
    if not can_build(base, config.timeframe):
        raise InvalidInput(
            f"resample_from {base}: {config.timeframe} bars cannot be put together from {base}",
            hint=f"they allow {', '.join(buildable(base)[1:]) or 'no other'}",
        )
    file = read_bars(folder / f"{_file_name(symbol)}_{base}.csv", base)
    return file if base == config.timeframe else replace(file, rates=aggregate(file.rates, config.timeframe))


def _file_name(symbol: str) -> str:
    return symbol.replace("/", "")  # a slash cannot stand in a file's name


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{name} {text!r} is not a day", hint="write it as 2020-01-31") from None
    return int(moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp())


def _shown(moment: int) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M")
