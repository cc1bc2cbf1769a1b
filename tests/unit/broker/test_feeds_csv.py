"""MetaTrader's CSV exports: three layouts, and each thing that can be wrong in one, named by line and column."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from broker.paper.csvbars import read_bars
from protocol.errors import InvalidInput

HEAD = "time,open,high,low,close,tick_volume,spread,real_volume\n"
GOOD = "2020-01-02 00:00:00,1.1,1.2,1.0,1.15,10,3,0\n"
NEXT = "2020-01-02 01:00:00,1.15,1.2,1.0,1.1,10,3,0\n"


def test_three_layouts_give_the_same_bars(tmp_path: Path) -> None:
    long = tmp_path / "long.csv"
    long.write_text(HEAD + GOOD + NEXT)
    short = tmp_path / "short.csv"
    short.write_text(
        "time,open,high,low,close,volume\r\n"
        "2020-01-02 00:00,1.1,1.2,1.0,1.1500000000000001,10\r\n"
        "2020-01-02T01:00:00Z,1.15,1.2,1.0,1.1,10\r\n\r\n"
    )
    own = tmp_path / "own.csv"
    own.write_bytes(
        (
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
            "2020.01.02\t00:00:00\t1.1\t1.2\t1.0\t1.15\t10\t0\t3\n"
            "2020.01.02\t01:00:00\t1.15\t1.2\t1.0\t1.1\t10\t0\t3\n"
        ).encode("utf-16")
    )
    bars = [read_bars(path, "H1") for path in (long, short, own)]
    assert bars[0].rates.tolist() == bars[2].rates.tolist()
    assert [each.has_spread for each in bars] == [True, False, True]
    assert [each.digits for each in bars] == [2, 2, 2]
    for column in ("time", "open", "high", "low", "close", "tick_volume"):
        assert bars[0].rates[column].tolist() == bars[1].rates[column].tolist()
    assert bars[0].rates["time"].tolist() == [1577923200, 1577926800]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("   \n", "empty file"),
        (HEAD, "line 2: no bars"),
        ("time,open,high,close\n" + GOOD, "line 1: column 'low' is missing"),
        ("time,open,open,high,low,close\n" + GOOD, "line 1: column 'open' stands there twice"),
        (HEAD + GOOD + NEXT.replace("1.15", "abc", 1), "line 3, column open: abc is not a number"),
        (HEAD + GOOD + NEXT.replace("1.2", ""), "line 3, column high: nothing is not a"),
        (HEAD + GOOD.replace("1.0,", "0,"), "line 2, column low: 0.* is not a price above 0"),
        (HEAD + GOOD.replace("1.0,", "inf,"), "line 2, column low: inf is not a price above 0"),
        (HEAD + GOOD.replace(",3,", ",-3,"), "line 2, column spread: -3 is not a whole number"),
        (HEAD + GOOD + "\n" + NEXT, "line 3, column time: nothing is not a time"),
        (HEAD + GOOD + NEXT.replace("01:00", "25:00"), "line 3, column time: 2020-01-02 25:00:00 is not a time"),
        (HEAD + GOOD + NEXT.replace("01:00", "01:07"), "line 3, column time: .* is no H1 bar opens then"),
        (HEAD + GOOD + GOOD, "line 3, column time: .* is the same time as the line before"),
        (HEAD + NEXT + GOOD, "line 3, column time: .* is earlier than the line before"),
        (HEAD + GOOD.replace("1.2,", "1.12,"), "line 2, column high: 1.12 is below open, close or low"),
        (HEAD + GOOD.replace("1.0,", "1.12,"), "line 2, column low: 1.12 is above open, close or high"),
        (HEAD + GOOD + NEXT.replace("\n", ",9,9\n"), "line 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "EURUSD_H1.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as wrong:
        read_bars(path, "H1")
    assert wrong.value.line().startswith(str(path)) and "\n" not in wrong.value.line()


def test_missing_file_and_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "GBPUSD_H1.csv").write_bytes(HEAD.encode() + b"\xff\xfe\xfa")
    with pytest.raises(InvalidInput, match="no such file") as missing:
        read_bars(tmp_path / "EURUSD_H1.csv", "H1")
    assert "GBPUSD_H1.csv" in missing.value.line()
    with pytest.raises(InvalidInput, match="line 2: not text"):
        read_bars(tmp_path / "GBPUSD_H1.csv", "H1")
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_bars(tmp_path, "H1")


def test_gaps_are_listed_and_large_files_are_quick(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD_H1.csv"
    hours = np.delete(np.arange(44_000), [5, 6, 7, 100])
    stamps = (np.datetime64("2020-01-01T00", "s") + hours * np.timedelta64(3600, "s")).astype(str)
    path.write_text(HEAD + "".join(f"{stamp},1.1,1.2,1.0,1.12345,10,3,0\n" for stamp in stamps))
    began = time.perf_counter()
    bars = read_bars(path, "H1")
    took = time.perf_counter() - began
    assert took < 1.0
    assert [(gap.bars, gap.end - gap.start) for gap in bars.gaps] == [(3, 3 * 3600), (1, 3600)]
    assert bars.longest_gap == bars.gaps[0]
    assert len(bars.rates) == 43_996 and bars.sure and bars.digits == 5
