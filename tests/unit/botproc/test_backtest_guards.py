"""A backtest asks the guards, tells what they refused, and lets bots decide on larger bars than the file's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from botproc.backtest.page import render
from tests.papermarket import HOUR, MONDAY, Bar, write_csv
from tests.unit.botproc.test_backtest import noise, run, script_job, scripts, wave

__all__ = ["run", "scripts"]  # fixtures

FAST = {"strategy": "MA_CROSSOVER", "params": {"fast": 2, "slow": 4}}


def entries(found: dict[str, Any]) -> list[int]:
    return [(deal["time"] - MONDAY) // HOUR for deal in found["deals"] if deal["entry"] == 0 and deal["symbol"]]


@pytest.mark.parametrize(
    ("guard", "account", "said"),
    [
        ({"trading_hours": ["Tue-Fri 00:00-24:00"]}, {}, ""),
        ({"trading_hours": ["Mon 00:00-12:00"]}, {}, "bot one: trading_hours"),
        ({"max_lots": 0.001}, {}, "bot one: max_lots"),
        ({}, {"max_lots": 0.001}, "account backtest: max_lots"),
        ({"calendar": "pauses.csv"}, {}, "bot one: calendar"),
        ({}, {"calendar": "pauses.csv"}, "account backtest: calendar"),
    ],
)
def test_an_entry_is_refused_and_told(
    run: Any, scripts: Path, guard: dict[str, Any], account: dict[str, Any], said: str
) -> None:
    write_csv(scripts, "EURUSD", wave())
    (scripts / "pauses.csv").write_text("from,until,reason\n2024-01-03 22:00,2024-01-04 01:00,news\n")
    job = script_job(scripts, account=account)
    job["bots"][0] |= guard
    found = run({**job, "folder": str(scripts)})
    assert len(found["trades"]) == (0 if said else 1)
    if not said:
        assert found["guards"] == []
        return
    (refused,) = found["guards"]
    assert (refused["guard"], refused["bot"], refused["entries"]) == (said, "one", 1)
    assert refused["first"] == refused["last"] == MONDAY + 71 * HOUR and said.split(": ")[1] in refused["reason"]
    assert any(said.split(": ")[1] in note["text"] for note in found["notes"])
    page = render(found)
    assert "Entries that a guard refused" in page and said in page


def falling() -> list[Bar]:
    """A hundred flat hours, and then one that rises and falls by turns, ever lower."""
    rows: list[Bar] = []
    price = 1.2
    for hour in range(600):
        after = round(price + (0.0 if hour < 100 else 0.002 if hour % 12 < 5 else -0.0025), 5)
        rows.append((hour, price, max(price, after) + 0.0002, min(price, after) - 0.0002, after, 10))
        price = after
    return rows


def test_what_is_latched_holds_until_its_time_and_a_drawdown_for_good(run: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path, "EURUSD", falling())
    job: dict[str, Any] = {"bots": [{"name": "one", **FAST}], "data": str(file)}
    free = entries(run(job))
    assert len(free) > 50
    daily = run({**job, "account": {"max_daily_loss": 50}})
    first = next(row for row in daily["guards"] if row["guard"] == "account backtest: max_daily_loss")
    halted = {(row["first"] - MONDAY) // (24 * HOUR) for row in daily["guards"]}
    assert first["entries"] > 1 and "until the next server day" in first["reason"]
    later = [hour for hour in entries(daily) if hour // 24 > max(halted)]
    assert 0 < len(entries(daily)) < len(free) and later  # another day, another chance
    deep = run({**job, "account": {"max_drawdown_percent": 0.5}})
    (latched,) = deep["guards"]
    assert latched["guard"] == "account backtest: max_drawdown_percent"
    assert max(entries(deep)) < (latched["first"] - MONDAY) // HOUR  # never again


def test_a_bot_on_larger_bars_decides_when_they_close(run: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path, "EURUSD", noise(1500))
    bots = [{"name": f"by-{frame}", "timeframe": frame, **FAST} for frame in ("H1", "H4", "H6")]
    found = run({"bots": bots, "data": str(file)})
    assert found["account"]["timeframe"] == "H1" and found["period"]["bars"] == 1500
    assert [bot["timeframe"] for bot in found["bots"]] == ["H1", "H4", "H6"]
    assert found["period"]["decisions"] == sum(1500 // hours - 4 - (hours > 1) for hours in (1, 4, 6))
    for name, hours in (("by-H4", 4), ("by-H6", 6)):
        own = [(deal["time"] - MONDAY) // HOUR for deal in found["deals"] if deal["bot"] == name and deal["entry"] == 0]
        assert len(own) > 3 and all(hour % hours == 0 for hour in own)
    # The same as bars of four hours that somebody else put together: all but what happens inside them.
    rows = noise(1500)
    whole: list[Bar] = [
        (part[0][0], part[0][1], max(row[2] for row in part), min(row[3] for row in part), part[-1][4])
        for part in (rows[n : n + 4] for n in range(0, 1500, 4))
    ]
    (tmp_path / "own").mkdir()
    own_file = write_csv(tmp_path / "own", "EURUSD", whole, "H4")
    # Stops too far away to be met, and money enough for them.
    one = {"bots": [{**bots[1], "tp_atr_multiplier": 0, "sl_atr_multiplier": 50}], "balance": 1_000_000}
    by_four, put = run({**one, "data": str(own_file)}), run({**one, "data": str(file)})
    keys = ("time", "type", "entry", "price", "volume")
    assert [[deal[key] for key in keys] for deal in by_four["deals"][1:]] == [
        [deal[key] for key in keys] for deal in put["deals"][1:]
    ]
    assert len(put["deals"]) > 20


def test_a_bot_on_days_trades_where_the_market_sleeps_at_midnight(run: Any, tmp_path: Path) -> None:
    rows = [row for row in noise(90 * 24) if int(row[0]) % 24]
    file = write_csv(tmp_path, "XAUUSD", [(row[0], *(round(1000 * price, 2) for price in row[1:])) for row in rows])
    job = {"bots": [{"name": "one", "timeframe": "D1", **FAST}], "data": str(file), "balance": 100_000}
    found = run(job)
    own = entries(found)
    assert len(own) > 3 and {hour % 24 for hour in own} == {1}
    assert not any("10018" in note["text"] for note in found["notes"])


def test_another_process_with_other_hashes_gives_the_same_bytes(tmp_path: Path) -> None:
    for symbol, seed in (("EURUSD", 5), ("GBPUSD", 6)):
        write_csv(tmp_path, symbol, noise(330, seed))
    bots = [
        {"name": f"{symbol}-{frame}", "market": symbol, "timeframe": frame, "max_orders_per_minute": 1, **FAST}
        for symbol in ("EURUSD", "GBPUSD")
        for frame in ("H1", "H3")
    ]
    account = {"feed": "replay", "path": ".", "symbols": ["GBPUSD", "EURUSD"], "slippage_points": 9,
               "latency_ms": 900_000, "latency_jitter_ms": 900_000, "order_timeout_ms": 3_600_000,
               "price_model": "ohlc", "ticks_per_bar": 4, "max_orders_per_minute": 2}  # fmt: skip
    job = json.dumps({"bots": bots, "folder": str(tmp_path), "account": account})
    answers = []
    for hashes in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-m", "botproc.backtest"], input=job, capture_output=True, text=True, timeout=120,
            env={"PYTHONHASHSEED": hashes, "PATH": ""}, check=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        found = json.loads(done.stdout)
        found["period"].pop("seconds")
        answers.append(json.dumps(found))
    assert answers[0] == answers[1]
    assert len(json.loads(answers[0])["deals"]) > 40
