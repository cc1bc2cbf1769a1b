"""Larger bars out of a feed's: which there are, what is in them, when they close, and how bar 0 forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from broker import api
from broker.api import RATES_DTYPE, Rates
from broker.market import TIMEFRAMES, aggregate, bar_ends, bar_starts
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import TIMEFRAME_SECONDS
from protocol.timeframes import buildable, can_build
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper

FROM_H1 = ["H1", "H2", "H3", "H4", "H6", "H8", "H12", "D1", "W1", "MN1"]
#: What pandas calls them. A week begins on Sunday, as MetaTrader's does.
PANDAS = {
    **{f"M{n}": f"{n}min" for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": f"{n}h" for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": "1D",
    "W1": "W-SAT",
    "MN1": "MS",
}


def walk(times: np.ndarray[Any, np.dtype[np.int64]], seed: int = 5) -> Rates:
    """Bars at these times, of no particular shape."""
    random = np.random.default_rng(seed)
    bars = np.zeros(len(times), RATES_DTYPE)
    bars["time"] = times
    close = np.round(1.1 + np.cumsum(random.normal(0, 1e-4, len(times))), 5)
    bars["open"], bars["close"] = np.r_[1.1, close[:-1]], close
    bars["high"] = np.round(np.maximum(bars["open"], close) + random.uniform(0, 1e-4, len(times)), 5)
    bars["low"] = np.round(np.minimum(bars["open"], close) - random.uniform(0, 1e-4, len(times)), 5)
    bars["tick_volume"], bars["spread"] = random.integers(1, 99, len(times)), random.integers(5, 30, len(times))
    bars["real_volume"] = random.integers(0, 9, len(times))
    return bars


def by_pandas(bars: Rates, timeframe: str) -> pd.DataFrame:
    """The same bars, put together by pandas, with their opening times in seconds."""
    frame = pd.DataFrame({name: bars[name] for name in RATES_DTYPE.names or ()})
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame.pop("time"), unit="s"))
    week = {"closed": "right", "label": "left"} if timeframe == "W1" else {"closed": "left", "label": "left"}
    made = frame.resample(PANDAS[timeframe], **week).agg(  # type: ignore[arg-type]
        {"open": "first", "high": "max", "low": "min", "close": "last", "tick_volume": "sum", "spread": "min",
         "real_volume": "sum"}
    )  # fmt: skip
    made = made.dropna()
    made.insert(0, "time", made.index.to_numpy("datetime64[s]").astype(np.int64))
    if timeframe == "W1":
        made["time"] += 86_400  # pandas names the Saturday before
    return made


def same(bars: Rates, expected: pd.DataFrame) -> None:
    for name in RATES_DTYPE.names or ():
        assert bars[name].tolist() == expected[name].tolist(), name


def test_what_a_feed_allows() -> None:
    assert list(buildable("H1")) == FROM_H1
    assert list(buildable("M1")) == list(TIMEFRAME_SECONDS)
    assert list(buildable("M15")) == ["M15", "M30", *FROM_H1]
    assert list(buildable("M20")) == ["M20", *FROM_H1]
    assert list(buildable("H4")) == ["H4", "H8", "H12", "D1", "W1", "MN1"]
    assert list(buildable("H8")) == ["H8", "D1", "W1", "MN1"]
    assert list(buildable("D1")) == ["D1", "W1", "MN1"]
    assert list(buildable("W1")) == ["W1"] and list(buildable("MN1")) == ["MN1"]


@pytest.mark.parametrize("base", ["M1", "M5", "H1", "D1"])
def test_larger_bars_are_those_that_pandas_makes(base: str) -> None:
    """Over a year's end, a leap day and both days on which clocks change elsewhere; with nights and weekends off."""
    step = TIMEFRAME_SECONDS[base]
    start = int(pd.Timestamp("2023-12-20").timestamp()) // step * step
    days = 20 if base == "M1" else 110 if base == "M5" else 420
    times = np.arange(start, start + days * 86_400, step, dtype=np.int64)
    moments = pd.to_datetime(times, unit="s")
    if base != "D1":
        times = times[(moments.day_of_week < 5) & ~((moments.hour == 23) & (moments.day_of_week == 2))]
    else:
        times = times[moments.day_of_week < 5]
    bars = walk(times)
    for timeframe in buildable(base):
        same(aggregate(bars, timeframe), by_pandas(bars, timeframe))


