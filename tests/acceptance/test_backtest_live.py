"""A backtest gives the deals that live paper trading in lockstep gives, to the ticket; and `stablehand backtest`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.market]

Make = Callable[..., Daemon]

#: What a deal is. Magic differs: it names the installation.
SAME = ("ticket", "order", "time", "time_msc", "type", "entry", "reason", "position_id", "symbol", "volume", "price",
        "profit", "commission", "swap", "fee", "comment", "bot")  # fmt: skip
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")


def account(market: Path, symbols: tuple[str, ...], start: str, end: str) -> str:
    return f"""
feed = "replay"
path = "{market}"
start = {start}
end = {end}
bars_per_second = "max"
symbols = {json.dumps(symbols)}
balance = 20000.0
commission_per_lot = 3.5
"""


def live_deals(daemon: Daemon) -> list[dict[str, Any]]:
    """Play to the end of the feed with real processes."""
    daemon.start()
    eventually(lambda: daemon.ask("account").get("ended"), 100, every=0.1, what="the feed has ended")
    deals: list[dict[str, Any]] = daemon.ask("deals")
    return deals


def same(deals: list[dict[str, Any]]) -> list[list[Any]]:
    return [[deal[key] for key in SAME] for deal in deals]


def compare(daemon: Daemon, names: list[str], *, least: int) -> dict[str, Any]:
    """The backtest as the file says it, the live run, and the backtest of the running stable: all the same."""
    from_file = stablehand(daemon.config, "backtest", *names, "--json").json()
    live = live_deals(daemon)
    assert len(live) > least, len(live)
    assert same(from_file["deals"]) == same(live)
    running = stablehand(daemon.config, "backtest", *names, "--json").json()
    assert same(running["deals"]) == same(live)
    positions = daemon.ask("positions")
    keys = ("ticket", "symbol", "type", "volume", "price_open", "sl", "tp", "price_current", "profit", "swap", "bot")
    assert [[one[key] for key in keys] for one in from_file["open"]] == [
        [one[key] for key in keys] for one in positions
    ]
    balance = daemon.ask("account")["balance"]
    assert from_file["result"]["balance"] == balance
    assert daemon.down() == 0
    found: dict[str, Any] = from_file
    return found


@pytest.mark.parametrize(
    ("symbol", "strategy", "extra"),
    [
        ("EURUSD", "MA_CROSSOVER", "params = { fast = 5, slow = 12 }"),
        ("US500", "TURTLE_BREAKOUT", "tp_atr_multiplier = 0.0"),  # its exits need the position
        ("EURUSD", "PULSE_SYNC", ""),  # begins before there are bars enough: warms up
    ],
)
def test_one_bot_of_an_account(stable: Make, market: Path, symbol: str, strategy: str, extra: str) -> None:
    start = "2019-12-31" if strategy == "PULSE_SYNC" else "2020-02-03"
    end = "2020-02-20" if strategy == "PULSE_SYNC" else "2020-03-14"
    text = config_text(account=account(market, (symbol,), start, end), bots=bot_text("solo", symbol, strategy, extra))
    found = compare(stable(text), ["solo"], least=3)
    if strategy == "TURTLE_BREAKOUT":
        assert any(deal["entry"] == 1 and deal["reason"] == 3 for deal in found["deals"])  # its own exits


def test_several_bots_of_one_account(stable: Make, market: Path) -> None:
    strategies = (
        "MA_CROSSOVER",
        "TURTLE_BREAKOUT",
        "INDEX_MOMENTUM",
        "DYNAMIC_BREAKOUT",
        "PULSE_SYNC",
        "RSI_CROSSOVER",
    )
    bots = "".join(
        bot_text(f"bot-{n}", SYMBOLS[n % 3], strategies[n % 6], "params = { fast = 4, slow = 9 }" if n % 6 == 0 else "")
        for n in range(9)
    )
    text = config_text(account=account(market, SYMBOLS[:3], "2020-02-24", "2020-03-21"), bots=bots)
    found = compare(stable(text), [f"bot-{n}" for n in range(9)], least=80)
    traded = {deal["bot"] for deal in found["deals"]}
    assert len(traded) >= 8, traded
    # Several orders fell on one bar: the order of bots mattered.
    opened = [(deal["time"], deal["bot"]) for deal in found["deals"] if deal["entry"] == 0 and deal["type"] in (0, 1)]
    assert len({time for time, _ in opened}) < len(opened) - 5


def test_what_update_set_counts(stable: Make, market: Path) -> None:
    text = config_text(
        account=account(market, ("EURUSD",), "2020-02-03", "2020-02-20"),
        bots=bot_text("solo", "EURUSD", "MA_CROSSOVER", 'params = { fast = 5, slow = 12 }\nwanted = "stopped"'),
    )
    daemon = stable(text)
    before = stablehand(daemon.config, "backtest", "solo", "--json").json()
    daemon.start()
    daemon.ask("update", bots=["solo"], set={"risk_percent": 0.25})
    after = stablehand(daemon.config, "backtest", "solo", "--json").json()
    assert after["bots"][0]["risk_percent"] == 0.25 and before["bots"][0]["risk_percent"] == 1.0
    assert len(after["deals"]) == len(before["deals"]) > 3
    assert after["deals"][1]["volume"] < before["deals"][1]["volume"]
    assert daemon.ask("deals")[1:] == []  # nothing of the stable was touched


def test_orders_that_take_too_long_are_the_same_refusals(stable: Make, market: Path) -> None:
    """A quarter of them: what is refused holds nobody back, whatever the speed at which the bars are played."""
    journey = "latency_ms = 100\nlatency_jitter_ms = 400\norder_timeout_ms = 400\n"
    bots = "".join(
        bot_text(f"bot-{n}", SYMBOLS[n % 3], "MA_CROSSOVER", f"params = {{ fast = 4, slow = {9 + n} }}")
        for n in range(6)
    )
    text = config_text(account=account(market, SYMBOLS[:3], "2020-02-03", "2020-03-14") + journey, bots=bots)
    compare(stable(text), [f"bot-{n}" for n in range(6)], least=60)
