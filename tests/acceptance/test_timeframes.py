"""Bots of one account on several timeframes, with guards: live in lockstep as in a backtest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
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
BOTS = {
    "by-hour": (
        "EURUSD",
        "H1",
        "sl_atr_multiplier = 0.5\nmax_consecutive_stop_losses = 2\nstop_loss_cooldown_minutes = 600",
    ),
    "by-2-hours": ("GBPUSD", "H2", "max_drawdown_percent = 0.5"),
    "by-3-hours": ("EURUSD", "H3", 'trading_hours = ["Mon-Thu 03:00-15:00"]'),
    "by-4-hours": ("GBPUSD", "H4", "max_daily_loss = 30"),
    "by-day": ("EURUSD", "D1", 'calendar = "pauses.csv"'),
}


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


def test_several_timeframes_and_guards_give_the_same_deals_live_and_in_a_backtest(stable: Make, tmp_path: Path) -> None:
    market = tmp_path / "market"
    market.mkdir()
    write_csv(market, "EURUSD", walk(3))
    write_csv(market, "GBPUSD", walk(4))
    account = f"""
feed = "replay"
path = "{market}"
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
    (daemon.folder / "pauses.csv").write_text("from,until,reason\n2024-03-12 00:00,2024-03-15 12:00,a holiday\n")
    played = stablehand(daemon.config, "backtest", *BOTS, "--json").json()
    live = live_deals(daemon)
    assert same(played["deals"]) == same(live) and len(live) > 40
    entered = Counter(deal["bot"] for deal in live if deal["entry"] == 0 and deal["type"] in (0, 1))
    assert entered.keys() == BOTS.keys(), entered
    assert entered["by-hour"] > entered["by-3-hours"] > 0, entered
    # A bot decides where a bar of its timeframe has closed, and fills at the opening that follows.
    for deal in live:
        if deal["entry"] == 0 and deal["bot"] in ("by-2-hours", "by-3-hours", "by-4-hours"):
            assert deal["time"] % (int(deal["bot"][3]) * HOUR) == 0, deal
    refused = {row["guard"] for row in played["guards"]}
    assert refused >= {
        "bot by-hour: max_consecutive_stop_losses", "bot by-2-hours: max_drawdown_percent",
        "bot by-3-hours: trading_hours", "bot by-4-hours: max_daily_loss",
    }, refused  # fmt: skip
    # What has no end of its own still holds in the gateway.
    assert "max_drawdown_percent" in json.dumps(daemon.ask("status", bots=["by-2-hours"]))
    assert daemon.down() == 0
