"""`resample_from`: hours that the replay puts together from a file of minutes, against hours written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import api
from broker.api import RATES_DTYPE
from broker.market import from_bytes
from broker.paper.terminal import PaperTerminal
from protocol.errors import InvalidInput
from tests.papermarket import HOUR, MONDAY, Bar, paper, send, step, synthetic, write_csv

#: open, high, low, close, ticks, spread of an hour.
Hour = tuple[float, float, float, float, int, int]
#: Minutes that the file has not: a gap over a whole hour, an hour that begins late, one that ends early.
ABSENT = {*range(3 * 60, 4 * 60), *range(5 * 60, 5 * 60 + 7), *range(6 * 60 + 50, 7 * 60)}
HOURS = 12


def minutes() -> list[Bar]:
    random = np.random.default_rng(5)
    rows: list[Bar] = []
    price = 1.1
    for minute in range(HOURS * 60):
        after = round(price + random.normal(0, 0.0002), 5)
        up, down = random.uniform(0, 0.0003, 2)
        if minute not in ABSENT:
            high, low = round(max(price, after) + up, 5), round(min(price, after) - down, 5)
            rows.append((minute / 60, price, high, low, after, 8 + minute % 5))
        price = after
    return rows


def by_hand(rows: list[Bar]) -> dict[int, Hour]:
    """Hours of those minutes: first, highest, lowest, last, sum of the ticks, smallest spread. Nothing of ours."""
    hours: dict[int, Hour] = {}
    for at, opened, high, low, close, spread in rows:
        number = round(at * 60) // 60
        before = hours.get(number)
        if before is None:
            hours[number] = (opened, high, low, close, 100, int(spread))
        else:
            extremes = (max(before[1], high), min(before[2], low))
            hours[number] = (before[0], *extremes, close, before[4] + 100, min(before[5], int(spread)))
    return hours


def told(terminal: PaperTerminal) -> list[tuple[int, Hour]]:
    """Play to the end; the hours as bots are told of them."""
    found: list[tuple[int, Hour]] = []
    while (moment := terminal.step()) is not None:
        for bar in moment.closed:
            assert (bar.symbol, bar.timeframe) == ("EURUSD", "H1")
            row = from_bytes(bar.row)[0]
            prices = (float(row["open"]), float(row["high"]), float(row["low"]), float(row["close"]))
            found.append(((int(row["time"]) - MONDAY) // HOUR, (*prices, int(row["tick_volume"]), int(row["spread"]))))
    return found


def resampled(folder: Path, **config: Any) -> PaperTerminal:
    folder.mkdir(exist_ok=True)
    write_csv(folder, "EURUSD", minutes(), "M1")
    return synthetic(
        folder, feed="replay", path=".", symbols=("EURUSD",), resample_from="M1", timeframe="H1", **config
    )  # fmt: skip


def test_hours_are_told_as_they_are_by_hand(tmp_path: Path) -> None:
    hours = by_hand(minutes())
    assert sorted(hours) == [0, 1, 2, 4, *range(5, HOURS)]
    terminal = resampled(tmp_path)
    found = told(terminal)
    assert found == sorted(hours.items())
    rates = terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_H1, 0, 99)
    assert rates is not None and rates.dtype == RATES_DTYPE
    assert rates["time"].tolist() == [MONDAY + number * HOUR for number in sorted(hours)]
    assert rates["high"].tolist() == [hours[number][1] for number in sorted(hours)]
    # What is smaller than the hours that are played is not there; what is larger is.
    assert terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_M1, 0, 9) is None
    assert "no M1 bars: the feed allows H1" in terminal.last_error()[1]
    days = terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_D1, 0, 9)
    assert days is not None and days["low"].tolist() == [min(hour[2] for hour in hours.values())]


def test_a_replay_begins_and_ends_where_it_is_told_to(tmp_path: Path) -> None:
    terminal = resampled(tmp_path, start="2024-01-01T02:00", end="2024-01-01T08:00")
    assert [number for number, _ in told(terminal)] == [2, 4, 5, 6, 7]


def test_trading_on_it_is_trading_on_a_file_of_hours(tmp_path: Path) -> None:
    """The same deals as on hours that were written down by hand, with stops that only the extremes of hours reach."""
    rows: list[Bar] = [(number, *hour[:4], hour[5]) for number, hour in sorted(by_hand(minutes()).items())]
    (tmp_path / "hours").mkdir()
    deals = []
    for terminal in (resampled(tmp_path / "minutes"), paper(tmp_path / "hours", {"EURUSD": rows})):
        for number in range(9):
            tick = terminal.symbol_info_tick("EURUSD")
            assert tick is not None
            send(
                terminal, "EURUSD", "buy" if number % 2 else "sell", 0.1,
                **({"sl": round(tick.bid - 0.001, 5)} if number % 2 else {"tp": round(tick.bid - 0.001, 5)}),
            )  # fmt: skip
            step(terminal)
        deals.append(terminal.history_deals_get(0, 1 << 40))
    assert deals[0] == deals[1] and deals[0] is not None
    assert {deal.reason for deal in deals[0][1:]} >= {api.DEAL_REASON_EXPERT, api.DEAL_REASON_SL, api.DEAL_REASON_TP}


def test_the_smaller_file_is_the_one_that_is_missed(tmp_path: Path) -> None:
    write_csv(tmp_path, "EURUSD", minutes(), "H1")
    with pytest.raises(InvalidInput, match=r"EURUSD_M1\.csv"):
        synthetic(tmp_path, feed="replay", path=".", symbols=("EURUSD",), resample_from="M1", timeframe="H1")
