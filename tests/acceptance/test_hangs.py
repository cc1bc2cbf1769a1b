"""The fault matrix of hangs: how a bot stands still, what it leaves in its log, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.daemon import Daemon, bot_text, config_text, shared_installation
from tests.stableaudit import audit, runs
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.posix]

MINE = '''
import fractions, re, subprocess, textwrap, threading, time
from pathlib import Path
from botproc.strategies.ma_crossover import MaCrossover

class Hanging(MaCrossover):
    """Stands still once, when its file is there; with a child of its own."""
    def analyze(self, bars):
        trigger = Path(__file__).with_name(type(self).__name__)
        if trigger.exists():
            child = subprocess.Popen(["sleep", "600"])
            trigger.with_suffix(".child").write_text(str(child.pid))
            trigger.unlink()
            self.stand_still()
        return super().analyze(bars)

class Sleeper(Hanging):
    def stand_still(self):
        time.sleep(3600)

class Crowded(Hanging):
    """Waits for nobody while its threads run: whoever reads their stacks without Python's lock, reads rubbish."""
    def stand_still(self):
        for _ in range(4):
            threading.Thread(target=self.work, daemon=True).start()
        threading.Event().wait()
    def work(self):
        while True:
            for n in range(1, 9):
                textwrap.fill("x y z " * 30, 20)
                fractions.Fraction(3, n) + fractions.Fraction("1/7")
            time.sleep(0.0005)

class Looper(Hanging):
    def stand_still(self):
        while True:
            pass

class Spinner(Hanging):
    def stand_still(self):
        re.match("(a+)+$", "a" * 60 + "b")  # for years, in C, and no other thread gets the interpreter
'''
#: How it stands still -> what the verdict says of it.
HANGS = {
    "sleeps_in_a_cycle": ("Sleeper", "analyse for"),
    "waits_among_busy_threads": ("Crowded", "analyse for"),
    "loops_in_python": ("Looper", "analyse for"),
    "loops_in_c_without_releasing_the_gil": ("Spinner", "no heartbeat for"),
    "process_stopped": ("", "no heartbeat for"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # A busy machine suspends verdicts on hangs: that is what another table is about.
    settings = 'heartbeat_timeout_seconds = 3.0\nmax_suspension_seconds = 0\nstrategy_path = ["s"]\n'
    extra = "cycle_timeout_seconds = 3"
    bots = "".join(
        bot_text(name, strategy=f"mine:{strategy}" if strategy else "MA_CROSSOVER", extra=extra)
        for name, (strategy, _) in HANGS.items()
    )
    folder = tmp_path_factory.mktemp("hangs")
    (folder / "s").mkdir()
    (folder / "s" / "mine.py").write_text(MINE)
    with shared_installation(folder, config_text(supervisor=settings, bots=bots)) as made:
        made.start()
        yield made


@pytest.mark.parametrize("how", HANGS)
def test_what_stands_still_says_where_and_is_replaced(daemon: Daemon, how: str) -> None:
    strategy, words = HANGS[how]
    before = daemon.wait_state(how, "running", 60)
    others = {row["name"]: row["pid"] for row in daemon.status() if row["name"] != how}
    trigger = daemon.folder / "s" / strategy
    if strategy:
        trigger.touch()
    else:
        os.kill(before["pid"], signal.SIGSTOP)
    eventually(lambda: daemon.bot(how)["epoch"] > before["epoch"], 30, what=f"{how} was replaced")
    daemon.wait_state(how, "running", 30)
    (status, cause), *_ = [row[1:] for row in runs(daemon, how) if row[0] == before["epoch"]]
    assert cause == "hang" and os.waitstatus_to_exitcode(status or 0) in (-signal.SIGABRT, -signal.SIGKILL)
    said = [one["text"] for one in daemon.ask("events", bot=how, limit=500)["events"] if one["type"] == "state"]
    assert any(f"hung ({words}" in text for text in said), said
    raw = (daemon.data_dir / "logs" / f"{how}.out").read_text()
    assert "Fatal Python error: Aborted" in raw and "most recent call first" in raw
    if strategy:  # the stack names the very function
        assert "in stand_still" in raw
        child = int(trigger.with_suffix(".child").read_text())
        eventually(lambda: not psutil.pid_exists(child), 10, what="its child was killed with it")
    assert not psutil.pid_exists(before["pid"])
    assert {row["name"]: row["pid"] for row in daemon.status() if row["name"] != how} == others
    audit(daemon)
