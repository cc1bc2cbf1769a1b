"""The supervisor under a service manager: a real notify socket, signals, a watchdog, and its own renewal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from protocol.errors import StablehandError
from tests.console import stablehand
from tests.daemon import Daemon, bot_text, config_text
from tests.notifysocket import NotifySocket
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
#: Becomes the command with another limit on open files.
_LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, {}); os.execv(sys.argv[1], sys.argv[1:])"
)
TWO = bot_text("one") + bot_text("two", "GBPUSD")


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_life_as_it_is_told_to_systemd(stable: Make, tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@stablehand-test-{os.getpid()}"
    with NotifySocket(address) as manager:
        daemon = stable(config_text(bots=TWO)).start(NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000")
        ready = manager.wait("READY")
        assert "2 " in ready["STATUS"]
        daemon.wait_all("running")
        manager.wait("WATCHDOG", after=len(manager.said))
        assert "2 running" in manager.wait("STATUS", after=len(manager.said))["STATUS"]
        for process in daemon.processes():
            with contextlib.suppress(psutil.Error):
                assert process.pid == daemon.pid or "NOTIFY_SOCKET" not in process.environ()
        before = len(manager.said)
        assert daemon.down() == 0
        stopping = manager.wait("STOPPING", after=before)
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 6e6  # above the bots' stop_timeout_seconds
        assert {pid for pid, _ in manager.said} == {daemon.pid}  # NotifyAccess=main
        assert any("WATCHDOG" in lines for _, lines in manager.said)


def test_the_watchdog_is_fed_while_a_long_start_goes_on(stable: Make, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom botproc.strategy import Signal, Strategy, StrategyParams\ntime.sleep(4)\n"
        "class Slow(Strategy):\n    Params = StrategyParams\n    lookback = 3\n"
        "    def analyze(self, bars):\n        return Signal('HOLD', 1.0, 'waits')\n",
        "utf-8",
    )
    text = config_text(supervisor=f'strategy_path = ["{tmp_path}"]\n', bots=bot_text("one", strategy="slow:Slow"))
    with NotifySocket(str(tmp_path / "notify")) as manager:
        began = time.monotonic()
        stable(text).start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="2000000")
        took = time.monotonic() - began
        manager.wait("READY")
        before = next(number for number, (_, lines) in enumerate(manager.said) if "READY" in lines)
        fed = [lines for _, lines in manager.said[:before] if "WATCHDOG" in lines]
        assert took > 4.0 and len(fed) >= 4, (took, fed)  # four times within each two seconds, by a loop in time


def test_sighup_reloads_a_daemon_and_a_wrong_file_changes_nothing(stable: Make, tmp_path: Path) -> None:
    with NotifySocket(str(tmp_path / "notify")) as manager:
        daemon = stable(config_text(bots=TWO)).start(NOTIFY_SOCKET=manager.address)
        pids = {row["pid"] for row in daemon.wait_all("running")}
        before = len(manager.listen())
        daemon.config.write_text(config_text(bots=TWO + bot_text("three", "XAUUSD")), "utf-8")
        at = time.monotonic_ns() // 1000
        os.kill(daemon.pid, signal.SIGHUP)
        said = manager.wait("RELOADING", after=before)
        assert at <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        manager.wait("READY", after=before)
        daemon.wait_state("three", "running")
        before = len(manager.listen())
        daemon.config.write_text(config_text(bots=TWO + "colour = 3\n"), "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        manager.wait("READY", after=before)

        def told() -> bool:
            texts = [one["text"] for one in daemon.client.events(limit=20)["events"]]
            return any("reload refused" in text and "colour" in text for text in texts)

        eventually(told)
        assert pids < {row["pid"] for row in daemon.wait_all("running")}


def test_in_a_terminal_a_hang_up_stops_everything(stable: Make, tmp_path: Path) -> None:
    daemon = stable(config_text(bots=TWO))
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "supervisor", "--config", str(daemon.config)]
    # A session whose controlling terminal is ours; a hang-up is not ignored there, as it is where nohup runs the tests.
    opened = (
        "import os,signal,sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.setsid();"
        "os.close(os.open(sys.argv[1], os.O_RDWR)); os.execv(sys.argv[2], sys.argv[2:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", opened, os.ttyname(terminal), *command],
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None and b"ready" in process.stdout.readline()
        daemon.wait_all("running")
        os.close(main)  # the terminal's window is closed
        assert process.wait(30) == 0
        eventually(lambda: not daemon.processes(), 10)
    finally:
        os.close(terminal)
        if process.poll() is None:
            process.kill()
            process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.both_profiles
def test_handover_renews_the_image_and_nobody_slips_in(stable: Make, tmp_path: Path) -> None:
    with NotifySocket(str(tmp_path / "notify")) as manager:
        daemon = stable(config_text(bots=TWO)).start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="60000000")
        before = {row["name"]: (row["pid"], row["epoch"]) for row in daemon.wait_all("running")}
        for _ in range(2):  # an image that was renewed can be renewed
            boot, said = daemon.ask("ping")["boot"], len(manager.listen())
            lock = (daemon.data_dir / "supervisor.lock").stat().st_ino
            answer = stablehand(daemon.config, "handover", "--json").json()
            assert answer["renewed"] and answer["pid"] == daemon.pid and answer["left_running"] == 3
            manager.wait("RELOADING", after=said)
            manager.wait("READY", after=said)
            daemon.forget_client()
            assert daemon.ask("ping")["boot"] != boot
            assert (daemon.data_dir / "supervisor.lock").stat().st_ino == lock
            second = Daemon(daemon.folder, daemon.config.read_text()).start(ready=False)
            assert second.process is not None and second.process.wait(30) == 2
            assert second.process.stderr is not None
            assert f"in use by supervisor process {daemon.pid}" in second.process.stderr.read()
            for stream in (second.process.stdout, second.process.stderr):
                assert stream is not None
                stream.close()
            after = {row["name"]: (row["pid"], row["epoch"]) for row in daemon.wait_all("running")}
            assert after == before
        # Its children are its own still: a launcher that ends is reaped, an exit is seen with its status.
        os.kill(before["one"][0], signal.SIGKILL)
        eventually(lambda: daemon.bot("one")["pid"] not in (None, before["one"][0]), 15)
        assert daemon.ask("show", bot="one")["runs"][1]["status"] == signal.SIGKILL
        assert daemon.down() == 0
        eventually(lambda: daemon.processes() == [], 10)  # the images before left launchers, which tidy up
        assert {pid for pid, _ in manager.listen()} == {daemon.pid}


def test_a_successor_that_would_not_start_is_refused(stable: Make) -> None:
    daemon = stable(config_text(bots=TWO)).start()
    daemon.wait_all("running")
    boot = daemon.ask("ping")["boot"]
    daemon.config.write_text(config_text(bots=TWO) + "\n[nonsense]\n", "utf-8")
    with pytest.raises(StablehandError, match=r"would not start: .*nonsense"):
        daemon.ask("handover", timeout=60)
    assert daemon.ask("ping")["boot"] == boot
    assert daemon.ask("ping")["leaving"] == ""


def test_handover_can_leave(stable: Make) -> None:
    daemon = stable(config_text(bots=TWO)).start()
    before = {row["pid"] for row in daemon.wait_all("running")}
    answer = stablehand(daemon.config, "handover", "--leave", "--json").json()
    assert answer["gone"] and not answer["renewed"]
    assert daemon.process is not None and daemon.process.wait(10) == 0
    assert all(psutil.pid_exists(pid) for pid in before)
    daemon.forget_client()
    daemon.start()
    assert {row["pid"] for row in daemon.wait_all("running")} == before


def test_a_rolling_restart_goes_on_while_all_come_back(stable: Make) -> None:
    bots = "".join(bot_text(f"b{number}") for number in range(4)) + bot_text("idle", extra='wanted = "stopped"')
    daemon = stable(config_text(bots=bots)).start()
    eventually(lambda: sum(row["state"] == "running" for row in daemon.status()) == 4, 20)
    before = {row["name"]: row["epoch"] for row in daemon.status()}
    answer = stablehand(daemon.config, "restart", "--all", "--rolling", "--batch", "3", "--json").json()
    assert answer["renewed"] == ["b0", "b1", "b2", "b3"] and answer["skipped"] == {"idle": "stopped"}
    after = {row["name"]: row["epoch"] for row in daemon.status()}
    assert all(after[name] == before[name] + 1 for name in answer["renewed"]) and after["idle"] == before["idle"]


def test_a_rolling_restart_ends_at_the_first_that_fails(stable: Make, tmp_path: Path) -> None:
    (tmp_path / "one" / "mine").mkdir(parents=True)
    module = tmp_path / "one" / "mine" / "fragile.py"
    source = "from botproc.strategies.ma_crossover import MaCrossover\nclass Mine(MaCrossover):\n    id = 'MINE'\n"
    module.write_text(source, "utf-8")
    bots = bot_text("a", "XAUUSD") + bot_text("b", strategy="fragile:Mine") + bot_text("c")
    (tmp_path / "one").rename(tmp_path / "kept")
    daemon = stable(config_text(supervisor='strategy_path = ["mine"]\n', bots=bots))
    (tmp_path / "kept" / "mine").rename(daemon.folder / "mine")
    daemon.start()
    before = {row["name"]: row["epoch"] for row in daemon.wait_all("running")}
    (daemon.folder / "mine" / "fragile.py").write_text(source + "    boom = 1 / 0\n", "utf-8")
    done = stablehand(daemon.config, "restart", "--all", "--rolling", "--wait", "20")
    assert done.code == 1 and "renewed: a" in done.out and "not touched: c" in done.err, done
    after = {row["name"]: (row["state"], row["epoch"]) for row in daemon.status()}
    assert after["c"] == ("running", before["c"]) and after["b"][0] == "failed"


def test_too_many_bots_for_the_limits_are_refused_in_one_line(stable: Make) -> None:
    daemon = stable(config_text(bots="".join(bot_text(f"b{number}") for number in range(60))))
    limited = _LIMITED.format("(256, 256)")
    daemon.start(ready=False, before=(sys.executable, "-c", limited))
    assert daemon.process is not None and daemon.process.wait(60) == 2
    assert daemon.process.stderr is not None
    lines = daemon.process.stderr.read().splitlines()
    assert len(lines) == 1 and "61 processes need about 311 open files, and the limit is 256" in lines[0], lines


def test_soft_limits_are_raised_and_memory_is_taken_from_bots_first(stable: Make) -> None:
    daemon = stable(config_text(bots=TWO))
    limited = _LIMITED.format("(200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])")
    daemon.start(before=(sys.executable, "-c", limited))
    bots = [row["pid"] for row in daemon.wait_all("running")]
    limits = Path(f"/proc/{daemon.pid}/limits").read_text()
    (files,) = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(files[3]) > 200
    gateway = daemon.ask("accounts")[0]["pid"]

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert min(score(pid) for pid in bots) > score(gateway) > score(daemon.pid)


def test_no_handover_to_a_file_that_does_not_fit_what_is_known_here(stable: Make) -> None:
    """A bot that was added at run time is in no file: the successor would refuse to start for it."""
    second = '[accounts.second]\nkind = "paper"\nfeed = "synthetic"\nbars_per_second = 5\n'
    one = bot_text("one", extra='account = "main"')
    daemon = stable(config_text(bots=one + second)).start()
    daemon.ask("add", bots=[{"name": "own", "market": "EURUSD", "strategy": "MA_CROSSOVER", "account": "second"}])
    before = {row["name"]: row["pid"] for row in daemon.wait_all("running")}
    daemon.config.write_text(config_text(bots=one), "utf-8")
    line = stablehand(daemon.config, "handover").line(2)
    assert "'second'" in line, line
    assert {row["name"]: row["pid"] for row in daemon.status()} == before and daemon.ask("ping")["pid"] == daemon.pid
