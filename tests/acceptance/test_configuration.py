"""The file and one's own strategies: what takes effect when, and what stays as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

HEAD = """
from botproc.strategy import Signal, Strategy, StrategyParams, param

class Params(StrategyParams):
    weight: int = param(1, ge=1, le=9)

class Mine(Strategy):
    Params = Params
    @property
    def lookback(self):
        return 3
    def analyze(self, bars):
"""
HOLD = HEAD + '        return Signal("HOLD", float(bars["close"].iloc[-1]), "TEXT")\n'
RAISE = HEAD + '        raise ZeroDivisionError("no bars like these")\n'
PATHED = 'strategy_path = ["strategies"]\n'
FAST = 'feed = "synthetic"\nbars_per_second = 10'


def made(stable: Make, bots: str, **modules: str) -> Daemon:
    """A stable with strategies of one's own, not started yet."""
    daemon = stable(config_text(supervisor=PATHED, account=FAST, bots=bots))
    (daemon.folder / "strategies").mkdir()
    for name, text in modules.items():
        module(daemon, name).write_text(text, "utf-8")
    return daemon


def module(daemon: Daemon, name: str) -> Path:
    """The file of a strategy's module."""
    return daemon.folder / "strategies" / f"{name}.py"


def show(daemon: Daemon, bot: str) -> dict[str, Any]:
    """`show --json`."""
    shown: dict[str, Any] = stablehand(daemon.config, "show", bot, "--json").json()
    return shown


def rows_of_store(daemon: Daemon) -> list[Any]:
    """The table of bots, as it is on the disk."""
    with sqlite3.connect(f"file:{daemon.data_dir / 'supervisor.db'}?mode=ro", uri=True) as store:
        return store.execute("select * from bots order by id").fetchall()


# --- strategies of one's own --------------------------------------------------------------------------------


@pytest.mark.both_profiles
def test_a_broken_strategy_hurts_only_its_own_bot(stable: Make) -> None:
    bots = (
        bot_text("fine", strategy="good:Mine") + bot_text("raising", strategy="raising:Mine")
        + bot_text("broken", strategy="broken:Mine")
        + bot_text("leaving", strategy="leaving:Mine", extra="intensity = 1")
    )  # fmt: skip
    daemon = made(
        stable, bots, good=HOLD, raising=RAISE, broken='\nraise RuntimeError("not today")\n',
        leaving="import os\nos._exit(3)\n",
    ).start()  # fmt: skip
    fine = daemon.wait_state("fine", "running")
    raising = daemon.wait_state("raising", "running")
    broken = daemon.wait_state("broken", "failed")
    assert broken["pid"] is None and broken["wanted"] == "running"
    assert all(word in broken["reason"] for word in ("broken:Mine", "RuntimeError: not today", "broken.py:2"))
    assert show(daemon, "broken")["counts"] == {"strategy": 1}
    daemon.wait_state("leaving", "failed", 40)
    # What raises in `analyze` is counted, logged and told; the bot lives.
    eventually(lambda: daemon.bot("raising")["errors"] >= 3, 20)
    now = daemon.bot("raising")
    assert (now["pid"], now["state"], now["restarts"]) == (raising["pid"], "running", 0)
    log = stablehand(daemon.config, "logs", "raising", "--raw").out
    assert "ZeroDivisionError" in log and "raising.py" in log
    history = stablehand(daemon.config, "history", "raising", "--json").json()
    assert [row["action"] for row in history].count("ERROR") == 1  # equal errors in a row are told once
    assert "raised" in stablehand(daemon.config, "status").out
    assert "no bars like these" in stablehand(daemon.config, "analysis", "raising").line(1)
    # Repaired: it starts, by name, and nobody else notices.
    module(daemon, "broken").write_text(HOLD, "utf-8")
    assert stablehand(daemon.config, "start", "broken", "--wait", "20").code == 0
    assert daemon.bot("fine")["pid"] == fine["pid"] and daemon.bot("raising")["pid"] == raising["pid"]


def test_a_changed_strategy_takes_effect_at_the_next_start_of_each_bot(stable: Make) -> None:
    bots = bot_text("one", strategy="mine:Mine") + bot_text("two", "GBPUSD", "mine:Mine")
    daemon = made(stable, bots, mine=HOLD.replace("TEXT", "old"), late=HOLD.replace("TEXT", "OLD")).start()
    before = {row["name"]: row["pid"] for row in daemon.wait_all("running")}
    daemon.ask("add", bots=[{"name": "late", "market": "EURUSD", "strategy": "late:Mine"}])
    before["late"] = daemon.wait_state("late", "running")["pid"]
    hashes = {name: show(daemon, name)["run"]["code_hash"] for name in before}
    assert hashes["one"] == hashes["two"]
    for name, text in (("mine", "new"), ("late", "NEW")):  # of the same length, perhaps in the same second
        module(daemon, name).write_text(HOLD.replace("TEXT", text), "utf-8")
        bot = "one" if name == "mine" else "late"
        assert stablehand(daemon.config, "restart", bot, "--wait", "20").code == 0
        assert daemon.ask("analysis", bot=bot)["explanation"] == text
        assert show(daemon, bot)["run"]["code_hash"] != hashes[bot]
    assert daemon.ask("analysis", bot="two")["explanation"] == "old"
    assert daemon.bot("two")["pid"] == before["two"] and show(daemon, "two")["run"]["code_hash"] == hashes["two"]
    old = psutil.Process(psutil.Process(before["two"]).ppid())
    assert psutil.Process(daemon.bot("one")["pid"]).ppid() != old.pid
    assert daemon.ask("restart", bots=["two"], wait=20)["reached"] == ["two"]
    assert show(daemon, "two")["run"]["code_hash"] == show(daemon, "late")["run"]["code_hash"]
    assert daemon.ask("analysis", bot="two")["explanation"] == "new"


