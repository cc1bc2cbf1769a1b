"""The backtest: known answers on bars written by hand, no look-ahead, its figures, its page, its complaints."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from botproc.backtest import __main__ as entry
from botproc.backtest import page
from botproc.backtest.curve import drawdown, months, sharpe, thin
from botproc.backtest.svg import dates, ticks
from botproc.backtest.trades import stats_of, trades_of
from botproc.backtest.turn import Turn
from broker import api
from broker.api import TradeDeal
from protocol.messages import Order, OrderResult
from tests.papermarket import HOUR, MONDAY, flat, write_csv

#: A strategy that enters at one hour and leaves at another.
SCRIPT = '''
from botproc.strategy import Signal, Strategy, StrategyParams, param


class ScriptParams(StrategyParams):
    """When, in hours from Monday."""

    enter: int = param(70, ge=0, le=10_000, step=1, label="Enter", help="Hour of the entry's bar.")
    leave: int = param(73, ge=0, le=10_000, step=1, label="Leave", help="Hour of the exit's bar.")
    side: str = param("BUY", label="Side", help="BUY or SELL.")


class Script(Strategy):
    """Enters at one hour and leaves at another."""

    Params = ScriptParams
    lookback = 2

    def analyze(self, bars):
        return self.analyze_held(bars, None)

    def analyze_held(self, bars, position):
        hour = round((float(self.last(bars, "time")[-1]) - 1704067200) / 3600)
        close = float(self.last(bars, "close")[-1])
        if hour == self.params.enter:
            return Signal(self.params.side, close, "Now.")
        if hour >= self.params.leave and position is not None:
            return Signal("EXIT", close, "Enough.")
        return Signal("HOLD", close, "Not now.")


class Fails(Script):
    """Raises."""

    def analyze_held(self, bars, position):
        raise RuntimeError("cannot think")
'''


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module `script_of_the_test`, and the path as it was afterwards."""
    (tmp_path / "script_of_the_test.py").write_text(SCRIPT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "script_of_the_test", raising=False)
    return tmp_path


def play(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, job: Any, *words: str
) -> tuple[int, Any, str]:
    """Exit code, the report, and stderr of the command line."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(job if isinstance(job, str) else json.dumps(job)))
    code = entry.main(words)
    out = capsys.readouterr()
    return code, json.loads(out.out) if code == 0 else None, out.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plays a job that is right; its report."""

    def run(job: dict[str, Any], *words: str) -> dict[str, Any]:
        code, found, err = play(capsys, monkeypatch, job, *words)
        assert code == 0, err
        assert isinstance(found, dict)
        return found

    return run


def script_job(
    folder: Path, *, cls: str = "Script", account: dict[str, Any] | None = None, **params: Any
) -> dict[str, Any]:
    bot = {"name": "one", "strategy": f"script_of_the_test:{cls}", "params": params, "tp_atr_multiplier": 0.0,
           "sl_atr_multiplier": 50.0}  # fmt: skip
    return {
        "bots": [bot], "data": str(folder / "EURUSD_H1.csv"), "paths": [str(folder)],
        "account": {"commission_per_lot": 3.5, **(account or {})},
    }  # fmt: skip


def wave(hours: int = 80) -> list[Any]:
    """Bars of 20 points around 1.10000 that rise by 10 points from the 72nd on; spread 12."""
    rows = []
    for hour in range(hours):
        price = round(1.1 + 0.0001 * max(0, hour - 71), 5)
        rows.append((hour, price, round(price + 0.0001, 5), round(price - 0.0001, 5), price, 12))
    return rows


