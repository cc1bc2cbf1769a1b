"""Real supervisor, real bots, real signals: what must hold when processes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import psutil
import pytest

from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance

THREE = bot_text("one") + bot_text("two", "GBPUSD") + bot_text("three", "XAUUSD", "RSI_CROSSOVER")
Make = Callable[..., Daemon]


@pytest.mark.both_profiles
def test_bots_run_as_processes_of_their_own_and_leave_nothing_behind(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    rows = daemon.wait_all("running")
    pids = {row["pid"] for row in rows}
    assert len(pids) == 3 and all(psutil.pid_exists(pid) for pid in pids)
    sessions = {os.getsid(pid) for pid in pids}
    assert sessions == pids  # each leads a session of its own
    assert daemon.down() == 0
    assert daemon.processes() == []


@pytest.mark.both_profiles
def test_kill_9_of_a_bot_gives_one_successor_with_a_new_epoch(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    before = {row["name"]: row for row in daemon.wait_all("running")}
    os.kill(before["one"]["pid"], signal.SIGKILL)
    after = eventually(
        lambda: (
            row if (row := daemon.bot("one"))["epoch"] > before["one"]["epoch"] and row["state"] == "running" else None
        ),
        10,
    )
    assert after["pid"] != before["one"]["pid"]
    assert after["restarts"] == 1
    assert {row["name"]: row["pid"] for row in daemon.status("two", "three")} == {
        name: before[name]["pid"] for name in ("two", "three")
    }
    shown = daemon.ask("show", bot="one")
    assert shown["counts"]["crash"] == 1
    assert shown["runs"][1]["status"] == signal.SIGKILL


def has_another_process(daemon: Daemon, pid: int) -> bool:
    return bool(daemon.bot("one")["pid"] != pid)


def test_a_crash_loop_is_quarantined_and_start_gives_a_clean_slate(stable: Make) -> None:
    extra = "intensity = 2\nbackoff_initial_seconds = 0.05\nbackoff_max_seconds = 0.1"
    daemon = stable(config_text(bots=bot_text("one", extra=extra))).start()
    for _ in range(3):
        row = daemon.wait_state("one", "running")
        os.kill(row["pid"], signal.SIGKILL)
        eventually(partial(has_another_process, daemon, row["pid"]))
    row = daemon.wait_state("one", "failed")
    assert row["pid"] is None and row["wanted"] == "running" and "2 allowed" in row["reason"]
    assert daemon.ask("start", bots=["one"], wait=10)["reached"] == ["one"]


@pytest.mark.both_profiles
def test_kill_9_of_the_supervisor_leaves_the_bots_and_the_next_adopts_them(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    before = {row["name"]: (row["pid"], row["epoch"]) for row in daemon.wait_all("running")}
    daemon.kill()
    assert all(psutil.pid_exists(pid) for pid, _ in before.values())
    daemon.start()
    after = {row["name"]: (row["pid"], row["epoch"]) for row in daemon.wait_all("running", 10)}
    assert after == before
    daemon.ask("stop", bots=["one"], wait=10)
    assert daemon.bot("one")["state"] == "stopped"
    assert daemon.down() == 0
    assert daemon.processes() == []


def test_a_stopped_process_is_a_hang_and_is_replaced(stable: Make) -> None:
    # A busy machine suspends verdicts on hangs: that is not what this test is about.
    settings = "heartbeat_timeout_seconds = 1.0\nmax_suspension_seconds = 0\n"
    daemon = stable(config_text(supervisor=settings, bots=THREE)).start()
    before = {row["name"]: row for row in daemon.wait_all("running")}
    os.kill(before["two"]["pid"], signal.SIGSTOP)
    eventually(lambda: daemon.bot("two")["epoch"] > before["two"]["epoch"], 10)
    daemon.wait_state("two", "running")
    assert daemon.ask("show", bot="two")["counts"]["hang"] == 1
    assert not psutil.pid_exists(before["two"]["pid"])


def test_what_the_operator_wanted_holds_over_a_restart(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    daemon.wait_all("running")
    assert daemon.ask("stop", bots=["one"], wait=10)["reached"] == ["one"]
    assert daemon.ask("pause", bots=["two"], wait=10)["reached"] == ["two"]
    assert daemon.down() == 0
    daemon.start()
    daemon.wait_state("three", "running")
    daemon.wait_state("two", "paused")
    assert daemon.bot("one")["state"] == "stopped"


@pytest.mark.both_profiles
def test_the_gateway_dies_and_the_bots_wait_and_burn_nothing(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    before = {row["name"]: row["pid"] for row in daemon.wait_all("running")}
    gateway = daemon.ask("accounts")[0]
    os.kill(gateway["pid"], signal.SIGKILL)
    eventually(
        lambda: (now := daemon.ask("accounts")[0])["pid"] not in (None, gateway["pid"]) and now["state"] == "running",
        20,
    )
    cycles = {row["name"]: row["cycles"] for row in daemon.status()}
    eventually(lambda: all(row["cycles"] > cycles[row["name"]] + 5 for row in daemon.status()), 20)
    rows = daemon.wait_all("running")
    assert {row["name"]: row["pid"] for row in rows} == before
    assert all(row["restarts"] == 0 for row in rows)


@pytest.mark.both_profiles
def test_the_launcher_dies_and_no_exit_goes_unnoticed(stable: Make) -> None:
    daemon = stable(config_text(bots=THREE)).start()
    before = {row["name"]: row for row in daemon.wait_all("running")}
    launcher = psutil.Process(before["one"]["pid"]).ppid()
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(launcher) or psutil.Process(launcher).status() == psutil.STATUS_ZOMBIE)
    os.kill(before["one"]["pid"], signal.SIGKILL)
    eventually(lambda: daemon.bot("one")["epoch"] > before["one"]["epoch"], 20)
    daemon.wait_state("one", "running")
    assert daemon.bot("two")["pid"] == before["two"]["pid"]
    assert daemon.down() == 0
    assert daemon.processes() == []
