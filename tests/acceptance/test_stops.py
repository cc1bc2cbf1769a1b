"""The modes of a stop, their deadlines, and a stop of everything: with bots that will not hear."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.papermarket import flat, write_csv
from tests.scale import MANY_BOTS
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

MINE = '''
import signal, threading, time
from botproc.strategy import Signal, Strategy, StrategyParams

class Params(StrategyParams):
    pass

class Buyer(Strategy):
    """Buys whenever it may."""
    Params = Params
    @property
    def lookback(self):
        return 3
    def analyze(self, bars):
        return Signal("BUY", float(bars["close"].iloc[-1]), "Always.", {})

class Deaf(Buyer):
    """Computes for ever, and ignores SIGTERM."""
    def analyze(self, bars):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        while True:
            time.sleep(0.05)
'''
FAR = "sl_atr_multiplier = 60\ntp_atr_multiplier = 0\nmin_lot = 'accept'\n"
PATH = 'strategy_path = ["s"]\n'


def made(stable: Make, text: str) -> Daemon:
    daemon = stable(text)
    (daemon.folder / "s").mkdir()
    (daemon.folder / "s" / "mine.py").write_text(MINE)
    return daemon


def test_close_ends_with_the_position_closed_and_the_bot_stopped(stable: Make) -> None:
    bots = bot_text("one", "BTCUSD", "mine:Buyer", FAR) + bot_text("two", "USDJPY", "mine:Buyer", FAR)
    daemon = made(stable, config_text(supervisor=PATH, account='feed = "synthetic"\nbars_per_second = 10', bots=bots))
    daemon.start()
    eventually(lambda: len({one["bot"] for one in daemon.ask("positions")}) == 2, 30, what="both hold a position")
    answer = stablehand(daemon.config, "stop", "one", "--mode", "close", "--wait", "10", "--json")
    told = json.loads(answer.out)
    assert answer.code == 0 and told["closed"] == {"one": "1 position closed"} and told["reached"] == ["one"]
    assert {one["bot"] for one in daemon.ask("positions")} == {"two"}
    assert daemon.ask("stop", bots=["two"], wait=10)["reached"] == ["two"]  # keep: it stays, and no process is needed
    assert {one["bot"] for one in daemon.ask("positions")} == {"two"}
    answer = daemon.ask("stop", bots=["one", "two"], mode="close")
    assert answer["already"] == ["one", "two"]
    assert answer["closed"] == {"one": "no open position", "two": "1 position closed"}
    assert daemon.ask("positions") == []


def test_close_in_a_closed_market_says_what_stays_open(stable: Make, tmp_path: Path) -> None:
    account = 'feed = "replay"\npath = "csv"\nsymbols = ["EURUSD"]\nstart = 2024-01-03\nbars_per_second = 20'
    bots = bot_text("one", "EURUSD", "mine:Buyer", FAR)
    daemon = made(stable, config_text(supervisor=PATH, account=account, bots=bots))
    (daemon.folder / "csv").mkdir()
    bars = [(hour, 1.1, 1.101, 1.099, 1.1) for hour in range(90)]
    write_csv(daemon.folder / "csv", "EURUSD", [*bars, *flat(1.1, range(90, 120))])  # until the feed ends
    daemon.start()
    eventually(lambda: daemon.ask("account").get("ended"), 30, what="the feed has ended, and the market with it")
    (held,) = daemon.ask("positions")
    answer = daemon.ask("stop", bots=["one"], mode="close", wait=10)
    assert answer["reached"] == ["one"] and answer["closed"] == {}
    assert f"#{held['ticket']}" in answer["failed"]["one"] and "closed" in answer["failed"]["one"].lower()
    assert [one["ticket"] for one in daemon.ask("positions")] == [held["ticket"]]


def test_a_bot_that_ignores_sigterm_is_killed_within_its_time(stable: Make) -> None:
    extra = "stop_timeout_seconds = 1.5\ncycle_timeout_seconds = 600"
    daemon = made(stable, config_text(supervisor=PATH, bots=bot_text("deaf", "EURUSD", "mine:Deaf", extra))).start()
    row = daemon.wait_state("deaf", "running")
    raw = daemon.data_dir / "logs" / "deaf.out"
    eventually(lambda: raw.exists() and "deaf" in raw.read_text(), 20)
    began = time.monotonic()
    answer = daemon.ask("stop", bots=["deaf"], wait=2.5)
    took = time.monotonic() - began
    assert answer["reached"] == ["deaf"] and 1.4 < took < 2.5
    eventually(lambda: daemon.ask("show", bot="deaf")["runs"][0]["status"] == signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(row["pid"]))  # reaped once its end is on the disk


def test_a_stop_of_all_takes_the_time_of_one(stable: Make) -> None:
    extra = "stop_timeout_seconds = 4\ncycle_timeout_seconds = 600"
    deaf = "".join(bot_text(f"deaf{i}", "EURUSD", "mine:Deaf", extra) for i in range(4))
    others = "".join(bot_text(f"bot{i}", extra="stop_timeout_seconds = 4") for i in range(MANY_BOTS - 4))
    daemon = made(stable, config_text(supervisor=PATH, bots=deaf + others)).start()
    daemon.wait_all("running", 60 + MANY_BOTS)
    for i in range(4):
        raw = daemon.data_dir / "logs" / f"deaf{i}.out"
        eventually(lambda raw=raw: raw.exists() and "deaf" in raw.read_text(), 20)  # type: ignore[misc]
    began = time.monotonic()
    answer = daemon.ask("stop", all=True, wait=30)
    took = time.monotonic() - began
    assert len(answer["reached"]) == MANY_BOTS and took < 4 + 1
    began = time.monotonic()
    assert daemon.down() == 0  # nobody is left to wait for
    assert time.monotonic() - began < 5
