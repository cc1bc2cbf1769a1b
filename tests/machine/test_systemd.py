"""The service that `stablehand service install` writes, under a real systemd, until a reboot and after it.

Only on a machine that may be thrown away, as root: STABLEHAND_DISPOSABLE=1. `tests/machine/boot` makes such a machine.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from protocol.client import ControlClient
from protocol.errors import StablehandError
from tests.console import stablehand
from tests.support import eventually

SERVICE = "stablehand-proof"
FOLDER = Path("/srv/stablehand-proof")
CONFIG = FOLDER / "supervisor.toml"
USER = "trader"
LEFT = FOLDER / "before-the-reboot.json"
SLOW = 600.0  # a machine in a machine, whose processors are emulated
#: In place of a minute, three, and one and a half.
DROP_IN = "[Service]\nWatchdogSec=30\nTimeoutStartSec=900\nTimeoutStopSec=900\n"
PATIENT = "heartbeat_timeout_seconds = 60\nadopt_timeout_seconds = 300\nmax_suspension_seconds = 900"

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        os.environ.get("STABLEHAND_DISPOSABLE") != "1", reason="only on a machine that may be thrown away"
    ),
    pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd does not run this machine"),
]
after_reboot = pytest.mark.skipif(not LEFT.exists(), reason="this machine has not been left for a reboot")
before_reboot = pytest.mark.skipif(LEFT.exists(), reason="this machine has been rebooted")

STRATEGIES = """
from botproc.strategy import Signal, Strategy, StrategyParams

kept = []

class Hungry(Strategy):
    Params = StrategyParams
    @property
    def lookback(self):
        return 3
    def analyze(self, bars):
        for _ in range(40):
            kept.append(b"x" * 10_000_000)
        return Signal("HOLD", float(bars["close"].iloc[-1]), "eats")