@pytest.mark.parametrize(("side", "sign"), [("BUY", 1), ("SELL", -1)])
def test_a_trade_that_is_known_to_the_cent(run: Any, scripts: Path, side: str, sign: int) -> None:
    write_csv(scripts, "EURUSD", wave())
    found = run(script_job(scripts, side=side))
    (trade,) = found["trades"]
    # Decided on the bar of hour 70, filled at the open of hour 71 (1.1); decided on 73, filled at 74's open (1.1003).
    buy = sign > 0
    opened, closed = (1.10012, 1.1003) if buy else (1.1, 1.10042)
    assert (trade["price_open"], trade["price_close"]) == (opened, closed)
    assert (trade["opened"], trade["closed"]) == (MONDAY + 71 * HOUR, MONDAY + 74 * HOUR)
    assert trade["reason"] == "signal" and trade["side"] == side.lower()
    lots = trade["volume"]
    expected = round(sign * (closed - opened) * 100_000 * lots, 2) - 2 * round(3.5 * lots, 2)
    swap = sum(deal["swap"] for deal in found["deals"])
    assert trade["profit"] == pytest.approx(expected + swap, abs=0.011)
    assert found["result"]["balance"] == pytest.approx(10_000 + trade["profit"], abs=0.005)
    assert found["result"]["commission"] == pytest.approx(-2 * round(3.5 * lots, 2))
    assert found["result"]["spread_cost"] == pytest.approx(-12 * lots, abs=0.02)  # 12 points of a dollar a lot
    assert found["result"]["exposure_percent"] == pytest.approx(100 * 3 / 80, abs=0.01)
    assert found["period"]["bars"] == 80 and found["period"]["decisions"] == 79
    assert found["open"] == [] and found["notes"] == []


def test_what_stays_open_is_told_and_counts_in_the_equity(run: Any, scripts: Path) -> None:
    write_csv(scripts, "EURUSD", wave())
    found = run(script_job(scripts, leave=9000))
    assert found["trades"] == [] and len(found["open"]) == 1
    floating = found["open"][0]["profit"] + found["open"][0]["swap"]
    assert found["result"]["equity"] == pytest.approx(found["result"]["balance"] + floating, abs=0.005)
    assert found["result"]["win_rate"] is None and found["result"]["profit_factor"] is None


def test_a_market_that_is_closed_at_the_order_is_a_warning(run: Any, scripts: Path) -> None:
    rows = [row for row in wave() if row[0] != 71]  # nothing opens where the entry would be filled
    write_csv(scripts, "EURUSD", rows)
    found = run(script_job(scripts))
    assert found["trades"] == []
    assert "market closed (10018)" in found["notes"][0]["text"]


def test_a_strategy_that_raises_is_counted_and_told_once(run: Any, scripts: Path) -> None:
    write_csv(scripts, "EURUSD", wave())
    found = run(script_job(scripts, cls="Fails"))
    assert found["result"]["strategy_errors"] == 79
    assert [note["text"] for note in found["notes"]] == ["the strategy failed: RuntimeError: cannot think"]


def noise(hours: int, seed: int = 5) -> list[Any]:
    rng = np.random.default_rng(seed)
    close = np.round(1.1 * np.exp(np.cumsum(rng.normal(0, 0.0012, hours))), 5)
    before = np.r_[1.1, close[:-1]]
    up, down = np.abs(rng.normal(0, 0.0006, (2, hours)))
    high, low = np.round(np.maximum(before, close) + up, 5), np.round(np.minimum(before, close) - down, 5)
    return [(n, before[n], high[n], low[n], close[n]) for n in range(hours)]


def test_later_bars_change_nothing_before_them(run: Any, tmp_path: Path) -> None:
    rows, files = noise(1100), {}
    for name, part in (("whole", rows), ("cut", rows[:900]), ("other", rows[:900] + noise(1100, seed=9)[900:])):
        (tmp_path / name).mkdir()
        files[name] = write_csv(tmp_path / name, "EURUSD", part)
    bots: list[dict[str, Any]] = [
        {"name": name.lower(), "strategy": name}
        for name in ("MA_CROSSOVER", "TURTLE_BREAKOUT", "DYNAMIC_BREAKOUT", "PULSE_SYNC")
    ]
    # What is put together to larger bars holds the later ones already.
    fast = {"strategy": "MA_CROSSOVER", "params": {"fast": 2, "slow": 4}}
    bots += [{"name": f"by-{frame}", "timeframe": frame, **fast} for frame in ("H3", "H4")]
    deals = {}
    for name, file in files.items():
        found = run({"bots": bots, "data": str(file)})
        deals[name] = [deal for deal in found["deals"] if deal["time"] < MONDAY + 899 * HOUR]
    assert deals["whole"] == deals["cut"] == deals["other"]
    assert len({deal["bot"] for deal in deals["cut"]}) == 7 and len(deals["cut"]) > 60  # six bots and the deposit


