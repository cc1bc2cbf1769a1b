"""Accounts of real terminals, whole: a supervisor, its gateway here or on another host, bots that trade."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker.mt5.opening import lock_path
from protocol.botconfig import AccountConfig
from protocol.locks import FileLock
from tests.console import COMMAND, stablehand
from tests.daemon import Daemon
from tests.ports import free_ports
from tests.scale import TAKEOVER
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
ROOT = Path(__file__).resolve().parents[2]
MARKET = 'timeframe = "H1"\nbars_per_second = 3\nticks_per_bar = 3\nsymbols = ["EURUSD", "USDJPY"]\n'
SETTINGS = """
server = "Paper-Demo"
password_env = "MT5_PASSWORD"
poll_seconds = 0.05
reconnect_initial_seconds = 0.2
reconnect_max_seconds = 0.5
terminal_timeout_seconds = 1.0
"""
BOTS = """
[bot_defaults]
strategy = "MA_CROSSOVER"
params = { fast = 2, slow = 3 }
[[bots]]
name = "euro"
market = "EURUSD"
[[bots]]
name = "yen"
market = "USDJPY"
"""
#: It shows what it was given, in its raw output.
CURIOUS = """
[[programs]]
name = "curious"
command = ["sh", "-c", "env; exec sleep 600"]
"""
SUPERVISOR = """
[supervisor]
data_dir = "var"
heartbeat_interval_seconds = 0.2
throttle.enabled = false
"""


def terminal(folder: Path) -> Path:
    """A terminal's own folder, as a paper account."""
    place = folder / "terminal"
    place.mkdir(parents=True)
    (place / "paper.toml").write_text(MARKET)
    return place


def environment(folder: Path) -> dict[str, str]:
    """What a gateway finds: the module in the package's place, and the password."""
    return {
        "STABLEHAND_MT5_MODULE": "tests.mt5module", "STABLEHAND_MT5_FAULTS": str(folder / "faults.json"),
        "STABLEHAND_MT5_TAKEOVER": str(TAKEOVER), "MT5_PASSWORD": "s3cret", "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def order(folder: Path, **faults: Any) -> None:
    partial = folder / "faults.new"
    partial.write_text(json.dumps(faults))
    partial.replace(folder / "faults.json")


def entries(daemon: Daemon, ledger: Path) -> int:
    """How many entries the terminal has; none of them but by an order of its own, and no decision twice."""
    found = [one for one in daemon.ask("deals") if one["type"] in (0, 1) and one["entry"] == 0]
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10.0)) as connection:
        decisions = connection.execute(
            "SELECT i.bot_id, i.decision FROM order_intents i JOIN order_results r ON r.id = i.id"
            " WHERE i.action = 'open' AND r.status = 'done'"
        ).fetchall()
    assert len(set(decisions)) == len(decisions), f"a decision twice: {decisions}"
    assert len(found) <= len(decisions), f"an order twice: {found}"
    return len(found)


def account_of(daemon: Daemon) -> dict[str, Any]:
    row: dict[str, Any] = daemon.ask("accounts")[0]
    return row


def held_for(daemon: Daemon, name: str, line: str) -> dict[str, Any] | None:
    bot = daemon.bot(name)
    return bot if line in bot["reason"] else None


def unharmed(daemon: Daemon) -> None:
    assert [row["restarts"] for row in daemon.status()] == [0, 0]


def more_entries(daemon: Daemon, folder: Path) -> None:
    """They trade: another entry comes. `folder`: where the gateway keeps its ledger."""
    ledger = folder / "ledger-live.db"
    before = entries(daemon, ledger)
    eventually(lambda: entries(daemon, ledger) > before, 30.0, every=0.2, what="another entry")


@pytest.fixture
def here(stable: Make, tmp_path: Path) -> Daemon:
    """A stable whose account another installation held when it came up."""
    place, login = terminal(tmp_path / "host"), random.randrange(10**6, 10**9)
    account = f'kind = "mt5"\nlogin = {login}\npath = "{place}"\n{SETTINGS}'
    text = f"{SUPERVISOR}\n[accounts.live]\n{account}{BOTS}{CURIOUS}"
    lock = lock_path(AccountConfig.model_validate({"kind": "mt5", "login": login, "server": "Paper-Demo"}))
    with FileLock(lock, note="/elsewhere/var"):
        daemon = stable(text).start(timeout=60.0, **environment(tmp_path / "host"))  # type: ignore[arg-type]
        line = f"has a gateway on this host already (process {os.getpid()}, data in /elsewhere/var); stop that one"
        eventually(lambda: line in account_of(daemon)["trouble"], 60.0, what="it is shown who holds the account")
        for name in ("euro", "yen"):
            held = eventually(partial(held_for, daemon, name, line), 60.0, what=f"{name} says so")
            assert held["state"] == "starting", held
        shown = stablehand(daemon.config, "accounts").out
        assert str(os.getpid()) in shown and "/elsewhere/var" in " ".join(shown.split()), shown
    daemon.wait_all("running", 60.0 + TAKEOVER)
    lock.unlink()
    return daemon


