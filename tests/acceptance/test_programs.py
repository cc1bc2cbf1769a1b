"""Programs beside the bots: any executable under the same supervision, with real processes and real signals."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from protocol import codec
from protocol.keys import KeyPair, secure_client
from protocol.messages import Message, Unwelcome, Voice
from tests.daemon import Daemon, bot_text, config_text
from tests.support import eventually

pytestmark = pytest.mark.acceptance
Make = Callable[..., Daemon]

NOTIFY = """
import os, signal, socket, sys, time
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"]); s.send(text.encode())
"""
QUICK = "backoff_initial_seconds = 0.05\nbackoff_max_seconds = 0.2\nstop_timeout_seconds = 2\n"


def program(name: str, *code: str, extra: str = "") -> str:
    """A [[programs]] table that runs Python code."""
    script = "\n".join(code)
    return f"[[programs]]\nname = \"{name}\"\ncommand = [{sys.executable!r}, '-c', '''{script}''']\n{QUICK}{extra}\n"


def pids_of(daemon: Daemon, name: str) -> list[int]:
    """The minder, and what runs below it."""
    row = daemon.bot(name)
    return [row["pid"], *(one.pid for one in psutil.Process(row["pid"]).children(recursive=True))] if row["pid"] else []


def output(daemon: Daemon, name: str) -> str:
    path = daemon.data_dir / "logs" / f"{name}.out"
    return path.read_text() if path.exists() else ""


@pytest.mark.both_profiles
def test_a_program_runs_and_is_adopted_stopped_and_started_as_a_bot_is(stable: Make) -> None:
    text = program("dash", "import time; print('hello', flush=True); time.sleep(600)")
    daemon = stable(config_text(bots=bot_text("one") + text)).start()
    row = daemon.wait_state("dash", "running")
    assert (row["strategy"], row["position"], row["market"], row["wanted"]) == ("program", None, None, "running")
    minder, child = pids_of(daemon, "dash")
    assert child in {one.pid for one in psutil.Process(minder).children()}
    eventually(lambda: output(daemon, "dash") == "hello\n")
    daemon.kill()
    daemon.start()
    daemon.wait_state("dash", "running")
    assert pids_of(daemon, "dash") == [minder, child]
    assert daemon.ask("restart", bots=["dash"], wait=10)["reached"] == ["dash"]
    assert not psutil.pid_exists(child)
    assert daemon.ask("stop", bots=["dash"], wait=10)["reached"] == ["dash"]
    assert daemon.down() == 0
    assert daemon.processes() == []


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("import os; os._exit(3)", 3 << 8, "exit code 3"),
        ("import os; os._exit(75)", 75 << 8, "exit code 75"),  # 65, 71, 75 and 78 mean something of bots only
        ("import os; os._exit(78)", 78 << 8, "exit code 78"),
        ("import os; os._exit(71)", 71 << 8, "exit code 71"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", signal.SIGSEGV, "signal 11"),
    ],
)
def test_its_exact_end_is_told_and_counts(stable: Make, code: str, status: int, words: str) -> None:
    daemon = stable(config_text(bots=program("brief", code, extra="intensity = 1"))).start()
    row = daemon.wait_state("brief", "failed")
    assert words in row["reason"] and "1 allowed" in row["reason"]
    shown = daemon.ask("show", bot="brief")
    assert [one["status"] for one in shown["runs"]] == [status, status]
    assert shown["counts"]["crash"] == 2


def test_ready_status_watchdog_and_stopping_as_systemd_has_them(stable: Make) -> None:
    code = """