def test_the_same_job_twice_and_a_window_with_history(run: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path, "EURUSD", noise(1500))
    job = {"bots": [{"name": "one", "strategy": "RSI_CROSSOVER"}], "data": str(file)}
    first, second = run(job), run(job)
    first["period"].pop("seconds"), second["period"].pop("seconds")
    assert first == second and first["result"]["trades"] > 5
    late = run({**job, "start": "2024-02-05", "end": "2024-02-20", "balance": 500_000})
    assert late["account"]["balance"] == 500_000
    assert late["period"]["start"] > MONDAY + 35 * 24 * HOUR - 1 and late["period"]["end"] <= MONDAY + 50 * 24 * HOUR
    assert late["period"]["decisions"] == late["period"]["bars"]  # the bars before are history: no warming up
    assert sum(late["result"][key] for key in ("commission", "swap", "fee")) <= 0


def test_a_file_by_another_name(run: Any, tmp_path: Path) -> None:
    write_csv(tmp_path, "EURUSD", noise(300)).rename(tmp_path / "mine.csv")
    bot = {"name": "one", "strategy": "MA_CROSSOVER", "market": "EURUSD", "timeframe": "H1"}
    assert run({"bots": [bot], "data": str(tmp_path / "mine.csv")})["period"]["bars"] == 300
    # Brokers put something behind a symbol's name.
    (tmp_path / "mine.csv").rename(tmp_path / "EURUSD.m_H1.csv")
    assert run({"bots": [bot], "data": str(tmp_path / "EURUSD.m_H1.csv")})["bots"][0]["market"] == "EURUSD"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "nowhere/EURUSD_H1.csv"}, ("nowhere/EURUSD_H1.csv: no such file",)),
        ({"data": "."}, ("is a folder",)),
        ({"strategy": "MA_CROSOVER"}, ("MA_CROSOVER", "MA_CROSSOVER?")),
        ({"strategy": "nobody:Mine"}, ("no module 'nobody'",)),
        ({"params": {"fats": 3}}, ("fats", "fast")),
        ({"params": {"fast": 60}}, ("fast (60) must be less than slow (50)",)),
        ({"market": "GBPUSD"}, ("timeframe",)),
        ({"market": "USDJPY"}, ("it holds EURUSD, and one trades USDJPY", "--market EURUSD")),
        ({"timeframe": "M30"}, ("M30 bars cannot be put together from H1", "H2, H3, H4, H6, H8, H12, D1, W1, MN1")),
        ({"timeframe": "H5"}, ("timeframe",)),
        ({"calendar": "none.csv"}, ("none.csv: No such file",)),
        ({"risk_precent": 3}, ("risk_precent", "did you mean 'risk_percent'?")),
        ({"risk_percent": 0}, ("risk_percent",)),
        ({"account": {"leverag": 5}}, ("leverag", "did you mean 'leverage'?")),
        ({"start": "yesterday"}, ("'yesterday' is not a day",)),
        ({"start": "1999-01-01"}, ("outside the data", "2024-01-01")),
        ({"start": "2024-01-05", "end": "2024-01-02"}, ("is not after start",)),
        ({"balance": -1}, ("balance",)),
        ({"data": None}, ("made market",)),
        ({"bots": []}, ("no bot",)),
        ({"bogus": 1}, ("bogus",)),
    ],
)
def test_what_is_wrong_is_one_line(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path, "EURUSD", noise(300))
    job: dict[str, Any] = {"bots": [{"name": "one", "strategy": "MA_CROSSOVER"}], "data": "EURUSD_H1.csv"}
    if change.get("market") == "GBPUSD":
        (tmp_path / "EURUSD_H1.csv").rename(tmp_path / "bars.csv")
        job["data"] = "bars.csv"
    for key, value in change.items():
        if key in ("data", "start", "end", "balance", "account", "bots", "bogus"):
            job[key] = value
        else:
            job["bots"][0][key] = value
    code, _, err = play(capsys, monkeypatch, job)
    assert code == 2 and err.count("\n") == 1 and err.startswith("stablehand: "), err
    for word in words:
        assert word in err, err


