"""The restart policy at its edges, with real processes: the moment of stability, and a launcher without means."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from protocol.client import ControlClient
from tests.acceptance.test_programs import program
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]


def ends(daemon: Daemon, name: str) -> list[str]:
    """The reasons of the runs that ended, oldest first."""
    rows = [one for one in daemon.ask("events", bot=name, limit=500)["events"] if one["type"] == "state"]
    return [one["text"] for one in rows if one["text"].startswith("crashed")]


@pytest.mark.parametrize(("lives", "stable_after", "grows"), [(0.1, 1.0, True), (1.2, 0.3, False)])
def test_the_wait_grows_below_stable_after_and_begins_anew_above_it(
    stable: Make, lives: float, stable_after: float, grows: bool
) -> None:
    extra = f"stable_after_seconds = {stable_after}\nintensity = 50\nbackoff_max_seconds = 1.6"
    text = program("edge", f"import os, time; time.sleep({lives}); os._exit(1)").replace(
        "backoff_max_seconds = 0.2\n", ""
    )
    daemon = stable(config_text(bots=f"{text}{extra}\n")).start()
    found = eventually(lambda: told if len(told := ends(daemon, "edge")) >= 5 else None, 30)
    assert "restarting at once (1 of 50)" in found[0]
    waits = [float(text.rpartition("restarting in ")[2].partition(" s")[0]) for text in found[1:5]]
    if grows:  # 0.05, 0.1, 0.2, 0.4, each up to a fifth shorter or longer, shown with one decimal
        assert waits[3] >= 0.3 > waits[0]
    else:
        assert max(waits) <= 0.1
    assert "(5 of 50)" in found[4]  # a failure counts in the window however long the run was


def launcher_of(daemon: Daemon, name: str) -> int:
    return psutil.Process(daemon.bot(name)["pid"]).ppid()


@pytest.mark.parametrize(("limit", "words"), [(resource.RLIMIT_NOFILE, "EMFILE"), (resource.RLIMIT_NPROC, "EAGAIN")])
def test_a_launcher_without_means_is_tried_again_and_no_budget_is_burned(stable: Make, limit: int, words: str) -> None:
    if limit == resource.RLIMIT_NPROC and os.geteuid() == 0:
        pytest.skip("root has no limit of processes")
    extra = "intensity = 1\nbackoff_initial_seconds = 0.05\nbackoff_max_seconds = 0.2\n"
    daemon = stable(config_text(bots=bot_text("one", extra=extra) + bot_text("two"))).start()
    row = daemon.wait_state("one", "running")
    other = daemon.wait_state("two", "running")
    launcher = launcher_of(daemon, "one")
    before = resource.prlimit(launcher, limit)
    resource.prlimit(launcher, limit, (3, before[1]))
    os.kill(row["pid"], signal.SIGKILL)
    held = eventually(lambda: now if "times in a row" in (now := daemon.bot("one"))["reason"] else None, 20)
    assert "launch failed" in held["reason"] and words in held["reason"]
    resource.prlimit(launcher, limit, before)
    daemon.wait_state("one", "running")
    counts = daemon.ask("show", bot="one")["counts"]
    assert counts["crash"] == 1 and counts["launch"] > 1
    assert daemon.bot("two")["pid"] == other["pid"]


#: Preloaded by the launcher. Told so, it maps more than the machine has, in parts that the kernel joins into one: each
#: part is granted, and a copy of the whole is refused, so that fork fails as on a machine without memory.
HOARDER = """
import ctypes, os, signal
from botproc.strategies.ma_crossover import MaCrossover

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
held = []

def take(*_):
    kib = {line.split(":")[0]: int(line.split()[1]) for line in open("/proc/meminfo")}
    part = (kib["MemTotal"] + kib["SwapTotal"]) * 1024 * 2 // 3 // 4096 * 4096
    where = libc.mmap(None, part, 3, 0x22, -1, 0)  # private, anonymous, never touched
    where = libc.mremap(where, part, 2 * part, 1)
    held[:] = where, 2 * part

def give(*_):
    libc.munmap(*held)