notify("STATUS=loading 3 of 7")
while not os.path.exists("go"): time.sleep(0.01)
notify("READY=1\\nSTATUS=serving")
while not os.path.exists("hang"): notify("WATCHDOG=1"); time.sleep(0.05)
os.remove("go"); os.remove("hang"); time.sleep(600)
"""
    extra = 'ready = "notify"\nwatchdog_seconds = 1.0\ncwd = "here"'
    settings = "max_suspension_seconds = 0\n"
    daemon = stable(config_text(supervisor=settings, bots=program("told", NOTIFY, code, extra=extra)))
    here = daemon.folder / "here"
    here.mkdir()
    daemon.start()
    row = eventually(lambda: one if "loading" in (one := daemon.bot("told"))["reason"] else None)
    assert (row["state"], row["reason"]) == ("starting", "status: loading 3 of 7")
    (here / "go").touch()
    row = daemon.wait_state("told", "running")
    eventually(lambda: daemon.bot("told")["reason"] == "status: serving")
    cycles = daemon.bot("told")["cycles"]
    eventually(lambda: daemon.bot("told")["cycles"] > cycles + 5)
    (here / "hang").touch()
    after = eventually(lambda: one if (one := daemon.bot("told"))["epoch"] > row["epoch"] else None, 15)
    assert after["state"] == "starting"
    shown = eventually(lambda: one if len((one := daemon.ask("show", bot="told"))["runs"]) > 1 else None)
    assert shown["counts"]["hang"] == 1 and "without WATCHDOG=1" in shown["runs"][1]["reason"]
    assert shown["runs"][1]["status"] & 0x7F == signal.SIGABRT  # it was asked to say where it hangs


def test_one_that_never_says_ready_is_a_hang(stable: Make) -> None:
    extra = 'ready = "notify"\nstart_timeout_seconds = 0.6'
    settings = "max_suspension_seconds = 0\n"
    daemon = stable(config_text(supervisor=settings, bots=program("mute", "import time; time.sleep(600)", extra=extra)))
    daemon.start()
    shown = eventually(lambda: one if len((one := daemon.ask("show", bot="mute"))["runs"]) > 1 else None, 15)
    assert "without READY=1" in shown["runs"][1]["reason"] and shown["counts"]["hang"] >= 1


BEATING = """
import os, time
from protocol.beat import Beat
with Beat.from_environment() as beat:
    while not os.path.exists("hang"): beat.send(); time.sleep(0.02)
    time.sleep(600)
"""


def told_of_the_bus(daemon: Daemon, name: str) -> Path:
    """The file that the program was told of."""
    _, child, *_ = pids_of(daemon, name)
    return Path(psutil.Process(child).environ()["STABLEHAND_BUS"])


def introduced_with(told: dict[str, str], token: str) -> Message:
    """What the bus answers to who has this program's file, and another token."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as line:
        line.linger = 0
        secure_client(line, KeyPair(told["public_key"], told["secret_key"]), told["server_key"])
        line.connect(told["bus"])
        line.send(codec.encode(Voice(token=token, pid=os.getpid())))
        assert line.poll(5000)
        return codec.decode(line.recv_multipart()[-1])


