"""The store refuses under a running supervisor: supervision goes on, and what is not remembered is said."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from protocol.client import CommandFailed
from protocol.errors import NOT_REMEMBERED
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.diskfaults import full, locked, refusing, small_disk
from tests.scale import LOCKED_SECONDS
from tests.stableaudit import audit
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
THREE = bot_text("one") + bot_text("two", "GBPUSD") + bot_text("idle", "XAUUSD", extra='wanted = "stopped"')


@pytest.fixture
def disk(stable: Make) -> Iterator[Callable[[bool], Daemon]]:
    """A maker of a running installation, on a small disk of its own where that is asked for."""
    with ExitStack() as stack:

        def make(small: bool) -> Daemon:
            daemon = stable(config_text(bots=THREE))
            if small:
                stack.enter_context(small_disk(daemon.data_dir, 24))
            daemon.start()
            for name in ("one", "two"):
                daemon.wait_state(name, "running")
            return daemon

        yield make


def refused(daemon: Daemon, command: str, **args: Any) -> str:
    with pytest.raises(CommandFailed) as error:
        daemon.ask(command, **args)
    assert error.value.code == NOT_REMEMBERED, error.value
    return error.value.message


def check_refusals(daemon: Daemon, stopped: dict[str, Any]) -> None:
    """What would surprise after a reboot is not done, and it is said what is not remembered."""
    assert stopped["warning"].startswith("in force, NOT remembered: ")
    refused(daemon, "start", bots=["idle"])
    refused(daemon, "add", bots=[{"name": "new", "market": "EURUSD", "strategy": "MA_CROSSOVER"}])
    refused(daemon, "handover")
    assert daemon.bot("two")["state"] == "stopped"
    said = str(daemon.ask("ping")["not_remembered"])
    assert "what is wanted of two" in said and "starts" in said, said
    shown = stablehand(daemon.config, "status")
    assert shown.code == 0 and "NOT REMEMBERED" in shown.err and "two" in shown.out


@pytest.mark.parametrize("fault", [locked, full, refusing], ids=lambda one: one.__name__)
def test_supervision_goes_on(
    disk: Callable[[bool], Daemon], fault: Callable[[Daemon], AbstractContextManager[None]]
) -> None:
    daemon = disk(fault is full)
    before = daemon.bot("one")
    began = time.monotonic()
    with fault(daemon):
        # A crash is seen, and the bot comes back.
        os.kill(before["pid"], signal.SIGKILL)
        after = eventually(lambda: row if (row := daemon.bot("one"))["pid"] not in (None, before["pid"]) else None, 30)
        assert after["epoch"] > before["epoch"]
        daemon.wait_state("one", "running", 30)
        # What makes things safer is done.
        answer = daemon.ask("stop", bots=["two"], wait=20)
        assert answer["reached"] == ["two"]
        if fault is not full:  # a small write may still fit somewhere
            check_refusals(daemon, answer)
        if fault is locked:
            time.sleep(max(0.0, LOCKED_SECONDS - (time.monotonic() - began)))  # the fault itself
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)
    daemon.wait_state("one", "running", 30)
    # All of it is remembered now.
    restarted = daemon.bot("one")["epoch"]
    runs = daemon.ask("show", bot="one")["runs"]
    assert [run["epoch"] for run in runs][:2] == [restarted, before["epoch"]]
    assert runs[0]["pid"] == daemon.bot("one")["pid"] and runs[1]["status"] == signal.SIGKILL
    audit(daemon, logs=fault is not full)
    daemon.kill()
    daemon.start()
    assert daemon.wait_state("one", "running")["epoch"] == restarted  # adopted
    assert (daemon.bot("two")["wanted"], daemon.bot("two")["state"]) == ("stopped", "stopped")
    assert daemon.ask("start", bots=["two"], wait=20)["reached"] == ["two"]


@pytest.mark.parametrize(("fault", "words"), [(locked, "database is locked"), (full, "disk")], ids=["locked", "full"])
def test_a_start_that_may_go_well_later_is_one_that_a_service_manager_tries_again(
    disk: Callable[[bool], Daemon], fault: Callable[[Daemon], AbstractContextManager[None]], words: str
) -> None:
    """The unit says RestartPreventExitStatus=2: a 2 would leave every bot down until somebody looks."""
    daemon = disk(fault is full)
    assert daemon.down() == 0
    with fault(daemon):
        process = daemon.start(ready=False).process
        assert process is not None and process.stderr is not None
        assert process.wait(60) == 1
        said = process.stderr.read()
        assert said.startswith("stablehand: ") and words in said and said.count("\n") == 1, said
    daemon.start()
    daemon.wait_state("one", "running")


@pytest.mark.parametrize("gone", ["run.path", "logs/supervisor.log"])
def test_a_file_that_cannot_be_written_is_one_line_and_tried_again(disk: Callable[[bool], Daemon], gone: str) -> None:
    daemon = disk(True)
    assert daemon.down() == 0
    (daemon.data_dir / gone).unlink()
    with full(daemon):
        process = daemon.start(ready=False).process
        assert process is not None and process.stderr is not None
        assert process.wait(60) == 1
        said = process.stderr.read()
        assert said.startswith("stablehand: ") and said.count("\n") == 1, said
    daemon.start()
    daemon.wait_state("one", "running")


def test_an_adopted_bot_that_crashes_comes_back_while_the_store_refuses(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    daemon.wait_state("one", "running")
    daemon.kill()
    daemon.start()
    before = daemon.wait_state("one", "running")
    with locked(daemon):
        os.kill(before["pid"], signal.SIGKILL)
        eventually(lambda: daemon.bot("one")["pid"] not in (None, before["pid"]), 30)
        assert daemon.wait_state("one", "running", 30)["epoch"] > before["epoch"]
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)


def test_a_later_wish_is_not_overruled_by_an_earlier_one(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    daemon.wait_state("two", "running")
    with locked(daemon):
        daemon.ask("stop", bots=["two"], wait=20)
    daemon.ask("start", bots=["two"], wait=20)  # the earlier wish may still wait for its turn
    eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 15)
    daemon.kill()
    daemon.start()
    assert daemon.bot("two")["wanted"] == "running"


MINE = '''
from pathlib import Path
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

class Later(Buyer):
    """Buys once there is a file."""
    def analyze(self, bars):
        signal = super().analyze(bars)
        return signal if Path(__file__).with_name("now").exists() else Signal("HOLD", signal.price, "Not yet.", {})
'''
FAR = "sl_atr_multiplier = 60\ntp_atr_multiplier = 0\nmin_lot = 'accept'\n"


def held(daemon: Daemon) -> set[str]:
    return {one["bot"] for one in daemon.ask("positions")}


def test_with_the_disk_full_what_makes_things_safer_is_done_and_entries_are_refused(stable: Make) -> None:
    """Store and ledger have not a byte left. The market itself, here the paper account, lies elsewhere."""
    bots = (
        bot_text("one", "BTCUSD", "mine:Buyer", FAR)
        + bot_text("two", "USDJPY", "mine:Buyer", FAR)
        + bot_text("later", "XAUUSD", "mine:Later", FAR)
    )
    account = 'feed = "synthetic"\nbars_per_second = 5'
    daemon = stable(config_text(supervisor='strategy_path = ["s"]\n', account=account, bots=bots))
    strategies = daemon.folder / "s"
    strategies.mkdir()
    (strategies / "mine.py").write_text(MINE)
    with small_disk(daemon.data_dir, 24):
        (daemon.data_dir / "paper-main.db").symlink_to(daemon.folder / "paper-main.db")
        daemon.start()
        daemon.wait_all("running", 60)
        eventually(lambda: held(daemon) == {"one", "two"}, 30, what="both hold a position")
        before = daemon.bot("one")
        with full(daemon):
            os.kill(before["pid"], signal.SIGKILL)
            after = eventually(lambda: row if (row := daemon.bot("one"))["epoch"] > before["epoch"] else None, 30)
            daemon.wait_state("one", "running", 30)
            assert "fences of one" in str(daemon.ask("ping")["not_remembered"])
            (strategies / "now").touch()
            cycles = daemon.bot("later")["cycles"]
            eventually(lambda: daemon.bot("later")["cycles"] > cycles + 5, 30, what="it decided to enter")
            assert "later" not in held(daemon)
            stopped = daemon.ask("stop", bots=["two"], mode="close", wait=30)
            assert stopped["reached"] == ["two"] and stopped["warning"].startswith("in force, NOT remembered: ")
            assert stopped["closed"] == {"two": "1 position closed"}
            halted = stablehand(daemon.config, "halt", "--flatten", "--reason", "disk", "--wait", "20")
            assert "in force, NOT remembered" in halted.err, halted
            eventually(lambda: held(daemon) == set(), 20, what="flat")
        eventually(lambda: daemon.ask("ping")["not_remembered"] is None, 30)
        rows = daemon.ask("history", bot="later", limit=500)
        assert any("could not be remembered" in row["text"] for row in rows), rows
        with sqlite3.connect(f"file:{daemon.data_dir}/ledger-main.db?mode=ro", uri=True) as ledger:
            epochs = dict(ledger.execute("SELECT name, epoch FROM fences").fetchall())
        ledger.close()
        assert epochs["one"] >= after["epoch"]
        # The ledger tries by itself again, apart from the store.
        eventually(lambda: daemon.ask("ping")["halts"] == ["halted (everything): disk"], 30, what="it is remembered")
        audit(daemon, logs=False)
        assert daemon.down() == 0
