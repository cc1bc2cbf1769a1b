"""The bench of backtests: its made market, and how it judges."""

from __future__ import annotations

from pathlib import Path

from bench import backtest
from botproc.loader import known
from broker.paper.csvbars import read_bars


def test_a_made_market_is_35_000_hours_and_the_same_each_time(tmp_path: Path) -> None:
    file = backtest.made(tmp_path)
    bars = read_bars(file, "H1").rates
    assert len(bars) == backtest.BARS == 35_000
    assert (bars["high"] >= bars["open"]).all() and (bars["low"] <= bars["close"]).all() and bars["spread"].min() > 0
    first = file.read_bytes()
    assert backtest.made(tmp_path).read_bytes() == first


def test_each_strategy_has_its_row_and_its_verdict() -> None:
    assert len(known()) == 14
    rows = [
        {"strategy": one, "bars": 35_000, "seconds_35000": seconds, "trades": 7}
        for one, seconds in zip(known(), (10.0, 10.5, *[3.0] * 12), strict=True)
    ]
    lines = backtest.show({"rows": rows}).splitlines()[2:]
    assert len(lines) == 14
    assert lines[0].endswith("| 10.00 | 7 | met |") and lines[1].endswith("| 10.50 | 7 | missed by 0.5 s |")
