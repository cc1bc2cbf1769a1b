"""Real market data through the whole stable: lockstep, the balance identity, and the same deals twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.market]

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500")
STRATEGIES = ("MA_CROSSOVER", "RSI_CROSSOVER", "BOLLINGER_REVERSION")
Make = Callable[..., Daemon]


def replay_text(market: Path, end: str) -> str:
    """Six bots over six real files, in lockstep."""
    account = f"""
feed = "replay"
path = "{market}"
start = 2020-02-03
end = {end}
bars_per_second = "max"
symbols = {json.dumps(SYMBOLS)}
balance = 10000.0
commission_per_lot = 3.5
"""
    bots = "".join(
        bot_text(
            symbol.lower(), symbol, STRATEGIES[index % 3], "params = { fast = 5, slow = 12 }" if index % 3 == 0 else ""
        )
        for index, symbol in enumerate(SYMBOLS)
    )
    return config_text(account=account, bots=bots)


def play(daemon: Daemon) -> list[dict[str, Any]]:
    """Play to the end of the feed; all deals."""
    daemon.start()
    eventually(lambda: daemon.ask("account").get("ended"), 90, every=0.1, what="the feed has ended")
    deals: list[dict[str, Any]] = daemon.ask("deals")
    return deals


def money(deal: dict[str, Any]) -> Decimal:
    """What a deal did to the balance."""
    return sum((Decimal(str(deal[key])) for key in ("profit", "commission", "swap", "fee")), Decimal(0))


def test_six_real_files_in_lockstep_add_up_to_the_cent_and_repeat_exactly(stable: Make, market: Path) -> None:
    daemon = stable(replay_text(market, "2020-02-18"), name="first")
    deals = play(daemon)
    account = daemon.ask("account")
    assert deals[0]["type"] == 2 and deals[0]["profit"] == 10000.0  # the deposit
    assert sum(map(money, deals)) == Decimal(str(account["balance"]))
    by_bot = {name: [deal for deal in deals if deal["bot"] == name] for name in map(str.lower, SYMBOLS)}
    traded = [name for name, own in by_bot.items() if own]
    assert len(traded) >= 5, by_bot
    assert any(deal["entry"] == 1 for deal in deals)  # positions were closed as well as opened
    assert {deal["bot"] for deal in deals} <= {*by_bot, "unattributed"}
    assert [deal["ticket"] for deal in deals] == sorted(deal["ticket"] for deal in deals)
    open_positions = daemon.ask("positions")
    for position in open_positions:
        assert position["bot"] in by_bot
    # What status shows is what the deals and positions say (the gateway publishes its figures once a second).
    owned = {name: sum(map(money, own), Decimal(0)) for name, own in by_bot.items()}
    for one in open_positions:
        owned[one["bot"]] += Decimal(str(one["profit"])) + Decimal(str(one["swap"]))
    eventually(
        lambda: all(abs(Decimal(str(row["profit"])) - owned[row["name"]]) < Decimal("0.02") for row in daemon.status()),
        5,
    )
    assert daemon.down() == 0

    again = play(stable(replay_text(market, "2020-02-18"), name="second"))
    same = ("ticket", "time", "type", "entry", "symbol", "volume", "price", "profit", "commission", "swap", "bot")
    assert [[deal[key] for key in same] for deal in again] == [[deal[key] for key in same] for deal in deals]


def test_a_restart_in_the_middle_continues_with_the_same_account(stable: Make, market: Path) -> None:
    daemon = stable(replay_text(market, "2020-03-20"))
    daemon.start()
    eventually(lambda: len(daemon.ask("deals")) > 8, 60, every=0.05)
    assert daemon.down() == 0
    daemon.start()
    before = daemon.ask("deals")
    daemon.wait_all("running")
    eventually(lambda: len(daemon.ask("deals")) > len(before) + 4, 60, every=0.05)
    deals, account = daemon.ask("deals"), daemon.ask("account")
    assert deals[: len(before)] == before
    eventually(lambda: sum(map(money, daemon.ask("deals"))) == Decimal(str(daemon.ask("account")["balance"])), 10)
    assert account["login"] == daemon.ask("account")["login"]
    assert sum(deal["type"] == 2 for deal in deals) == 1  # no second deposit