def test_months_and_weeks_begin_and_end_where_they_should() -> None:
    def seconds(text: str) -> int:
        return int(pd.Timestamp(text).timestamp())

    for inside, timeframe, start, end in (
        ("2024-02-29 13:00", "MN1", "2024-02-01", "2024-03-01"),
        ("2023-12-31 23:00", "MN1", "2023-12-01", "2024-01-01"),
        ("2024-01-06 23:00", "W1", "2023-12-31", "2024-01-07"),  # a Saturday
        ("2024-01-07 00:00", "W1", "2024-01-07", "2024-01-14"),  # a Sunday
        ("2024-03-31 03:00", "H4", "2024-03-31 00:00", "2024-03-31 04:00"),  # servers have no summer time of ours
    ):
        starts = bar_starts(np.array([seconds(inside)], np.int64), timeframe)
        assert starts.tolist() == [seconds(start)], inside
        assert bar_ends(starts, timeframe).tolist() == [seconds(end)], inside


# --- the terminal ------------------------------------------------------------------------------------


def market(folder: Path, hours: int = 1500, **config: Any) -> tuple[PaperTerminal, Rates]:
    """A replay of hours with weekends off, and all its bars. It begins on Wednesday at 10:00."""
    times = MONDAY + np.arange(hours, dtype=np.int64) * HOUR
    bars = walk(times[((times // 86_400 + 3) % 7) < 5])
    rows: list[Bar] = [
        ((int(bar["time"]) - MONDAY) // HOUR, *(float(bar[name]) for name in ("open", "high", "low", "close")), 10)
        for bar in bars
    ]
    bars["tick_volume"], bars["spread"], bars["real_volume"] = 100, 10, 0
    return paper(folder, {"EURUSD": rows}, start="2024-01-03T10:00:00", **config), bars


def known(bars: Rates, terminal: PaperTerminal) -> Rates:
    """The bars that have opened by now, of the last of which only the opening has been seen."""
    seen = bars[bars["time"] <= terminal.now].copy()
    if len(seen) and seen["time"][-1] + HOUR > terminal.now:
        for name in ("high", "low", "close"):
            seen[name][-1] = seen["open"][-1]
        seen["tick_volume"][-1] = 1
    return seen


@pytest.mark.parametrize("timeframe", FROM_H1)
def test_all_three_functions_in_every_timeframe(tmp_path: Path, timeframe: str) -> None:
    terminal, bars = market(tmp_path)
    number = TIMEFRAMES[timeframe]
    for steps in (0, 1, 2, 30, 200):
        for _ in range(steps):
            terminal.step()
        expected = by_pandas(known(bars, terminal), timeframe)
        for start, count in ((0, 1), (0, 5), (1, 3), (2, 1000)):
            stop = max(0, len(expected) - start)
            found = terminal.copy_rates_from_pos("EURUSD", number, start, count)
            assert found is not None and found.dtype == RATES_DTYPE
            same(found, expected.iloc[max(0, stop - count) : stop])
        everything = terminal.copy_rates_range("EURUSD", number, 0, 1 << 40)
        assert everything is not None
        same(everything, expected)
        some = terminal.copy_rates_from("EURUSD", number, terminal.now - 3 * HOUR, 2)
        assert some is not None
        same(some, expected[expected["time"] <= terminal.now - 3 * HOUR].iloc[-2:])


def test_what_cannot_be_put_together_is_refused_with_what_can(tmp_path: Path) -> None:
    terminal, _ = market(tmp_path, 100)
    for timeframe, number in TIMEFRAMES.items():
        found = terminal.copy_rates_from_pos("EURUSD", number, 0, 2)
        assert (found is not None) == can_build("H1", timeframe), timeframe
    assert terminal.copy_rates_from("EURUSD", api.TIMEFRAME_M30, MONDAY, 2) is None
    assert terminal.last_error() == (
        api.RES_E_NOT_FOUND,
        f"Terminal: Not found (no M30 bars: the feed allows {', '.join(FROM_H1)})",
    )
    assert terminal.copy_rates_range("EURUSD", 16387 + 2, MONDAY, MONDAY) is None  # H5 is none
    assert terminal.last_error()[0] == api.RES_E_INVALID_PARAMS


def test_each_close_is_told_once_with_the_whole_bar(tmp_path: Path) -> None:
    terminal, bars = market(tmp_path)
    told: dict[str, list[bytes]] = {timeframe: [] for timeframe in FROM_H1}
    begun = terminal.now
    for timeframe in FROM_H1:
        terminal.copy_rates_from_pos("EURUSD", TIMEFRAMES[timeframe], 0, 1)
    ends: dict[str, list[int]] = {timeframe: [] for timeframe in FROM_H1}
    while (step := terminal.step()) is not None:
        order = [TIMEFRAME_SECONDS[bar.timeframe] for bar in step.closed]
        assert order == sorted(order)
        for bar in step.closed:
            told[bar.timeframe].append(bar.row)
            ends[bar.timeframe].append(step.time)
    for timeframe in FROM_H1:
        whole = aggregate(bars, timeframe)
        close = bar_ends(whole["time"], timeframe)
        # A bar that ends where the market sleeps is over when it opens again; the feed's own are told at their end.
        due = whole[(close > begun) & (close <= (terminal.now if timeframe == "H1" else bars["time"][-1]))]
        assert [np.frombuffer(row, RATES_DTYPE)[0].tolist() for row in told[timeframe]] == due.tolist(), timeframe
        assert len(due) > 0 and all(
            end >= expected
            for end, expected in zip(ends[timeframe], bar_ends(due["time"], timeframe).tolist(), strict=True)
        )
    for timeframe in FROM_H1[1:]:
        assert set(ends[timeframe]) <= set(bars["time"].tolist()), timeframe  # with the opening that follows
    assert ends["W1"] and all((end // 86_400 + 3) % 7 == 0 for end in ends["W1"])  # on Mondays


def test_where_the_market_sleeps_at_midnight_a_day_is_over_when_it_opens_again(tmp_path: Path) -> None:
    """Gold and indices have an hour off at night: decided at midnight, no bar of a day could ever be traded."""
    rows = [row for day in range(4) for row in flat(1.1 + day / 100, range(24 * day + 1, 24 * day + 24))]
    terminal = paper(tmp_path, {"EURUSD": rows})
    terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_D1, 0, 5)
    told = []
    while (step := terminal.step()) is not None:
        told += [
            (step.time - MONDAY, bar.bid, terminal.is_open("EURUSD")) for bar in step.closed if bar.timeframe == "D1"
        ]
    assert told == [(25 * HOUR, 1.11, True), (49 * HOUR, 1.12, True), (73 * HOUR, 1.13, True)]


def test_a_symbol_that_begins_later_tells_its_larger_bars_too(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(60)), "GBPUSD": flat(1.3, range(5, 60))})
    none_yet = terminal.copy_rates_from_pos("GBPUSD", api.TIMEFRAME_H4, 0, 5)
    assert none_yet is not None and not len(none_yet)
    closed = []
    while (step := terminal.step()) is not None:
        closed += [bar for bar in step.closed if bar.timeframe == "H4"]
    assert {bar.symbol for bar in closed} == {"GBPUSD"} and len(closed) == 13


@pytest.mark.parametrize("timeframe", ["H1", "H4", "D1", "W1", "MN1"])
def test_bar_0_forms_tick_by_tick(tmp_path: Path, timeframe: str) -> None:
    terminal, _ = market(tmp_path, 400, ticks_per_bar=6, price_model="ohlc")
    number = TIMEFRAMES[timeframe]
    before: np.void | None = None
    grown = opened = 0
    for _ in range(6 * 30):
        rates = terminal.copy_rates_from_pos("EURUSD", number, 0, 1)
        assert rates is not None
        now, tick = rates[0], terminal.symbol_info_tick("EURUSD")
        assert tick is not None
        if terminal.is_open("EURUSD"):
            assert now["close"] == tick.bid and now["low"] <= tick.bid <= now["high"]
        if before is not None and before["time"] == now["time"]:
            assert now["open"] == before["open"] and now["tick_volume"] >= before["tick_volume"]
            assert now["high"] >= before["high"] and now["low"] <= before["low"]
            grown += bool(now["tick_volume"] > before["tick_volume"])
        else:
            opened += 1
        before = now
        terminal.step()
    assert grown > 100 and opened >= {"H1": 25, "H4": 7, "D1": 2, "W1": 1, "MN1": 1}[timeframe]