@pytest.mark.both_profiles
def test_one_that_beats_over_the_bus_is_adopted_and_is_replaced_when_it_falls_silent(stable: Make) -> None:
    settings = "max_suspension_seconds = 0\nheartbeat_timeout_seconds = 2\n"
    mute = program("mute", "import time; time.sleep(600)", extra='heartbeat = "bus"\nstart_timeout_seconds = 5\n'
                   'restart = "temporary"')  # fmt: skip
    beating = program("beating", BEATING, extra='heartbeat = "bus"\ncwd = "here"')
    brief = program("brief", BEATING, extra='heartbeat = "bus"\nrestart = "temporary"')
    daemon = stable(config_text(supervisor=settings, bots=beating + mute + brief))
    here = daemon.folder / "here"
    here.mkdir()
    daemon.start()
    first = daemon.wait_state("beating", "running")
    daemon.wait_state("brief", "running")

    def beats_on() -> dict[str, Any]:
        cycles = daemon.bot("beating")["cycles"]
        return eventually(lambda: row if (row := daemon.bot("beating"))["cycles"] > cycles + 5 else None)

    assert beats_on()["heartbeat_age_s"] < 1
    pids, file = pids_of(daemon, "beating"), told_of_the_bus(daemon, "beating")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = json.loads(file.read_text())
    refused = daemon.ask("host")["bad_frames"]
    answer = introduced_with(told, "0" * 32)
    assert isinstance(answer, Unwelcome) and answer.reason == "unknown run"
    assert daemon.ask("host")["bad_frames"] == refused + 1
    cycles = beats_on()["cycles"]

    daemon.kill()
    daemon.start()
    daemon.wait_state("beating", "running")
    eventually(lambda: daemon.bot("beating")["cycles"] > cycles, what="it is heard again")
    assert (daemon.bot("beating")["epoch"], pids_of(daemon, "beating")) == (first["epoch"], pids)

    (here / "hang").touch()
    eventually(lambda: daemon.bot("beating")["epoch"] > first["epoch"], 15, what="it was replaced")
    (here / "hang").unlink()
    shown = eventually(lambda: one if len((one := daemon.ask("show", bot="beating"))["runs"]) > 1 else None)
    assert shown["counts"]["hang"] == 1 and "on the bus: no heartbeat for" in shown["runs"][1]["reason"]
    assert shown["runs"][1]["status"] & 0x7F == signal.SIGABRT
    daemon.wait_state("beating", "running")
    beats_on()
    assert not file.exists() and told_of_the_bus(daemon, "beating").exists()

    left = told_of_the_bus(daemon, "brief")
    os.kill(daemon.bot("brief")["pid"], signal.SIGKILL)  # a minder that cannot clear up behind itself
    daemon.wait_state("brief", "stopped")
    eventually(lambda: not left.exists(), what="the file went with its run")

    row = daemon.wait_state("mute", "stopped", 15)
    assert "on the bus: no heartbeat for" in row["reason"] and daemon.ask("show", bot="mute")["counts"] == {"hang": 1}
    daemon.wait_state("beating", "running")
    assert daemon.down() == 0
    assert daemon.processes() == [] and list(file.parent.glob("bus-*.json")) == []


