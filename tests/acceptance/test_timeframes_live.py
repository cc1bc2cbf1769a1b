"""Bots of one account on several timeframes, with guards: live in lockstep as in a backtest."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.test_backtest_live import live_deals, same
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.papermarket import HOUR, Bar, write_csv

pytestmark = pytest.mark.acceptance

Make = Callable[..., Daemon]

#: Ten weeks of history, so that a bot on days has bars enough for its stops; then six days of trading are played.
DAYS, START, END = 82, "2024-03-14", "2024-03-22"
FRIDAY, MONDAY = 1_710_536_400, 1_710_720_000  # 2024-03-15 21:00, when the market closes, and 2024-03-18 00:00
BOTS = {
    "by-hour": (
        "EURUSD",
        "H1",
        "sl_atr_multiplier = 0.5\nmax_consecutive_stop_losses = 2\nstop_loss_cooldown_minutes = 600",
    ),
    "by-2-hours": ("GBPUSD", "H2", "max_drawdown_percent = 1.5"),
    "by-3-hours": ("EURUSD", "H3", 'trading_hours = ["Mon-Thu 03:00-15:00"]'),
    "by-4-hours": ("GBPUSD", "H4", "max_daily_loss = 30"),
    "by-day": ("EURUSD", "D1", ""),
    "pausing": ("GBPUSD", "H1", 'sl_atr_multiplier = 1.0\ncalendar = "pauses.csv"'),
}
#: From, until, why: a pause inside a day, and one that a weekend lies in.
PAUSES = (
    ("2024-03-14 12:00", "2024-03-14 18:00", "a speech"),
    ("2024-03-15 16:00", "2024-03-18 06:00", "around the weekend"),
)


def walk(seed: int) -> list[Bar]:
    """Hours. Weekends begin on Friday at 21:00: bars of 2, 3 and 4 hours and of a day end inside them."""
    random = np.random.default_rng(seed)
    rows: list[Bar] = []
    price = 1.2
    for hour in range(DAYS * 24):
        if hour % 168 >= 4 * 24 + 21:
            continue
        after = round(price + random.normal(0, 0.0012), 5)
        up, down = random.uniform(0, 0.001, 2)
        rows.append((hour, price, round(max(price, after) + up, 5), round(min(price, after) - down, 5), after, 8))
        price = after
    return rows


def halves(rows: list[Bar]) -> Iterator[Bar]:
    """The same market in half hours: the file of which the hours are put together."""
    for hour, opened, high, low, close, spread in rows:
        middle = round((opened + close) / 2, 5)
        yield hour, opened, high, low, middle, spread
        yield hour + 0.5, middle, max(middle, close), min(middle, close), close, spread


def paused(moment: int) -> bool:
    at = dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M")
    return any(begin <= at < end for begin, end, _ in PAUSES)


def test_several_timeframes_and_guards_give_the_same_deals_live_and_in_a_backtest(stable: Make, tmp_path: Path) -> None:
    market = tmp_path / "market"
    market.mkdir()
    write_csv(market, "EURUSD", halves(walk(21)), "M30")
    write_csv(market, "GBPUSD", halves(walk(22)), "M30")
    account = f"""
feed = "replay"
path = "{market}"
resample_from = "M30"
start = {START}
end = {END}
bars_per_second = "max"
symbols = ["EURUSD", "GBPUSD"]
balance = 20000.0
max_orders_per_minute = 1
"""
    bots = "".join(
        bot_text(name, symbol, "MA_CROSSOVER", f'timeframe = "{frame}"\nparams = {{ fast = 2, slow = 4 }}\n{guard}')
        for name, (symbol, frame, guard) in BOTS.items()
    )
    daemon = stable(config_text(account=account, bots=bots))
    lines = "".join(f"{begin},{end},{reason}\n" for begin, end, reason in PAUSES)
    (daemon.folder / "pauses.csv").write_text(f"from,until,reason\n{lines}")
    played = stablehand(daemon.config, "backtest", *BOTS, "--json").json()
    live = live_deals(daemon)
    assert same(played["deals"]) == same(live) and len(live) > 60
    trades = [deal for deal in live if deal["type"] in (0, 1)]
    entries = [deal for deal in trades if deal["entry"] == 0]
    entered = Counter(deal["bot"] for deal in entries)
    assert entered.keys() == BOTS.keys(), entered
    assert entered["by-hour"] > entered["by-3-hours"] > 0, entered
    # A bot decides where a bar of its timeframe has closed, and fills at the opening that follows.
    for deal in entries:
        if deal["bot"] in ("by-2-hours", "by-3-hours", "by-4-hours"):
            assert deal["time"] % (int(deal["bot"][3]) * HOUR) == 0, deal
    assert all(deal["time"] % (24 * HOUR) == 0 for deal in entries if deal["bot"] == "by-day")
    refused = {row["guard"] for row in played["guards"]}
    assert refused >= {
        "bot by-hour: max_consecutive_stop_losses", "bot by-2-hours: max_drawdown_percent",
        "bot by-3-hours: trading_hours", "bot by-4-hours: max_daily_loss", "bot pausing: calendar",
        "account main: max_orders_per_minute",
    }, refused  # fmt: skip
    # Hours apart, two entries of one minute are two of one moment.
    moments = Counter(deal["time"] for deal in entries)
    assert set(moments.values()) == {1}, moments
    own = [deal["time"] for deal in entries if deal["bot"] == "pausing"]
    assert own and not any(map(paused, own)) and min(own) < FRIDAY and max(own) > MONDAY
    weekend = [deal for deal in trades if FRIDAY <= deal["time"] < MONDAY]
    assert weekend == []
    # A bar that ended in the weekend is decided on at the opening, and a position is held over it.
    assert [deal["bot"] for deal in entries if deal["time"] == MONDAY] == ["by-4-hours"]
    spans: dict[int, list[int]] = {}
    for deal in trades:
        spans.setdefault(deal["position_id"], []).append(deal["time"])
    assert any(min(times) < FRIDAY and max(times) >= MONDAY for times in spans.values())
    # What has no end of its own still holds in the gateway.
    assert "max_drawdown_percent" in json.dumps(daemon.ask("status", bots=["by-2-hours"]))
    assert daemon.down() == 0