def test_a_broken_file_and_a_broken_job_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "EURUSD_H1.csv").write_text("time,open,high,low,close\n2020-01-01 00:00:00,1,2,0.5,x\n")
    job = {"bots": [{"name": "one", "strategy": "MA_CROSSOVER"}], "data": str(tmp_path / "EURUSD_H1.csv")}
    code, _, err = play(capsys, monkeypatch, job)
    assert code == 2 and "line 2, column close: x is not a number" in err
    code, _, err = play(capsys, monkeypatch, "{")
    assert code == 2 and "not JSON" in err
    write_csv(tmp_path, "EURUSD", noise(100))
    code, _, err = play(capsys, monkeypatch, job, "--html", str(tmp_path / "no" / "r.html"))
    assert code == 2 and "there is no folder" in err
    two = {
        **job,
        "account": {"margin_mode": "netting"},
        "bots": [{"name": n, "strategy": "MA_CROSSOVER"} for n in "ab"],
    }
    code, _, err = play(capsys, monkeypatch, two)
    assert code == 2 and "netting" in err


# --- figures -----------------------------------------------------------------------------------------


def deal(ticket: int, position: int, entry: int, kind: int, price: float, profit: float, **more: Any) -> TradeDeal:
    blank = {"order": ticket, "time": ticket * HOUR, "time_msc": ticket * HOUR * 1000, "reason": api.DEAL_REASON_EXPERT,
             "magic": 1, "volume": 1.0, "commission": -2.0, "swap": 0.0, "fee": 0.0, "symbol": "EURUSD", "comment": "",
             "external_id": ""}  # fmt: skip
    values = {**blank, "ticket": ticket, "position_id": position, "entry": entry, "type": kind, "price": price}
    return TradeDeal(**{**values, "profit": profit, **more})


def test_trades_are_put_together_from_deals() -> None:
    deals = [
        deal(1, 0, 0, api.DEAL_TYPE_BALANCE, 0.0, 1000.0, commission=0.0),
        deal(2, 10, 0, api.DEAL_TYPE_BUY, 1.1, 0.0),
        deal(3, 11, 0, api.DEAL_TYPE_SELL, 1.2, 0.0, volume=3.0, magic=2),
        deal(4, 10, 1, api.DEAL_TYPE_SELL, 1.2, 100.0, swap=-1.5, reason=api.DEAL_REASON_TP),
        deal(5, 11, 1, api.DEAL_TYPE_BUY, 1.3, -50.0, volume=1.0, magic=2),
        deal(6, 11, 1, api.DEAL_TYPE_BUY, 1.6, -70.0, volume=2.0, reason=api.DEAL_REASON_SL),
        deal(7, 12, 0, api.DEAL_TYPE_BUY, 1.1, 0.0),  # still open
    ]
    first, second = trades_of(deals, {1: "a", 2: "b"})
    assert (first.bot, first.side, first.profit, first.costs, first.reason) == ("a", "buy", 94.5, -5.5, "take profit")
    assert (second.bot, second.side, second.volume, second.profit) == ("b", "sell", 3.0, -126.0)
    assert second.price_close == pytest.approx(1.5) and second.closed == 6 * HOUR and second.reason == "stop loss"
    stats = stats_of([first, second, second])
    assert (stats.trades, stats.wins, stats.losses, stats.win_rate) == (3, 1, 2, 33.33)
    assert stats.profit_factor == pytest.approx(94.5 / 252, abs=1e-3)
    assert stats.expectancy == pytest.approx((94.5 - 252) / 3, abs=0.01) and stats.longest_losing_streak == 2
    assert (stats.largest_win, stats.largest_loss, stats.average_hours) == (94.5, -126.0, 2.67)
    assert stats_of([]).expectancy is None and stats_of([first]).profit_factor is None


def test_drawdown_by_hand() -> None:
    times = [n * HOUR for n in range(1, 8)]
    fall = drawdown(times, [990, 1100, 1050, 880, 2000, 1700, 1750], 1000)
    assert (fall.money, fall.percent) == (300.0, 20.0)  # 2000 to 1700; 1100 to 880
    assert (fall.start, fall.bottom) == (2 * HOUR, 4 * HOUR)
    assert drawdown(times[:1], [900], 1000).percent == 10.0  # below the deposit, from the first bar on
    assert drawdown([], [], 1000).money == 0.0


