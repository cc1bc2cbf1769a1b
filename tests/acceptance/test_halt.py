"""Real daemon, real gateway, real bots: a halt holds whatever dies, and the account is flat."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.database import open_database
from store.halts import gateway_halts, supervisor_halts
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance

Make = Callable[..., Daemon]

EAGER = '''
import pandas as pd
from botproc.strategy import Signal, Strategy, StrategyParams


class Params(StrategyParams):
    pass


class Eager(Strategy):
    """Buys at every bar."""

    id = "EAGER"
    title = "Eager"
    Params = Params

    @property
    def lookback(self) -> int:
        return 30

    def analyze(self, bars: pd.DataFrame) -> Signal:
        return Signal("BUY", float(bars["close"].iloc[-1]), "always", {})
'''

#: A market that never closes, quick bars, and stops so far away that they do not matter.
QUICK = 'feed = "synthetic"\nbars_per_second = 20\nsymbols = ["BTCUSD", "EURUSD"]'
FAR = 'sl_atr_multiplier = 50\ntp_atr_multiplier = 0\nrisk_percent = 0.5\nmin_lot = "accept"'


def eager(name: str = "one", market: str = "BTCUSD", extra: str = "") -> str:
    return bot_text(name, market, "eager:Eager", f"{FAR}\n{extra}")


def prepared(stable: Make, *, account: str = QUICK, bots: str = "", supervisor: str = "") -> Daemon:
    daemon = stable(
        config_text(supervisor=f'strategy_path = ["strategies"]\n{supervisor}', account=account, bots=bots or eager())
    )
    folder = daemon.folder / "strategies"
    folder.mkdir()
    (folder / "eager.py").write_text(EAGER, "utf-8")
    return daemon


def command(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a person types it."""
    return subprocess.run(
        [sys.executable, "-m", "console", "-c", str(daemon.config), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def positions(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.ask("positions")
    return found


def with_position(daemon: Daemon, names: tuple[str, ...] = ("one",)) -> None:
    eventually(lambda: {one["bot"] for one in positions(daemon)} >= set(names), 30, what="open positions")


def at_the_terminal(daemon: Daemon) -> int:
    """Open positions in the paper account's own database, whoever is alive."""
    found = sqlite3.connect(f"file:{daemon.data_dir / 'paper-main.db'}?mode=ro", uri=True, timeout=5)
    try:
        return int(found.execute("select count(*) from paper_positions").fetchone()[0])
    finally:
        found.close()


def entries(daemon: Daemon) -> int:
    return sum(1 for deal in daemon.ask("deals") if deal["entry"] == 0 and deal["type"] in (0, 1))


def held_at(daemon: Daemon, name: str = "ledger-main.db") -> list[str]:
    which: Any = "supervisor" if name == "supervisor.db" else "ledger"
    database = open_database(daemon.data_dir / name, which)
    try:
        with database.read() as conn:
            book = supervisor_halts if which == "supervisor" else gateway_halts
            return [row.scope for row in book.active(conn)]
    finally:
        database.close()


@pytest.fixture
def frozen() -> Iterator[list[int]]:
    """Processes that a test stopped go on at its end, so that they can be ended."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.both_profiles
def test_with_the_supervisor_dead_and_the_bots_frozen_a_halt_flattens(stable: Make, frozen: list[int]) -> None:
    daemon = prepared(stable, bots=eager("one") + eager("two", "EURUSD")).start()
    daemon.wait_all("running", 60)
    with_position(daemon)
    bots = [row["pid"] for row in daemon.status()]
    daemon.kill()
    for pid in bots:
        os.kill(pid, signal.SIGSTOP)
        frozen.append(pid)
    said = command(daemon, "halt", "--flatten", "--reason", "news", "--wait", "20")
    assert said.returncode == 0, (said.stdout, said.stderr)
    assert "account main: flat" in said.stdout and "telling the gateways" in said.stderr
    assert at_the_terminal(daemon) == 0
    assert {"all", "flatten:all"} <= set(held_at(daemon))
    refused = command(daemon, "resume-trading")
    assert refused.returncode == 3  # it needs the supervisor too
    for pid in bots:
        os.kill(pid, signal.SIGCONT)
    daemon.start()
    daemon.wait_all("running", 60)
    before = entries(daemon)
    row = daemon.bot("one")
    assert "news" in row["halted"] and "halted (everything): news" in row["reason"]
    told = eventually(lambda: [one for one in daemon.ask("history", bot="one") if "halted" in one["text"]], 20)
    assert "news" in told[-1]["text"]
    assert (positions(daemon), entries(daemon)) == ([], before)
    # What it heard from the gateways it says to be NOT remembered until it has written it down itself.
    eventually(lambda: daemon.ask("ping")["halts"] == ["halted (everything): news"])
    eventually(lambda: "all" in held_at(daemon, "supervisor.db"), 5)
    lifted = command(daemon, "resume-trading")
    assert (lifted.returncode, lifted.stdout) == (0, "lifted: all\n"), lifted.stderr
    with_position(daemon)
    assert held_at(daemon) == held_at(daemon, "supervisor.db") == []


def test_a_halt_survives_the_gateway_the_supervisor_and_a_full_restart(stable: Make) -> None:
    daemon = prepared(stable).start()
    daemon.wait_all("running", 60)
    with_position(daemon)
    answer = daemon.ask("halt", reason="enough", account="main", flatten=True, wait=20)
    shown = command(daemon, "status").stdout + command(daemon, "accounts").stdout
    assert shown.count("halted (account main): enough") == 2 and "[flat]" in shown
    assert answer["flat"] and answer["remembered"] and answer["accounts"]["main"]["in_force"]
    assert positions(daemon) == []
    before = entries(daemon)
    gateway = daemon.ask("accounts")[0]["pid"]
    os.kill(gateway, signal.SIGKILL)
    account = eventually(lambda: up_again(daemon, gateway), 30)
    assert [one["scope"] for one in account["halts"]] == ["account:main"] and account["halts"][0]["confirmed"]
    daemon.kill()
    daemon.start()
    daemon.wait_all("running", 60)
    assert "enough" in daemon.bot("one")["halted"]
    assert daemon.down() == 0
    daemon.start()
    daemon.wait_all("running", 60)
    eventually(lambda: daemon.bot("one")["cycles"] > 5, 20)
    assert "enough" in daemon.bot("one")["halted"]
    assert (positions(daemon), entries(daemon)) == ([], before)
    said = daemon.ask("resume-trading", account="main")
    assert said == {"lifted": ["account:main"], "still": []}
    with_position(daemon)
    types = [event["type"] for event in daemon.ask("events", limit=500)["events"]]
    assert "halt" in types and "resume-trading" in types


def up_again(daemon: Daemon, gateway: int) -> dict[str, Any] | None:
    account: dict[str, Any] = daemon.ask("accounts")[0]
    return account if account["pid"] not in (None, gateway) and account["state"] == "running" else None


def test_a_bot_is_halted_alone_and_others_trade_on(stable: Make) -> None:
    daemon = prepared(stable, bots=eager("one") + eager("two")).start()
    daemon.wait_all("running", 60)
    with_position(daemon, ("one", "two"))
    said = command(daemon, "halt", "--bot", "one", "--flatten", "--reason", "odd fills")
    assert said.returncode == 0, said.stderr
    assert {one["bot"] for one in positions(daemon)} == {"two"}
    assert daemon.bot("two")["halted"] is None and "odd fills" in daemon.bot("one")["halted"]
    wrong = command(daemon, "halt", "--bot", "on", "--reason", "x")
    assert wrong.returncode == 2 and "did you mean" in wrong.stderr
    assert command(daemon, "resume-trading", "--bot", "one").returncode == 0
    with_position(daemon, ("one", "two"))


def test_the_file_halts_within_a_second_and_its_removal_lifts_nothing(stable: Make) -> None:
    daemon = prepared(stable).start()
    daemon.wait_all("running", 60)
    file = daemon.data_dir / "HALT"
    file.write_text("fire\nalarm\n")
    eventually(lambda: daemon.ask("ping")["halts"] == ["halted (everything): fire alarm"], 1.5)
    refused = command(daemon, "resume-trading")
    assert refused.returncode == 1 and "remove it first" in refused.stderr
    file.unlink()
    eventually(lambda: "all" in held_at(daemon, "supervisor.db"), 5)
    assert daemon.ask("ping")["halts"] == ["halted (everything): fire alarm"]
    assert daemon.ask("resume-trading")["lifted"] == ["all"]
    assert daemon.ask("ping")["halts"] == []


def test_what_cannot_be_remembered_is_in_force_all_the_same(stable: Make) -> None:
    daemon = prepared(stable).start()
    daemon.wait_all("running", 60)
    with_position(daemon)
    held = [lock(daemon.data_dir / name) for name in ("ledger-main.db", "supervisor.db")]
    said = command(daemon, "halt", "--flatten", "--reason", "disk", "--wait", "20")
    assert "in force, NOT remembered" in said.stderr
    assert at_the_terminal(daemon) == 0
    lift = command(daemon, "resume-trading")
    assert lift.returncode == 1 and "could not be remembered" in lift.stderr
    for connection in held:
        connection.rollback()
        connection.close()
    eventually(lambda: {"all", "flatten:all"} <= set(held_at(daemon)), 10)
    eventually(lambda: "all" in held_at(daemon, "supervisor.db"), 10)
    assert daemon.ask("ping")["halts"] == ["halted (everything): disk"]
    assert positions(daemon) == []


def lock(path: Path) -> sqlite3.Connection:
    """A writer that does not give way."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    connection.execute("begin immediate")
    return connection


def test_while_the_market_is_closed_it_is_tried_until_it_opens(stable: Make) -> None:
    account = 'feed = "synthetic"\nbars_per_second = 10\nsymbols = ["BTCUSD", "EURUSD"]'
    daemon = prepared(stable, account=account, bots=eager("one", "EURUSD")).start()
    daemon.wait_all("running", 60)
    with_position(daemon)
    eventually(lambda: not is_open(daemon, "EURUSD"), 30, what="the weekend")
    said = daemon.ask("halt", reason="weekend", flatten=True)
    progress = eventually(lambda: daemon.ask("accounts")[0]["halts"][0]["progress"], 5)
    assert said["flat"] is False and "market closed" in progress, progress
    assert len(positions(daemon)) == 1
    eventually(lambda: daemon.ask("accounts")[0]["halts"][0]["progress"] == "flat", 30)
    assert positions(daemon) == []


def is_open(daemon: Daemon, symbol: str) -> bool:
    return any(one["open"] for one in daemon.ask("symbols") if one["name"] == symbol)


def test_a_guard_latches_is_told_once_holds_over_a_crash_and_is_lifted(stable: Make) -> None:
    bots = eager("one", extra="max_daily_loss = 0.01") + eager("two", extra="max_open_positions = 1")
    account = f"{QUICK.replace('20', '0.5')}\ncommission_per_lot = 100"
    daemon = prepared(stable, account=account, bots=bots).start()
    daemon.wait_all("running", 60)
    row = eventually(lambda: row if (row := daemon.bot("one"))["halted"] else None, 40)
    assert row["halted"].startswith("halted by max_daily_loss (bot one): lost ")
    assert daemon.bot("two")["halted"] is None
    gateway = daemon.ask("accounts")[0]["pid"]
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: up_again(daemon, gateway), 30)
    assert "max_daily_loss" in daemon.bot("one")["halted"]
    daemon.kill()
    daemon.start()
    daemon.wait_all("running", 60)
    assert "max_daily_loss" in daemon.bot("one")["halted"]
    alerts = [event for event in daemon.ask("events", bot="one")["events"] if event["type"] == "alert"]
    assert [event["data"]["rule"] for event in alerts] == ["max_daily_loss"]
    (key,) = daemon.ask("resume-trading", bot="one")["lifted"]
    assert key.startswith("bot:one/max_daily_loss@")
    cycles = daemon.bot("one")["cycles"]
    eventually(lambda: daemon.bot("one")["cycles"] > cycles, 20)
    assert daemon.bot("one")["halted"] is None  # it is not judged again on that server day


def test_limits_that_are_none_stop_the_start_with_their_line(stable: Make) -> None:
    daemon = prepared(stable, bots=eager(extra='calendar = "none.csv"'))
    wrong = command(daemon, "config", "check")
    assert wrong.returncode == 2 and "calendar 'none.csv': No such file" in wrong.stderr, wrong.stderr
    text = daemon.config.read_text().replace('calendar = "none.csv"', 'trading_hours = ["8 to 17"]')
    daemon.config.write_text(text)
    wrong = command(daemon, "config", "check")
    assert wrong.returncode == 2
    assert "supervisor.toml:" in wrong.stderr and "trading_hours" in wrong.stderr and "08:00-17:00" in wrong.stderr


def test_either_memory_may_be_lost(stable: Make) -> None:
    daemon = prepared(stable).start()
    daemon.wait_all("running", 60)
    with_position(daemon)
    assert daemon.ask("halt", reason="enough", flatten=True, wait=20)["flat"]
    for lost in ("ledger-main.db", "supervisor.db"):
        before = entries(daemon)
        assert daemon.down() == 0
        for file in daemon.data_dir.glob(f"{lost}*"):
            file.unlink()
        daemon.start()
        daemon.wait_all("running", 60)
        eventually(lambda: daemon.bot("one")["cycles"] > 5, 30)
        assert "enough" in daemon.bot("one")["halted"]
        assert (positions(daemon), entries(daemon)) == ([], before)
        eventually(lambda: "all" in held_at(daemon) and "all" in held_at(daemon, "supervisor.db"), 5)
    assert daemon.ask("resume-trading")["lifted"] == ["all"]
    with_position(daemon)
