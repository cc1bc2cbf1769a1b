"""Spare children of a launcher: taken at once, made anew, and gone with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from protocol.process import start_ticks
from tests.launchers import Launchers, state_of
from tests.support import eventually

pytestmark = pytest.mark.posix


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Launchers]:
    made = Launchers(tmp_path, "fork")
    yield made
    made.clean()


def test_a_spare_takes_the_run_and_another_takes_its_place(forking: Launchers) -> None:
    process = forking.start("--spares", "1")
    line = forking.connect()
    eventually(lambda: line.ask("list")["spares"] == 1, 20, what="a rehearsed spare")
    (waiting,) = (child.pid for child in psutil.Process(process.pid).children())
    spec = forking.spec(1)
    reply = forking.launch(line, spec)
    assert reply["pid"] == waiting and reply["start_ticks"] == start_ticks(waiting)
    assert os.getsid(waiting) == waiting
    eventually(lambda: forking.up(spec), 20)
    eventually(lambda: line.ask("list")["spares"] == 1, 20, what="the next spare")
    (waiting,) = (child.pid for child in psutil.Process(process.pid).children() if child.pid != reply["pid"])
    os.kill(waiting, signal.SIGKILL)
    eventually(lambda: state_of(waiting) == "gone", what="the dead spare was reaped")
    other = forking.spec(2)
    forking.launch(line, other)  # whether or not there is a spare again
    eventually(lambda: forking.up(other), 20)
    os.kill(reply["pid"], signal.SIGKILL)
    notice = line.notice(spec["token"])
    assert notice["signal"] == signal.SIGKILL and notice["pid"] == reply["pid"]


def test_the_end_of_a_run_leaves_the_spares_alone(forking: Launchers) -> None:
    process = forking.start("--spares", "1")
    line = forking.connect()
    eventually(lambda: line.ask("list")["spares"] == 1, 20, what="a rehearsed spare")
    reply = forking.launch(line, first := forking.spec(1))
    eventually(lambda: line.ask("list")["spares"] == 1, 20, what="the next spare")
    (waiting,) = (child.pid for child in psutil.Process(process.pid).children() if child.pid != reply["pid"])
    os.kill(reply["pid"], signal.SIGKILL)
    assert line.notice(first["token"])["signal"] == signal.SIGKILL  # by then what it left behind was looked for
    assert forking.launch(line, forking.spec(2))["pid"] == waiting


def test_spares_do_not_outlive_their_launcher(forking: Launchers) -> None:
    process = forking.start("--spares", "2")
    line = forking.connect()
    eventually(lambda: line.ask("list")["spares"] == 2, 20, what="two rehearsed spares")
    spares = [child.pid for child in psutil.Process(process.pid).children()]
    assert line.ask("retire")["ok"] and [state_of(pid) for pid in spares] == ["gone", "gone"]
    process.wait(10)


def test_spares_end_when_the_launcher_is_killed(forking: Launchers) -> None:
    process = forking.start("--spares", "1")
    line = forking.connect()
    eventually(lambda: line.ask("list")["spares"] == 1, 20, what="a rehearsed spare")
    (spare,) = (child.pid for child in psutil.Process(process.pid).children())
    process.kill()
    eventually(lambda: state_of(spare) in ("gone", "zombie"), what="the spare's end")