def test_a_file_that_cannot_be_executed_is_retried_with_backoff_and_the_reason_said(stable: Make) -> None:
    text = f'[[programs]]\nname = "absent"\ncommand = ["./tool"]\nintensity = 2\n{QUICK}'
    daemon = stable(config_text(bots=text)).start()

    def says(what: str) -> dict[str, Any]:
        return eventually(lambda: row if what in (row := daemon.bot("absent"))["reason"] else None, 15, what=what)

    row = says("ENOENT: No such file or directory: ./tool")
    assert row["state"] in ("backoff", "starting") and "retrying in" in row["reason"]
    says("times in a row")  # more than `intensity`, and not given up
    tool = daemon.folder / "tool"
    tool.write_text("#!/bin/sh\nsleep 600\n")
    says("EACCES")
    tool.chmod(0o755)
    daemon.wait_state("absent", "running")
    shown = daemon.ask("show", bot="absent")
    assert shown["counts"]["launch"] > 2 and "crash" not in shown["counts"]
    alerts = [one for one in daemon.ask("events", bot="absent")["events"] if one["type"] == "alert"]
    assert len(alerts) == 1


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
far = "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", far])
os.system("setsid sleep 600 &")
print("up", flush=True)
time.sleep(600)
"""


def family(daemon: Daemon, name: str, size: int) -> list[psutil.Process]:
    def found() -> list[psutil.Process] | None:
        row = daemon.bot(name)
        below = psutil.Process(row["pid"]).children(recursive=True)
        sessions = {os.getsid(one.pid) for one in below}
        return below if len(below) >= size and len(sessions) >= 3 else None

    return eventually(found, 10, what="the whole family")


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("how", ["stop", "kill", "minder killed", "program killed"])
def test_descendants_in_sessions_of_their_own_die_with_it(stable: Make, how: str) -> None:
    extra = 'restart = "temporary"'
    daemon = stable(config_text(bots=program("clan", STUBBORN, extra=extra))).start()
    daemon.wait_state("clan", "running")
    below = family(daemon, "clan", 4)
    if how == "stop":  # SIGTERM is ignored by all of them
        assert daemon.ask("stop", bots=["clan"], wait=4)["reached"] == ["clan"]
    elif how == "kill":
        assert daemon.ask("stop", bots=["clan"], mode="kill", wait=1)["reached"] == ["clan"]
    elif how == "minder killed":
        os.kill(daemon.bot("clan")["pid"], signal.SIGKILL)
    else:
        below[0].kill()
    daemon.wait_state("clan", "stopped", 5)
    eventually(lambda: all(gone(one) for one in below), 2)


def test_what_a_bot_left_behind_dies_with_it(stable: Make) -> None:
    mine = '''
import os, subprocess
from botproc.strategies.ma_crossover import MaCrossover
class Parent(MaCrossover):
    """Starts a process in a session of its own, as a helper that must not outlive it."""
    def __init__(self, params):
        super().__init__(params)
        os.system("setsid sleep 600 > /dev/null 2>&1 &")
'''
    daemon = stable(config_text(supervisor='strategy_path = ["s"]\n', bots=bot_text("one", strategy="mine:Parent")))
    (daemon.folder / "s").mkdir()
    (daemon.folder / "s" / "mine.py").write_text(mine)
    daemon.start()
    row = daemon.wait_state("one", "running")
    left = [one for one in psutil.Process(row["pid"]).children(recursive=True) if "sleep" in one.name()]
    assert left and all(os.getsid(one.pid) != row["pid"] for one in left)
    os.kill(row["pid"], signal.SIGKILL)
    eventually(lambda: all(gone(one) for one in left), 3)
    daemon.wait_state("one", "running")


def test_pause_is_not_for_programs(stable: Make) -> None:
    daemon = stable(config_text(bots=bot_text("one") + program("dash", "import time; time.sleep(600)"))).start()
    daemon.wait_all("running")
    answer = daemon.ask("pause", bots=["dash"], wait=5)
    assert "cannot be paused" in answer["failed"]["dash"] and daemon.bot("dash")["wanted"] == "running"
    assert daemon.ask("pause", all=True, wait=5)["failed"] == {}
    assert daemon.bot("one")["state"] == "paused" and daemon.bot("dash")["state"] == "running"


def test_a_program_is_added_updated_and_removed_while_the_stable_runs(stable: Make, tmp_path: Path) -> None:
    daemon = stable(config_text(bots=bot_text("one"))).start()
    entry = {"name": "extra", "command": ["sh", "-c", "echo $COLOUR; exec sleep 600"], "environment": {"COLOUR": "red"}}
    daemon.ask("add", bots=[entry])
    daemon.wait_state("extra", "running")
    eventually(lambda: output(daemon, "extra") == "red\n")
    daemon.ask("update", bots=["extra"], set={"environment.COLOUR": "blue"})
    eventually(lambda: output(daemon, "extra") == "red\nblue\n")
    assert daemon.ask("remove", bots=["extra"])["positions"] == {"extra": "a program has no positions"}
    assert [row["name"] for row in daemon.status()] == ["one"]


def test_with_launcher_and_minder_killed_nothing_of_the_run_is_left(stable: Make) -> None:
    """Nobody is there to inherit what is in a session of its own: it goes to init, and is found by its environment."""
    text = program(
        "far", "import subprocess, sys, time",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)",
        "time.sleep(600)",
    )  # fmt: skip
    daemon = stable(config_text(bots=text)).start()
    row = daemon.wait_state("far", "running")
    minder, *below = eventually(lambda: pids if len(pids := pids_of(daemon, "far")) == 3 else None)
    launcher = psutil.Process(minder).ppid()
    os.kill(launcher, signal.SIGKILL)
    eventually(lambda: psutil.Process(minder).ppid() != launcher)
    os.kill(minder, signal.SIGKILL)
    eventually(lambda: daemon.bot("far")["epoch"] > row["epoch"], 15)
    eventually(lambda: not any(map(lives, below)), 15, what="nothing of it lives")
    daemon.wait_state("far", "running")
    assert len(eventually(lambda: pids if len(pids := pids_of(daemon, "far")) == 3 else None)) == 3


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
