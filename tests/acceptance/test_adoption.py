"""The fault matrix of adoption: what dies, at which moment, with how many bots. The next supervisor takes over.

Every cell ends with the same audit (tests/stableaudit.py): one process a bot, no orphan, no gap in what is
remembered. Sizes stand in tests/scale.py: small in the suite, a hundred bots in `make soak`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from protocol.locks import holder_of
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text, shared_installation
from tests.scale import ADOPTED, ADOPTED_WITHIN, MIDDLES, SOAK
from tests.stableaudit import audit, ended, ids, runs, seconds_to_adopt
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

#: What dies with the supervisor.
FAULTS = {
    "supervisor": (),
    "launcher_too": ("launcher",),
    "gateway_too": ("gateway",),
    "all_three": ("launcher", "gateway"),
}
MOMENTS = ("at_work", "some_bots_die_too", "in_a_launch", "in_a_stop", "in_an_update")
#: In the suite each fault and each moment once; all of them in the soak.
SUITE = {"launcher_too": "some_bots_die_too", "gateway_too": "at_work", "all_three": "some_bots_die_too"}
CELLS = [
    (fault, moment)
    for fault in FAULTS
    for moment in MOMENTS
    if SOAK or SUITE.get(fault, moment) == moment != ("at_work" if fault == "supervisor" else "")
]
DYING = max(2, ADOPTED // 10)  # bots that die, are launched, or are stopped in a cell
MARKETS = ("EURUSD", "GBPUSD", "XAUUSD", "USDJPY", "BTCUSD", "US500")
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    many = "".join(bot_text(f"b{i}", MARKETS[i % 6]) for i in range(ADOPTED))
    idle = "".join(bot_text(f"idle{i}", extra='wanted = "stopped"') for i in range(DYING))
    text = config_text(account='feed = "synthetic"\nbars_per_second = 1', bots=many + idle)
    with shared_installation(tmp_path_factory.mktemp("adoption"), text) as made:
        made.start()
        yield made
        assert made.down() == 0
        ended(made)


@pytest.mark.parametrize(("fault", "moment"), CELLS, ids=["-".join(cell) for cell in CELLS])
def test_the_next_supervisor_takes_over(daemon: Daemon, fault: str, moment: str) -> None:
    for delay in MIDDLES if moment.startswith("in_") else (0.0,):
        before = at_rest(daemon)
        watched = {name for name, row in before.items() if has_launcher(row["pid"])}
        changed = CHANGES[moment](daemon)
        time.sleep(delay)  # the moment itself: nothing is waited for
        kill(daemon, before, fault)
        died = [name for name in before if moment == "some_bots_die_too" and name[1:] in map(str, range(DYING))]
        for name in died:
            os.kill(before[name]["pid"], signal.SIGKILL)
        daemon.start()
        rows = settled(daemon)
        kept = before.keys() - changed - set(died)
        assert {name: (rows[name]["pid"], rows[name]["epoch"]) for name in kept} == {
            name: (before[name]["pid"], before[name]["epoch"]) for name in kept
        }
        for name in died:
            known = "launcher" not in FAULTS[fault] and name in watched
            assert rows[name]["state"] == "running" and rows[name]["epoch"] > before[name]["epoch"]
            (end,) = [row[1:] for row in runs(daemon, name) if row[0] == before[name]["epoch"]]
            assert end == ((signal.SIGKILL, "crash") if known else (-1, "unknown")), end
        took = seconds_to_adopt(daemon, kept)
        print(f"{fault}, {moment}: {len(kept)} adopted, {took:.2f} s from the supervisor's start to the last")
        assert took <= ADOPTED_WITHIN
        AFTERWARDS[moment](daemon, rows)
        audit(daemon)


def has_launcher(pid: int) -> bool:
    """Whether its launcher lives: an earlier cell may have killed that."""
    parent = psutil.Process(pid).parent()
    return parent is not None and "botproc.launcher" in " ".join(parent.cmdline())


def at_rest(daemon: Daemon) -> Rows:
    """All bots as they are meant to be between two cells; the rows of those that run."""
    daemon.ask("stop", bots=[f"idle{i}" for i in range(DYING)], wait=20)
    daemon.ask("start", bots=[f"b{i}" for i in range(ADOPTED)], wait=60)
    return {name: row for name, row in settled(daemon).items() if row["state"] == "running"}


def settled(daemon: Daemon) -> Rows:
    """The rows, once every bot is what is wanted of it, and the gateway is up."""

    def look() -> Rows | None:
        rows = daemon.status()
        done = all(row["state"] == row["wanted"] for row in rows) and daemon.ask("accounts")[0]["state"] == "running"
        return {row["name"]: row for row in rows} if done else None

    return eventually(
        look, 60, every=0.05, what=f"settled: {[r for r in daemon.status() if r['state'] != r['wanted']]}"
    )


def kill(daemon: Daemon, before: Rows, fault: str) -> None:
    """The supervisor first, so that it sees nothing of the other ends; all launchers, where there are several."""
    launchers = set()
    for row in before.values():
        with suppress(psutil.NoSuchProcess):  # it is being stopped; its neighbours name the launcher
            launchers.add(psutil.Process(row["pid"]).ppid())
    gateway = daemon.ask("accounts")[0]["pid"] if "gateway" in FAULTS[fault] else 0
    daemon.kill()
    for launcher in launchers - {1} if "launcher" in FAULTS[fault] else ():
        os.kill(launcher, signal.SIGKILL)
    if gateway:
        os.kill(gateway, signal.SIGKILL)


def nothing(daemon: Daemon) -> set[str]:
    return set()


def a_launch(daemon: Daemon) -> set[str]:
    names = {f"idle{i}" for i in range(DYING)}
    daemon.ask("start", bots=sorted(names))
    return names


def a_stop(daemon: Daemon) -> set[str]:
    names = {f"b{i}" for i in range(DYING)}
    daemon.ask("stop", bots=sorted(names))
    return names


def an_update(daemon: Daemon) -> set[str]:
    now = daemon.ask("show", bot="b0")["config"]["risk_percent"]
    daemon.ask("update", bots=["b0"], set={"risk_percent": 0.5 if now == 1.0 else 1.0})
    UPDATED[0] = 0.5 if now == 1.0 else 1.0
    return {"b0"}


def as_before(daemon: Daemon, rows: Rows) -> None:
    assert all(row["wanted"] == ("running" if name[0] == "b" else "stopped") for name, row in rows.items())


def launched(daemon: Daemon, rows: Rows) -> None:
    assert all(rows[f"idle{i}"]["state"] == "running" for i in range(DYING))


def stopped(daemon: Daemon, rows: Rows) -> None:
    assert all(rows[f"b{i}"]["state"] == "stopped" for i in range(DYING))


def updated(daemon: Daemon, rows: Rows) -> None:
    assert daemon.ask("show", bot="b0")["config"]["risk_percent"] == UPDATED[0]


UPDATED = [1.0]
CHANGES: dict[str, Callable[[Daemon], set[str]]] = {
    "at_work": nothing,
    "some_bots_die_too": nothing,
    "in_a_launch": a_launch,
    "in_a_stop": a_stop,
    "in_an_update": an_update,
}
AFTERWARDS: dict[str, Callable[[Daemon, Rows], None]] = {
    "at_work": as_before,
    "some_bots_die_too": as_before,
    "in_a_launch": launched,
    "in_a_stop": stopped,
    "in_an_update": updated,
}


def test_handover_takes_over_politely(daemon: Daemon) -> None:
    before = at_rest(daemon)
    assert stablehand(daemon.config, "handover", "--json", timeout=60 + 2 * ADOPTED).json()["renewed"]
    daemon.forget_client()
    rows = settled(daemon)
    assert {name: (rows[name]["pid"], rows[name]["epoch"]) for name in before} == {
        name: (row["pid"], row["epoch"]) for name, row in before.items()
    }
    assert seconds_to_adopt(daemon, set(before)) <= ADOPTED_WITHIN
    audit(daemon)


def test_rolling_restart_renews_all_a_few_at_a_time(daemon: Daemon) -> None:
    before = at_rest(daemon)
    answer = stablehand(
        daemon.config, "restart", "--all", "--rolling", "--batch", "5", "--json", timeout=60 + 10 * ADOPTED
    ).json()
    assert set(answer["renewed"]) == set(before)
    assert all(daemon.bot(name)["epoch"] > row["epoch"] for name, row in before.items())
    audit(daemon)


def test_a_reused_pid_is_never_signalled(daemon: Daemon) -> None:
    """Another process gets the very pid of a bot that died with supervisor and launcher."""
    before = at_rest(daemon)
    pid = before["b0"]["pid"]
    kill(daemon, before, "launcher_too")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid))
    with Stranger(pid) as process:
        daemon.start()
        rows = settled(daemon)
        assert rows["b0"]["pid"] != pid and rows["b0"]["epoch"] > before["b0"]["epoch"]
        assert process.poll() is None, "the stranger with the bot's old pid was signalled"
        assert [row[1] for row in runs(daemon, "b0") if row[0] == before["b0"]["epoch"]] == [-1]
        daemon.ask("stop", bots=["b0"], mode="kill", wait=20)
        assert process.poll() is None
    audit(daemon)


def test_a_launcher_of_an_earlier_supervisor_leaves_with_its_last_run(daemon: Daemon) -> None:
    """Each supervisor starts its own; the one before could not tell its launcher that it is the last no more."""
    rows = at_rest(daemon)
    for _ in range(2):
        daemon.kill()
        daemon.start()
        settled(daemon)
    old = {psutil.Process(row["pid"]).ppid() for row in rows.values()} - {1}
    assert old
    daemon.ask("restart", bots=list(rows), wait=60)
    os.kill(daemon.ask("accounts")[0]["pid"], signal.SIGKILL)  # its run is one of theirs too
    now = {psutil.Process(row["pid"]).ppid() for row in settled(daemon).values() if row["pid"]}
    assert len(now) == 1 and not now & old

    def left() -> bool:
        parents = {}
        for one in daemon.processes():
            with suppress(psutil.Error):  # it ends just now
                if "botproc.launcher" in " ".join(one.cmdline()):
                    parents[one.pid] = one.ppid()
        return set(parents.values()) - set(parents) == {daemon.pid}

    eventually(left, 20, what="one launcher, the supervisor's")
    assert not old & {one.pid for one in daemon.processes()}


def test_an_old_run_that_holds_the_lock_is_dead_before_its_successor_starts(daemon: Daemon) -> None:
    """Somebody nobody knows of holds a bot's lock: it is killed, nothing is burned, and one process is there."""
    at_rest(daemon)
    daemon.ask("stop", bots=["b0"], wait=20)
    before = daemon.ask("show", bot="b0")["counts"]
    lock = daemon.data_dir / "locks" / f"b0-{ids(daemon)['b0']}"
    code = (
        f"import time; from pathlib import Path; from protocol.locks import FileLock\n"
        f"held = FileLock(Path({str(lock)!r})); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as old:
        try:
            assert old.stdout is not None and old.stdout.readline() == b"held\n"
            daemon.ask("start", bots=["b0"])
            assert old.wait(30) == -signal.SIGKILL
        finally:
            old.kill()
    daemon.wait_state("b0", "running", 30)
    counts = daemon.ask("show", bot="b0")["counts"]
    assert counts.pop("lock") > before.pop("lock", 0)
    assert {**counts, "dependency": 0} == {**before, "dependency": 0}  # its gateway may have kept it waiting
    audit(daemon)


def lives(pid: int) -> bool:
    """Whether a process is more than a zombie, which waits only for its parent to look."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_stop_that_comes_while_it_adopts_stops_everything(daemon: Daemon) -> None:
    before = at_rest(daemon)
    daemon.kill()
    daemon.start(ready=False)
    eventually(lambda: holder_of(daemon.data_dir / "supervisor.lock") == daemon.pid, 30, what="it has the folder")
    assert daemon.down(60) == 0
    ended(daemon)
    assert not any(lives(row["pid"]) for row in before.values())
    daemon.start()
    rows = settled(daemon)
    assert all(rows[name]["state"] == "running" for name in before)  # they are wanted still
    audit(daemon)


class Stranger:
    """A process that has exactly this pid; the test is skipped where the kernel does not let us choose."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> subprocess.Popen[bytes]:
        for _ in range(200):
            try:
                Path("/proc/sys/kernel/ns_last_pid").write_text(str(self._pid - 1))
            except OSError:
                pytest.skip("pids cannot be chosen here")
            self.process = subprocess.Popen(["sleep", "600"])
            if self.process.pid == self._pid:
                return self.process
            self.__exit__()
            if psutil.pid_exists(self._pid):
                pytest.skip("somebody else was given the pid")
        raise AssertionError(f"no process got pid {self._pid}")

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