def test_sharpe_by_hand() -> None:
    day = 24 * HOUR
    # Closes at midnight of Monday to Thursday: 1 %, -2 %, 3 %, 0 %. Moments within a day do not count.
    levels = [1010.0, 1010 * 0.98, 1010 * 0.98 * 1.03, 1010 * 0.98 * 1.03]
    times, equity = [], []
    for number, level in enumerate(levels):
        times += [MONDAY + number * day + HOUR, MONDAY + (number + 1) * day]
        equity += [5000.0, level]
    returns = np.array([0.01, -0.02, 0.03, 0.0])
    by_hand = returns.mean() / returns.std(ddof=1) * math.sqrt(252)
    assert sharpe(times, equity, 1000.0) == pytest.approx(by_hand, abs=1e-3)
    weekend = [moment + 4 * day for moment in times]  # Friday to Monday: a market without weekends
    assert sharpe(weekend, equity, 1000.0) == pytest.approx(by_hand * math.sqrt(365 / 252), abs=1e-3)
    assert sharpe(times[:2], equity[:2], 1000.0) is None
    assert sharpe(times, [1000.0] * 8, 1000.0) is None
    assert sharpe([], [], 1000.0) is None


def test_months_and_thinning() -> None:
    day = 24 * HOUR
    found = months([MONDAY + HOUR, MONDAY + 31 * day, MONDAY + 32 * day], [1010.0, 1100.0, 990.0], 1000.0)
    assert found == {"2024-01": 10.0, "2024-02": -10.0}
    values = np.random.default_rng(1).normal(0, 1, 20_000).tolist()
    kept = thin(values, 1000)
    assert len(kept) <= 1002 and kept == sorted(set(kept)) and kept[0] == 0 and kept[-1] == 19_999
    assert min(values[n] for n in kept) == min(values) and max(values[n] for n in kept) == max(values)
    assert thin([1.0, 2.0], 1000) == [0, 1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (9_731, 14_020), (-0.02, 0.001), (1e-9, 3e-9), (5, 5)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 1 <= len(found) <= 11 and all(low - 1e-9 <= value <= high + 1e-9 for value in found)


@pytest.mark.parametrize("days", [3, 40, 100, 700, 3000, 20_000])
def test_a_time_axis_has_a_handful_of_labels(days: int) -> None:
    assert 1 <= len(dates(MONDAY, MONDAY + days * 86_400)) <= 30


def test_a_turn_stops_at_each_order() -> None:
    times = {"bar_time": 0, "decided_at": 0.0, "decided_mono": 0.0}
    names = {"installation": "i", "gateway_boot": "b", "decision": "d", "symbol": "X", "action": "open"}
    order = Order.model_validate({**times, **names, "bot_id": 1, "epoch": 1, "seq": 1, "magic": 1})
    told: list[str] = []

    def work() -> None:
        for _ in range(2):
            told.append(turn.send(order).status)

    turn = Turn(work)
    assert turn.start() is order and told == []
    assert turn.advance(OrderResult(id="a", status="done")) is order and told == ["done"]
    assert turn.advance(OrderResult(id="b", status="refused")) is None and told == ["done", "refused"]

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Turn(broken).start()


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_holds_everything_itself(run: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path, "EURUSD", noise(1500))
    bots = [{"name": "first", "strategy": "MA_CROSSOVER"}, {"name": "second", "strategy": "RSI_CROSSOVER"}]
    found = run({"bots": bots, "data": str(file)}, "--html", str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text("utf-8")
    assert not re.search(r"https?:|src=|<script|@import|url\(|href=", text)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        ET.fromstring(drawing)
        assert "nan" not in drawing and "inf" not in drawing
    assert f"of {found['result']['trades']} trades" in text and text.count('class="mark ') > 10
    assert f"{found['result']['net_profit']:+,.2f}" in text
    assert "&lt;script&gt;" in page.render({**found, "bots": [{**found["bots"][0], "market": "<script>"}]})


def test_a_page_without_a_trade(run: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path, "EURUSD", flat(1.1, range(100)))
    run({"bots": [{"name": "one", "strategy": "MA_CROSSOVER"}], "data": str(file)}, "--html", str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "There was none." in text and len(re.findall("<svg", text)) == 3