def test_what_update_says_of_a_repaired_strategy_is_checked_against_the_repaired_one(stable: Make) -> None:
    daemon = made(stable, bot_text("one"), mine=HOLD).start()
    add = ("add", "own", "market=EURUSD", "strategy=mine:Mine", "params.weight=20")
    assert "weight must be a whole number from 1 to 9" in stablehand(daemon.config, *add).line(2)
    module(daemon, "mine").write_text(HOLD.replace("le=9", "le=99"), "utf-8")
    assert stablehand(daemon.config, *add).code == 0
    assert daemon.wait_state("own", "running")["strategy"] == "mine:Mine"


# --- reload -------------------------------------------------------------------------------------------------


def test_reload_shows_the_difference_applies_it_and_starts_or_stops_no_known_bot(stable: Make) -> None:
    def text(*bots: str, supervisor: str = "") -> str:
        return config_text(account=FAST, bots="".join(bots), supervisor=supervisor)

    calm, changing, going = bot_text("calm"), bot_text("changing", "GBPUSD"), bot_text("going", "USDJPY")
    halted, held = bot_text("halted", "XAUUSD"), bot_text("held", "BTCUSD", extra="priority = 4")
    daemon = stable(text(calm, changing, going, halted, held)).start()
    before = {row["name"]: row["pid"] for row in daemon.wait_all("running")}
    assert stablehand(daemon.config, "stop", "halted", "--wait", "15").code == 0
    assert stablehand(daemon.config, "update", "held", "priority=8").code == 0
    assert daemon.bot("held")["pid"] == before["held"]  # only the supervisor reads a priority
    assert "agree" in stablehand(daemon.config, "reload", "--yes").out

    daemon.config.write_text(
        text(
            calm.replace("[[bots]]", "# a comment\n[[bots]]") + 'wanted = "stopped"\n',
            changing + "params = { fast = 7, slow = 30 }\n",
            halted + "risk_percent = 0.5\n",
            held.replace("priority = 4", "priority = 6"),
            bot_text("new", "US500"),
            supervisor="journal_days = 5\n",
        ),
        "utf-8",
    )
    expected = {
        "added": ["new"],
        "removed": ["going"],
        "changed": {
            "changing": {"params.fast": [None, 7], "params.slow": [None, 30]},
            "halted": {"risk_percent": [1.0, 0.5]},
            "held": {"priority": [4, 6]},
        },
        "overrides": {"held": {"priority": 8}},
        "supervisor": {"journal_days": [30.0, 5.0]},
        "defaults": {},
        "groups": {},
    }
    shown = stablehand(daemon.config, "reload", "--json").json()
    assert shown == {**expected, "applied": False}
    dry = stablehand(daemon.config, "reload", "--dry-run")
    assert dry.code == 0 and all(
        word in dry.out for word in ("+ new", "- going", "~ changing", "held at 8", "journal_days")
    )
    assert {row["name"]: row["pid"] for row in daemon.status()} == before | {"halted": None}
    assert show(daemon, "going")["source"] == "file"

    assert stablehand(daemon.config, "reload", "--yes", "--json").json() == {**expected, "applied": True}
    daemon.wait_state("new", "running")
    eventually(lambda: daemon.bot("changing")["pid"] not in (None, before["changing"]), 15)
    daemon.wait_state("changing", "running")

    def settled() -> None:
        rows = {row["name"]: row for row in daemon.status()}
        assert {name: row["state"] for name, row in rows.items()} == {
            "calm": "running", "changing": "running", "going": "running", "halted": "stopped", "held": "running",
            "new": "running",
        }  # fmt: skip
        assert rows["calm"]["wanted"] == "running" and rows["held"]["priority"] == 8
        assert show(daemon, "held")["declared"]["priority"] == 6
        assert show(daemon, "changing")["config"]["params"] == {"fast": 7, "slow": 30}
        assert show(daemon, "going")["source"] == "added" and show(daemon, "new")["source"] == "file"

    settled()
    assert {name: daemon.bot(name)["pid"] for name in ("calm", "going", "held")} == {
        name: before[name] for name in ("calm", "going", "held")
    }
    assert "agree" in stablehand(daemon.config, "reload", "--yes").out
    assert daemon.down() == 0
    daemon.start()
    for name in ("calm", "changing", "going", "held", "new"):
        daemon.wait_state(name, "running")
    settled()
    assert stablehand(daemon.config, "remove", "going", "--positions", "close", "--yes").code == 0