"""
BURN = 'command = ["/bin/sh", "-c", "while :; do :; done"]'


def config_text(bots: int) -> str:
    """So many bots that are wanted, and a few of whom the kernel shall hold to their bounds, stopped."""
    lines = [
        f'[supervisor]\ndata_dir = "var"\nstrategy_path = ["strategies"]\n{PATIENT}',
        '[accounts.main]\nkind = "paper"\nfeed = "synthetic"\nbars_per_second = 0.02',
        "[bot_defaults]\nstart_timeout_seconds = 600\nstop_timeout_seconds = 120\ncycle_timeout_seconds = 300",
    ]
    lines += [
        f'[[bots]]\nname = "bot-{number}"\nmarket = "EURUSD"\nstrategy = "MA_CROSSOVER"' for number in range(bots)
    ]
    lines.append(
        '[[bots]]\nname = "hungry"\nmarket = "EURUSD"\nstrategy = "hungry:Hungry"\nwanted = "stopped"\n'
        "memory_limit_mb = 60\nmemory_limit_seconds = 60"
    )
    lines += [
        f'[[programs]]\nname = "burn-{priority}"\n{BURN}\npriority = {priority}\nwanted = "stopped"'
        for priority in (0, 9)
    ]
    return "\n\n".join(lines) + "\n"


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr, journal())
    return done.stdout


def journal(lines: int = 30) -> str:
    """The service's last lines."""
    return subprocess.run(
        ["journalctl", "-u", SERVICE, "-n", str(lines), "--no-pager"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout


def shown(key: str) -> str:
    return systemctl("show", SERVICE, "--property", key, "--value").strip()


def main_pid() -> int:
    return int(shown("MainPID"))


def ask(command: str, **args: Any) -> Any:
    with ControlClient(FOLDER / "var", timeout=SLOW) as client:
        return client.request(command, args)


def status() -> dict[str, dict[str, Any]]:
    """Row by name; empty while nobody answers."""
    try:
        return {row["name"]: row for row in ask("status")}
    except StablehandError:
        return {}


def lives(prefix: str = "bot-") -> dict[str, tuple[int, int]]:
    """(pid, epoch) of the bots that run."""
    return {
        name: (row["pid"], row["epoch"])
        for name, row in status().items()
        if name.startswith(prefix) and row["state"] == "running"
    }


def wait_lives(count: int) -> dict[str, tuple[int, int]]:
    return eventually(lambda: found if len(found := lives()) == count else None, SLOW, every=0.2, what=journal())


@pytest.fixture(scope="module")
def service() -> Iterator[None]:
    """The installed service of an ordinary user, with three bots. It stays, for a reboot."""
    if not LEFT.exists():
        subprocess.run(["useradd", "--system", "--create-home", USER], check=False, timeout=SLOW)
        (FOLDER / "strategies").mkdir(parents=True, exist_ok=True)
        (FOLDER / "strategies" / "hungry.py").write_text(STRATEGIES, "utf-8")
        CONFIG.write_text(config_text(3), "utf-8")
        for path in (FOLDER, *FOLDER.rglob("*")):
            shutil.chown(path, USER)
        answer = stablehand(CONFIG, "service", "install", "--system", "--run-as", USER, "--name", SERVICE, timeout=SLOW)
        assert answer.code == 0, answer
        drop_in = Path(f"/etc/systemd/system/{SERVICE}.service.d/quick.conf")
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(DROP_IN, "utf-8")
        systemctl("daemon-reload")
        subprocess.run(["systemd-analyze", "verify", f"{SERVICE}.service"], check=True, timeout=SLOW)
        systemctl("start", SERVICE)
    yield
    if not LEFT.exists():
        systemctl("stop", SERVICE)


@pytest.mark.usefixtures("service")
@before_reboot
class TestService:
    """In this order."""

    def test_started_means_ready_and_runs_as_the_user(self) -> None:
        assert (shown("ActiveState"), shown("SubState")) == ("active", "running")
        found = wait_lives(3)
        eventually(lambda: "3 running" in shown("StatusText"), SLOW, every=0.5, what=shown("StatusText"))
        uid = pwd.getpwnam(USER).pw_uid
        scores = {}
        for name, pid in {
            "supervisor": main_pid(),
            "bot": found["bot-0"][0],
            "gateway": ask("accounts")[0]["pid"],
        }.items():
            assert psutil.Process(pid).uids().real == uid
            scores[name] = int(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii"))
        assert scores["supervisor"] < scores["gateway"] < scores["bot"], scores
        said = stablehand(CONFIG, "service", "status", "--system", "--name", SERVICE, timeout=SLOW)
        assert said.code == 0 and "running" in said.out

    def test_a_killed_supervisor_is_started_again_and_adopts(self) -> None:
        before, old = wait_lives(3), main_pid()
        os.kill(old, signal.SIGKILL)
        eventually(lambda: main_pid() not in (0, old) and shown("SubState") == "running", SLOW, every=0.2)
        assert wait_lives(3) == before
        assert all(psutil.pid_exists(pid) for pid, _ in before.values())

    def test_reload_brings_a_new_bot(self) -> None:
        before = wait_lives(3)
        CONFIG.write_text(config_text(4), "utf-8")
        systemctl("reload", SERVICE)
        assert before.items() < wait_lives(4).items()

    def test_handover_keeps_the_main_process(self) -> None:
        before, pid, boot = wait_lives(4), main_pid(), ask("ping")["boot"]
        answer = stablehand(CONFIG, "handover", timeout=SLOW)
        assert answer.code == 0, answer
        eventually(lambda: status() and ask("ping")["boot"] != boot, SLOW, every=0.2)
        eventually(lambda: shown("SubState") == "running", SLOW, every=0.2)
        assert main_pid() == pid and wait_lives(4) == before

    def test_it_writes_to_its_data_and_to_tmp_and_nowhere_else(self) -> None:
        assert stablehand(CONFIG, "backup", "/tmp/stablehand-proof", timeout=SLOW).code == 0
        answer = stablehand(CONFIG, "backup", "/srv/elsewhere", timeout=SLOW)
        assert answer.code != 0 and "cannot be written: Read-only file system" in answer.err, answer
        assert not Path("/srv/elsewhere").exists()

    def test_a_supervisor_that_stands_is_ended_by_the_watchdog_and_adopts(self) -> None:
        before, old, restarts = wait_lives(4), main_pid(), int(shown("NRestarts"))
        ended = "Failed with result 'watchdog'"
        assert ended not in journal(10_000)
        os.kill(old, signal.SIGSTOP)
        eventually(lambda: main_pid() not in (0, old), SLOW, every=0.5)
        eventually(lambda: shown("SubState") == "running", SLOW, every=0.2)
        assert int(shown("NRestarts")) == restarts + 1
        assert ended in journal(10_000), journal()
        assert wait_lives(4) == before

    def test_each_run_is_in_a_control_group_of_its_own(self) -> None:
        groups = ask("host")["cgroups"]
        assert groups["why_not"] is None and set(groups["controllers"]) == {"cpu", "memory"}, groups
        for name, (pid, epoch) in wait_lives(4).items():
            path = Path(f"/proc/{pid}/cgroup").read_text("ascii").strip()
            assert path.rsplit("/", 1)[1].startswith(f"{name}-") and path.endswith(f".{epoch}")
        assert Path(f"/proc/{main_pid()}/cgroup").read_text("ascii").strip().endswith("/supervisor")

    def test_weights_share_a_core(self) -> None:
        """Two programs that burn all they get, on one core: by weight it is 400 to 18."""
        ask("start", bots=["burn-0", "burn-9"], wait=SLOW)
        try:
            used = {}
            for name in ("burn-0", "burn-9"):
                group = Path(
                    "/sys/fs/cgroup" + Path(f"/proc/{status()[name]['pid']}/cgroup").read_text("ascii").strip()[3:]
                )
                for pid in (group / "cgroup.procs").read_text("ascii").split():
                    os.sched_setaffinity(int(pid), {0})
                used[name] = group
            time.sleep(1)
            first = {name: _usage(group) for name, group in used.items()}
            time.sleep(10)
            low, high = (_usage(used[name]) - first[name] for name in ("burn-0", "burn-9"))
            print(f"\n10 s of one core: priority 0 had {low / 1e6:.2f} s, priority 9 {high / 1e6:.2f} s")
            assert high > 8 * low > 0
        finally:
            ask("stop", bots=["burn-0", "burn-9"], wait=SLOW)

    def test_the_kernel_ends_who_passes_its_bound(self) -> None:
        ask("start", bots=["hungry"])
        told = eventually(
            lambda: [one for one in ask("events", limit=200)["events"] if "out of memory" in str(one)],
            SLOW, every=0.5,
        )  # fmt: skip
        assert {one["bot"] for one in told} == {"hungry"}
        ask("stop", bots=["hungry"], wait=SLOW)
        assert len(wait_lives(4)) == 4 and shown("SubState") == "running"

    def test_stop_stops_all_and_a_start_brings_back_what_was_wanted(self) -> None:
        before = wait_lives(4)
        ask("stop", bots=["bot-3"], wait=SLOW)
        began = time.monotonic()
        systemctl("stop", SERVICE)
        print(f"\nstopped within {time.monotonic() - began:.1f} s")
        assert (shown("ActiveState"), shown("Result")) == ("inactive", "success"), journal()
        assert not [pid for pid, _ in before.values() if psutil.pid_exists(pid)]
        systemctl("start", SERVICE)
        assert set(wait_lives(3)) == {"bot-0", "bot-1", "bot-2"}

    def test_left_for_a_reboot(self) -> None:
        LEFT.write_text(json.dumps(wait_lives(3)), "utf-8")


def _usage(group: Path) -> int:
    """Microseconds of CPU."""
    return int((group / "cpu.stat").read_text("ascii").split()[1])


@after_reboot
def test_after_a_reboot_what_was_wanted_runs_again() -> None:
    eventually(lambda: shown("SubState") == "running", SLOW, every=0.5)
    before = {name: tuple(life) for name, life in json.loads(LEFT.read_text("utf-8")).items()}
    now = wait_lives(len(before))
    assert now.keys() == before.keys()
    assert all(now[name][1] > epoch for name, (_, epoch) in before.items())
    assert status()["bot-3"]["state"] == "stopped"
