"""The fault matrix of false verdicts: the machine, the clock or the supervisor misbehaves, and no healthy bot pays.

Each case begins with bots that are well, and where it costs nothing a program that beats as they do, and ends with the
same processes in the same epochs: none was called hung.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clockstep import WallClock
from tests.daemon import Daemon, bot_text, config_text, shared_installation
from tests.scale import BUSY_BOTS, BUSY_SECONDS, SOAK, STARTING_BOTS, STOPPED_SECONDS
from tests.stableaudit import audit
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

Make = Callable[..., Daemon]
#: Much shorter than the faults last.
IMPATIENT = "heartbeat_timeout_seconds = 1.0\nadopt_timeout_seconds = 1.0\n"
_BEATING = """
import time
from protocol.beat import Beat
with Beat.from_environment() as beat:
    while True: beat.send(); time.sleep(0.05)
"""
#: Judged as the bots are, by heartbeats of its own.
PROGRAM = f"""[[programs]]
name = "beating"
command = [{sys.executable!r}, "-c", '''{_BEATING}''']
heartbeat = "bus"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    text = config_text(supervisor=IMPATIENT, bots=bots(BUSY_BOTS) + PROGRAM)
    with shared_installation(tmp_path_factory.mktemp("verdicts"), text) as made:
        yield made.start()


def well(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Name -> (pid, epoch), once all run."""
    return {row["name"]: (row["pid"], row["epoch"]) for row in daemon.wait_all("running", 60 + STARTING_BOTS)}


def unharmed(daemon: Daemon, before: dict[str, tuple[int, int]]) -> None:
    """All are the same, at work, and nobody was called hung."""
    cycles = {row["name"]: row["cycles"] or 0 for row in daemon.status()}
    eventually(lambda: all((row["cycles"] or 0) > cycles[row["name"]] for row in daemon.status()), 60,
               what="all at work")  # fmt: skip
    assert well(daemon) == before
    told = [one["text"] for one in daemon.ask("events", limit=1000)["events"] if "hung" in one["text"]]
    assert not told, told
    audit(daemon)


def bots(number: int) -> str:
    return "".join(bot_text(f"b{i}") for i in range(number))


@contextmanager
def busy(seconds: float) -> Iterator[None]:
    """Four processes for each processor that compute for so long."""
    code = f"import time\nend = time.monotonic() + {seconds + 30}\nwhile time.monotonic() < end: pass"
    count = 4 * (os.cpu_count() or 1)
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


def test_the_machine_is_saturated_by_other_work(daemon: Daemon) -> None:
    before = well(daemon)
    with busy(BUSY_SECONDS):
        time.sleep(BUSY_SECONDS)  # the fault itself
        assert well(daemon) == before
    unharmed(daemon, before)


def test_the_supervisor_was_stopped(daemon: Daemon) -> None:
    before = well(daemon)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_SECONDS)  # the fault itself
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    unharmed(daemon, before)


def test_the_supervisor_was_stopped_where_no_verdict_waits(stable: Make) -> None:
    """As on a machine that has been starved for longer than verdicts wait: what was not read is still no silence."""
    settings = "heartbeat_timeout_seconds = 5.0\nmax_suspension_seconds = 0\n"
    daemon = stable(config_text(supervisor=settings, bots=bots(3) + PROGRAM)).start()
    before = well(daemon)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        time.sleep(max(STOPPED_SECONDS, 8.0))  # the fault itself
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    unharmed(daemon, before)


def test_the_supervisor_was_stopped_while_it_adopted(daemon: Daemon) -> None:
    before = well(daemon)
    daemon.kill()
    stopped = [pid for pid, _ in before.values()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)  # so that none answers before the supervisor is stopped too
    try:
        daemon.start(ready=False)
        assert daemon.process is not None
        eventually(lambda: adopting(daemon), 60, what="it adopts")
        os.kill(daemon.pid, signal.SIGSTOP)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    try:
        time.sleep(max(STOPPED_SECONDS, 3.0))  # the fault itself: the time in which they should have answered
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    daemon.forget_client()
    unharmed(daemon, before)


def adopting(daemon: Daemon) -> bool:
    try:
        return bool(daemon.data_dir.joinpath("endpoints.json").exists() and daemon.bot("b0")["state"] == "adopting")
    except Exception:  # it does not answer yet
        daemon.forget_client()
        return False


@pytest.mark.parametrize("hours", [1, -1] if SOAK else [1], ids=["ahead_then_back", "back_then_ahead"][: 1 + SOAK])
def test_the_wall_clock_was_stepped_an_hour(stable: Make, tmp_path: Path, hours: int) -> None:
    clock = WallClock(tmp_path)
    daemon = stable(config_text(supervisor=IMPATIENT, bots=bots(3))).start(variables=clock.environment)
    before = well(daemon)
    clock.step(hours * 3600)
    for verb in ("pause", "resume"):
        assert daemon.ask(verb, bots=["b0"], wait=20)["reached"] == ["b0"]
    eventually(lambda: abs(daemon.ask("events", limit=1)["events"][-1]["at"] - time.time() - hours * 3600) < 600, 20,
               what="the supervisor's wall clock is another")  # fmt: skip
    unharmed(daemon, before)
    daemon.kill()
    clock.step(-hours * 3600)  # and adoption over a step of two hours the other way
    daemon.start(variables=clock.environment)
    unharmed(daemon, before)
    assert all(0 < row["uptime_s"] < 600 for row in daemon.status())  # told by the kernel's clock


def test_many_start_at_once(stable: Make) -> None:
    daemon = stable(config_text(bots=bots(STARTING_BOTS))).start()  # as patient as it is by default
    before = well(daemon)
    assert all(row["restarts"] == 0 for row in daemon.status())
    unharmed(daemon, before)