def test_reload_takes_defaults_and_groups_though_no_bot_changes_and_no_file_that_the_next_start_refuses(
    stable: Make,
) -> None:
    bots = bot_text("one", extra="risk_percent = 2.0")
    daemon = stable(config_text(account=FAST, bots='[groups.g]\nstrategy = "one_for_one"\n' + bots)).start()
    pid = daemon.wait_state("one", "running")["pid"]
    fields: dict[str, str] = {"account": FAST, "defaults": "risk_percent = 0.25"}
    bots = '[groups.g]\nstrategy = "one_for_all"\n' + bots
    daemon.config.write_text(config_text(**fields, bots=bots), "utf-8")
    answer = stablehand(daemon.config, "reload", "--yes")
    assert answer.code == 0 and "agree" not in answer.out
    assert all(word in answer.out for word in ("[bot_defaults]", "risk_percent", "0.25", "[groups]", "one_for_all"))
    assert "agree" in stablehand(daemon.config, "reload", "--yes").out
    daemon.ask("add", bots=[{"name": "late", "market": "GBPUSD", "strategy": "MA_CROSSOVER"}])
    assert show(daemon, "late")["config"]["risk_percent"] == 0.25
    text = config_text(**fields, bots=bots + 'calendar = "holidys.csv"')
    daemon.config.write_text(text, "utf-8")
    line = stablehand(daemon.config, "reload", "--yes").line(2)
    assert f":{len(text.splitlines())}: calendar 'holidys.csv': No such file" in line
    assert daemon.bot("one")["pid"] == pid and show(daemon, "one")["config"]["calendar"] == ""


def test_changed_accounts_are_refused_at_reload_with_a_word_on_what_to_do(stable: Make) -> None:
    daemon = stable(config_text(account=FAST, bots=bot_text("one"))).start()
    pid = daemon.wait_state("one", "running")["pid"]
    daemon.config.write_text(config_text(account=FAST + "\nleverage = 30", bots=bot_text("one")), "utf-8")
    assert "stablehand down" in stablehand(daemon.config, "reload", "--yes").line(1)
    assert daemon.bot("one")["pid"] == pid


# --- what is kept -------------------------------------------------------------------------------------------


def test_what_was_added_updated_and_wanted_holds_over_kill_9_and_down(stable: Make) -> None:
    daemon = stable(config_text(account=FAST, bots=bot_text("one") + bot_text("two", "GBPUSD"))).start()
    daemon.wait_all("running")
    config = daemon.config
    assert stablehand(config, "add", "own", "market=XAUUSD", "strategy=MA_CROSSOVER", "params.fast=5").code == 0
    assert stablehand(config, "update", "own", "strategy=RSI_CROSSOVER").code == 0
    assert stablehand(config, "update", "two", "params.fast=9", "priority=2").code == 0
    assert stablehand(config, "stop", "one", "--wait", "15").code == 0
    assert stablehand(config, "add", "asleep", "market=EURUSD", "strategy=MA_CROSSOVER", "wanted=stopped").code == 0

    def check() -> None:
        daemon.wait_state("own", "running")
        daemon.wait_state("two", "running")
        rows = {row["name"]: row for row in daemon.status()}
        assert (rows["one"]["state"], rows["one"]["wanted"], rows["asleep"]["state"]) == ("stopped",) * 3
        assert (rows["own"]["strategy"], show(daemon, "own")["config"]["params"]) == ("RSI_CROSSOVER", {})
        assert rows["two"]["priority"] == 2 and show(daemon, "two")["override"] == {
            "params": {"fast": 9},
            "priority": 2,
        }

    check()
    daemon.kill()
    daemon.start()
    check()
    assert daemon.down() == 0
    daemon.start()
    check()


def test_a_file_that_no_longer_fits_what_is_kept_is_one_line_and_changes_nothing(stable: Make) -> None:
    net = '[accounts.net]\nmargin_mode = "netting"'
    one = bot_text("one", extra='account = "main"')
    daemon = stable(config_text(account=f"{FAST}\n{net}", bots=one)).start()
    daemon.wait_state("one", "running")
    assert stablehand(daemon.config, "add", "own", "market=EURUSD", "strategy=MA_CROSSOVER", "account=net").code == 0
    assert stablehand(daemon.config, "down").code == 0
    before = rows_of_store(daemon)
    for text, words in (
        (config_text(account=FAST, bots=one), ("'own'", "unknown account 'net'")),
        (config_text(account=f"{FAST}\n{net}", bots=one + bot_text("second", extra='account = "net"')),
         ("'second'", "'own'", "netting")),
    ):  # fmt: skip
        daemon.config.write_text(text, "utf-8")
        said = stablehand(daemon.config, "up").line(2)
        assert all(word in said for word in words), said
        assert rows_of_store(daemon) == before
        assert daemon.processes() == []