signal.signal(signal.SIGUSR1, take)
signal.signal(signal.SIGUSR2, give)

class Hoarder(MaCrossover):
    \"\"\"Trades as its parent does.\"\"\"
"""


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "0", reason="this kernel grants or refuses all memory"
)
def test_a_launcher_without_memory_is_tried_again_until_there_is_some(stable: Make) -> None:
    # A program: where a bot crashes, a spare may stand in without a fork.
    bots = program("dash", "import time; time.sleep(600)", extra="intensity = 1")
    bots += bot_text("one", strategy="hoarder:Hoarder")
    daemon = stable(config_text(supervisor='strategy_path = ["own"]\n', bots=bots))
    (daemon.folder / "own").mkdir()
    (daemon.folder / "own" / "hoarder.py").write_text(HOARDER)
    daemon.start()
    row, other = daemon.wait_state("dash", "running"), daemon.wait_state("one", "running")
    launcher = launcher_of(daemon, "one")
    before = psutil.Process(launcher).memory_info().vms
    os.kill(launcher, signal.SIGUSR1)
    eventually(lambda: psutil.Process(launcher).memory_info().vms > before + psutil.virtual_memory().total)
    os.kill(row["pid"], signal.SIGKILL)
    held = eventually(lambda: now if "times in a row" in (now := daemon.bot("dash"))["reason"] else None, 20)
    assert "launch failed: ENOMEM: Cannot allocate memory" in held["reason"] and "retrying in" in held["reason"]
    counts = daemon.ask("show", bot="dash")["counts"]
    assert counts["crash"] == 1 and counts["launch"] > 1  # more than `intensity`, and not given up
    assert daemon.bot("one")["pid"] == other["pid"]
    os.kill(launcher, signal.SIGUSR2)
    daemon.wait_state("dash", "running")
    assert daemon.ask("show", bot="dash")["counts"]["crash"] == 1
    assert (daemon.bot("one")["pid"], launcher_of(daemon, "dash")) == (other["pid"], launcher)


def test_two_supervisors_started_together_are_one(stable: Make) -> None:
    first = stable(config_text(bots=bot_text("one") + program("dash", "import time; time.sleep(600)")))
    second = Daemon(first.folder, first.config.read_text())
    first.start(ready=False)
    second.start(ready=False)
    both = [one.process for one in (first, second) if one.process is not None]
    try:
        eventually(lambda: sum(one.poll() is not None for one in both) == 1, 30, what="one of them leaves")
        loser, winner = sorted(both, key=lambda one: one.poll() is None)
        assert loser.stderr is not None and str(winner.pid) in loser.stderr.read() and loser.returncode != 0
        first.process = winner
        eventually(lambda: (first.data_dir / "endpoints.json").exists(), 20)
        first.wait_all("running")
        assert len({row["pid"] for row in first.status()}) == 2
    finally:
        for one in both:
            if one is not first.process:
                one.communicate(timeout=10)


def test_concurrent_commands_leave_one_process_and_the_last_word(stable: Make) -> None:
    daemon = stable(config_text(bots=program("dash", "import time; time.sleep(600)"))).start()
    daemon.wait_state("dash", "running")
    start = threading.Barrier(6)

    def command(number: int) -> None:
        with ControlClient(daemon.data_dir) as client:
            start.wait(10)
            for verb in (*("restart", "stop", "start")[number % 3 :], "start"):
                client.request(verb, {"bots": ["dash"]}, timeout=20)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(command, number) for number in range(6)]:
            done.result(60)
    row = eventually(lambda: one if (one := daemon.bot("dash"))["state"] == "running" else None, 30)
    assert row["wanted"] == "running" and row["restarts"] == 0

    def minders() -> list[int]:
        launcher = psutil.Process(row["pid"]).parent()
        assert launcher is not None
        return [one.pid for one in launcher.children() if any("sleep(600)" in part for part in below(one))]

    eventually(lambda: minders() == [row["pid"]])


def below(process: psutil.Process) -> list[str]:
    """Command lines of its children."""
    return [" ".join(one.cmdline()) for one in process.children() if one.status() != psutil.STATUS_ZOMBIE]