def test_bots_trade_and_are_held_while_the_terminal_is_away(here: Daemon, tmp_path: Path) -> None:
    seen = [one["text"] for one in here.ask("events", limit=500)["events"] if one["type"] == "alert"]
    assert len(seen) == 1 and "has a gateway on this host already" in seen[0], seen
    more_entries(here, here.data_dir)
    order(tmp_path / "host", fail={"*": [-10004, "No IPC connection"]})
    eventually(
        lambda: "no connection to the terminal" in account_of(here)["trouble"], 30.0, what="the account's trouble"
    )
    here.ask("add", bots=[{"name": "late", "market": "EURUSD", "strategy": "MA_CROSSOVER"}])
    held = eventually(
        lambda: one if "no connection" in (one := here.bot("late"))["reason"] else None, 60.0, what="it is held"
    )
    assert held["state"] == "starting"
    assert "no connection to the terminal" in here.bot("euro")["reason"]
    order(tmp_path / "host")
    here.wait_all("running")
    more_entries(here, here.data_dir)
    assert [one["restarts"] for one in here.status()] == [0, 0, 0, 0]
    told = [one["text"] for one in here.ask("events", limit=500)["events"] if one["type"] == "alert"]
    assert len(told) == 2 and told[1].startswith("no connection to the terminal"), told
    shown = here.data_dir / "logs" / "curious.out"
    eventually(lambda: b"PATH=" in shown.read_bytes(), 10.0, what="the environment of a program")
    secret = [path for path in here.data_dir.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert secret == []


class Host:
    """Another host, in a folder: a terminal, a gateway's file, and a service that starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(4)
        self.file = folder / "gateway.toml"
        place = terminal(folder)
        self._account = (
            f'[account]\nkind = "mt5"\nlogin = {random.randrange(10**6, 10**9)}\npath = "{place}"\n{SETTINGS}'
        )
        self.processes: list[subprocess.Popen[str]] = []
        self.write({"account": "live"})
        self.key = self.run("--show-key").stdout.strip()

    def write(self, stable: dict[str, str]) -> None:
        lines = "".join(f'{key} = "{value}"\n' for key, value in stable.items())
        self.file.write_text(f'[gateway]\naddress = "tcp://127.0.0.1:{self.port}"\n{lines}{self._account}')

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "gateway", str(self.file), *words], capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, **environment(self.folder)},
        )  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        log = (self.folder / "service.log").open("a")
        with log:
            process = subprocess.Popen(
                [*COMMAND, "gateway", str(self.file)], stdout=log, stderr=log, text=True,
                env={**os.environ, **environment(self.folder)},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ExitStack() as stack:
        (tmp_path / "windows").mkdir()
        made = Host(tmp_path / "windows")
        stack.callback(made.close)
        yield made


def test_a_gateway_on_another_host(stable: Make, host: Host) -> None:
    text = (
        f'{SUPERVISOR}launch = "spawn"\n[accounts.live]\nkind = "mt5-remote"\n'
        f'address = "tcp://127.0.0.1:{host.port}"\ngateway_key = "{host.key}"\n{BOTS}'
    )
    daemon = stable(text).start(ready=False)
    eventually(lambda: (daemon.data_dir / "endpoints.json").exists(), 60.0, what="it listens")
    missing = host.run()
    assert missing.returncode == 2 and "installation is missing" in missing.stderr and missing.stderr.count("\n") == 1

    def lines() -> str:
        answer = stablehand(daemon.config, "keys", "remote", "live")
        return answer.out if answer.code == 0 else ""

    host.write(tomllib.loads(eventually(lines, 60.0, every=0.2, what="the keys")))
    eventually(lambda: "does not answer" in account_of(daemon)["trouble"], 40.0, what="nobody there yet")
    gateway = host.start()
    daemon.wait_all("running", 90.0)
    more_entries(daemon, host.folder / "var")

    second = host.run()
    assert second.returncode == 2 and "has a gateway here already" in second.stderr
    assert second.stderr.count("\n") == 1 + second.stderr.count("gateway of account")

    gateway.send_signal(signal.SIGKILL)
    gateway.wait(10)
    eventually(lambda: "does not answer" in account_of(daemon)["trouble"], 40.0, what="it is missed")
    unharmed(daemon)
    host.start()
    eventually(lambda: not account_of(daemon)["trouble"], 30.0, what="it is back")
    daemon.wait_all("running", 30.0)
    more_entries(daemon, host.folder / "var")
    unharmed(daemon)

    daemon.kill()
    halted = stablehand(daemon.config, "halt", "--flatten", "--wait", "20", "--reason", "test")
    assert "account live: flat" in halted.out, halted
