"""The launcher and its twin, as real processes with real children: one body for both."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.process import start_ticks
from tests.launchers import Launchers, Method, state_of
from tests.support import eventually

pytestmark = pytest.mark.posix


@pytest.fixture(params=["fork", "spawn", "spawn_reaping"])
def launchers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launchers]:
    made = Launchers(tmp_path, request.param)
    yield made
    made.clean()


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Launchers]:
    made = Launchers(tmp_path, "fork")
    yield made
    made.clean()


def many(method: Method) -> int:
    return 20 if method == "fork" else 3


def test_children_are_listed_with_their_identity(launchers: Launchers) -> None:
    launchers.start()
    line = launchers.connect()
    specs = [launchers.spec(n) for n in range(1, many(launchers.method) + 1)]
    numbers = [line.tell("launch", spec=spec) for spec in specs]
    listed = line.tell("list")  # asked before any launch was answered
    replies = [line.answer(n) for n in numbers]
    launchers.pids |= {reply["pid"] for reply in replies}
    runs = line.answer(listed)["runs"]
    assert [run["token"] for run in runs] == [spec["token"] for spec in specs]
    for reply, run in zip(replies, runs, strict=True):
        assert reply["ok"] and run["pid"] == reply["pid"] and not run["exited"]
        assert reply["start_ticks"] == start_ticks(reply["pid"])
        assert len(reply["code_hash"]) == 16
    for spec, reply in zip(specs, replies, strict=True):
        eventually(lambda spec=spec: launchers.up(spec), 30)  # type: ignore[misc]
        assert os.getsid(reply["pid"]) == reply["pid"] != os.getsid(0)
        assert Path(f"/proc/{reply['pid']}/oom_score_adj").read_text().strip() == "500"
    again = line.ask("launch", spec=specs[0])
    assert again["pid"] == replies[0]["pid"], "one run is one process, however often it is asked for"


def test_a_killed_child_stays_a_zombie_until_its_end_is_acknowledged(launchers: Launchers) -> None:
    if launchers.method == "spawn_reaping":
        pytest.skip("nothing stays where an end cannot be seen without reaping it")
    launchers.start()
    first = launchers.connect()
    spec = launchers.spec(1)
    pid = launchers.launch(first, spec)["pid"]
    eventually(lambda: launchers.up(spec), 30)
    os.kill(pid, signal.SIGKILL)
    notice = first.notice(spec["token"])
    assert (notice["pid"], notice["signal"], notice["code"], notice["status"]) == (pid, 9, -1, 9)
    assert state_of(pid) == "zombie"
    second = launchers.connect()
    assert second.notice(spec["token"]) == notice, "a new supervisor hears of it too"
    assert second.ask("list")["runs"][0]["exited"] is True
    assert second.ask("signal", token=spec["token"], signal="TERM", group=False) == {
        "id": second._number,
        "ok": False,
        "error": "gone",
    }
    second.tell("ack", token=spec["token"])
    eventually(lambda: state_of(pid) == "gone")
    third = launchers.connect()
    assert third.ask("list")["runs"] == [] and third.notices == []


def test_term_stops_a_bot_gracefully_and_a_group_signal_reaches_its_own_children(launchers: Launchers) -> None:
    modules = launchers.folder / "modules"
    modules.mkdir()
    (modules / "family.py").write_text(PARENT.format(pid_file=launchers.folder / "kid.pid"))
    launchers.start("--module", "family", modules=modules)
    line = launchers.connect()
    spec = launchers.spec(1, strategy="family:Parent", python_path=[str(modules)])
    pid = launchers.launch(line, spec)["pid"]
    eventually((launchers.folder / "kid.pid").exists, 30)
    kid = int((launchers.folder / "kid.pid").read_text())
    assert os.getpgid(kid) == pid
    assert line.ask("signal", token=spec["token"], signal=int(signal.SIGTERM), group=True)["ok"]
    notice = line.notice(spec["token"])
    assert (notice["code"], notice["signal"]) == (0, 0), launchers.log(spec)
    eventually(lambda: state_of(kid) in ("gone", "zombie"))
    assert "SIGTERM" in launchers.log(spec)


PARENT = """
import subprocess
from botproc.strategy import Signal, Strategy, StrategyParams

class Parent(Strategy):
    '''Has a process of its own.'''
    lookback = 3
    def __init__(self, params):
        super().__init__(params)
        kid = subprocess.Popen(["sleep", "300"])
        with open("{pid_file}.new", "w") as out:
            out.write(str(kid.pid))
        import os
        os.replace("{pid_file}.new", "{pid_file}")
    def analyze(self, bars):
        return Signal("HOLD", 1.0, "")
"""


def test_children_outlive_their_launcher(launchers: Launchers) -> None:
    process = launchers.start()
    line = launchers.connect()
    spec = launchers.spec(1)
    pid = launchers.launch(line, spec)["pid"]
    eventually(lambda: launchers.up(spec), 30)
    ticks = start_ticks(pid)
    process.kill()
    process.wait(5)
    log_before = launchers.log(spec)
    assert start_ticks(pid) == ticks and launchers.log(spec) == log_before
    os.kill(pid, signal.SIGTERM)  # alive and well: it still stops gracefully
    eventually(lambda: "SIGTERM" in launchers.log(spec))
    eventually(lambda: start_ticks(pid) is None)


def test_it_leaves_when_nobody_needs_it_and_not_before(launchers: Launchers) -> None:
    process = launchers.start(orphan_after=0.5)
    line = launchers.connect()
    spec = launchers.spec(1)
    pid = launchers.launch(line, spec)["pid"]
    eventually(lambda: launchers.up(spec), 30)
    line.close()
    with pytest.raises(AssertionError):  # a child lives: it stays, three times as long as without
        eventually(lambda: process.poll() is not None, 1.5)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: process.poll() is not None and [process.returncode], 10) == [0]
    assert not launchers.path.exists()


def test_retired_it_takes_no_launch_and_leaves_with_its_last_child(launchers: Launchers) -> None:
    process = launchers.start()
    line = launchers.connect()
    spec = launchers.spec(1)
    launchers.launch(line, spec)
    eventually(lambda: launchers.up(spec), 30)
    assert line.ask("retire")["ok"]
    refused = launchers.launch(line, launchers.spec(2))
    assert (refused["ok"], refused["cause"]) == (False, "launch") and "retired" in refused["error"]
    assert line.ask("signal", token=spec["token"], signal="KILL", group=True)["ok"]
    line.notice(spec["token"])
    assert process.poll() is None, "its end is not acknowledged yet"
    line.tell("ack", token=spec["token"])
    assert eventually(lambda: process.poll() is not None and [process.returncode], 10) == [0]


def test_a_held_lock_ends_the_second_run_with_75(launchers: Launchers) -> None:
    launchers.start()
    line = launchers.connect()
    spec = launchers.spec(1)
    holder = launchers.launch(line, spec)["pid"]
    eventually(lambda: launchers.up(spec), 30)
    second = {**launchers.spec(1), "epoch": 2}
    launchers.launch(line, second)
    assert line.notice(second["token"], 30)["code"] == 75
    assert str(holder) in launchers.log(second)


def test_a_strategy_that_cannot_be_built_ends_with_65(launchers: Launchers) -> None:
    launchers.start()
    line = launchers.connect()
    spec = launchers.spec(1, strategy="MA_CROSOVER")
    launchers.launch(line, spec)
    assert line.notice(spec["token"], 30)["code"] == 65
    assert "MA_CROSSOVER" in launchers.log(spec)  # did you mean ...


def test_wrong_requests_are_answered_and_hurt_nobody(launchers: Launchers) -> None:
    launchers.start()
    line = launchers.connect()
    wrong: list[dict[str, Any]] = [
        {"op": "lounch"},
        {"op": "launch"},
        {"op": "launch", "spec": {"kind": "bot"}},
        {"op": "signal", "token": "x", "signal": "NOPE"},
        {"op": "signal", "token": "x", "signal": 9, "group": True},
    ]
    for request in wrong:
        reply = line.ask(**request)
        assert reply["ok"] is False and reply["error"], request
    line._send(b"\xc1 not msgpack")
    assert line.ask("list")["runs"] == []


def test_strategies_are_described_and_checked(launchers: Launchers) -> None:
    modules = launchers.folder / "modules"
    modules.mkdir()
    (modules / "killer.py").write_text("import os\nos._exit(3)\n" if launchers.method == "fork" else "1/0\n")
    launchers.start(modules=modules)
    line = launchers.connect()
    catalogue = line.ask("catalogue", names=["MA_CROSSOVER"])
    assert catalogue["ok"] and catalogue["strategies"]["MA_CROSSOVER"]["params"]["fast"]["default"] == 20
    fine = line.ask("validate", strategy="MA_CROSSOVER", params={"fast": 5, "slow": 9})
    assert fine["ok"] and fine["lookback"] == 10
    wrong = line.ask("validate", strategy="MA_CROSSOVER", params={"fast": 50, "slow": 9})
    assert not wrong["ok"] and wrong["errors"]
    killed = line.ask("validate", strategy="killer:Class", params={})
    assert not killed["ok"] and killed["errors"][0]["param"] == "strategy"
    assert line.ask("validate", strategy="MA_CROSSOVER", params={})["ok"], "the next question is answered again"


def test_a_changed_module_makes_it_stale(launchers: Launchers) -> None:
    modules = launchers.folder / "modules"
    modules.mkdir()
    module = modules / "mine.py"
    module.write_text("import mine_more\n")
    (modules / "mine_more.py").write_text("x = 1\n")
    launchers.start("--module", "mine", modules=modules)
    line = launchers.connect()
    assert line.ask("stale")["stale"] is False
    os.utime(module)
    assert line.ask("stale")["stale"] is False, "touched is not changed"
    module.write_text("import mine_more  # changed\n")
    assert line.ask("stale")["stale"] is True


def test_bad_modules_are_named_dropped_and_harm_no_other_bot(forking: Launchers) -> None:
    modules = forking.folder / "modules"
    modules.mkdir()
    (modules / "raises.py").write_text("import json\nraise RuntimeError('no such indicator')\n")
    (modules / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (modules / "exits.py").write_text("import os\nos._exit(0)\n")
    (modules / "good.py").write_text("value = 1\n")
    bad = ["raises", "threads", "exits"]
    forking.start(*[word for name in [*bad, "good"] for word in ("--module", name)], modules=modules)
    line = forking.connect()
    broken = line.ask("list")["broken"]
    assert set(broken) == set(bad)
    assert "no such indicator" in broken["raises"] and "raises.py:2" in broken["raises"]
    assert "thread" in broken["threads"]
    good, spoiled = forking.spec(1), forking.spec(2, strategy="raises:Class")
    assert forking.launch(line, good)["ok"] and forking.launch(line, spoiled)["ok"]
    assert line.notice(spoiled["token"])["code"] == 65
    assert "no such indicator" in forking.log(spoiled)
    eventually(lambda: forking.up(good))


def test_a_process_that_cannot_be_made_is_an_answer(forking: Launchers) -> None:
    process = forking.start()
    line = forking.connect()
    line.ask("list")
    used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    reply = forking.launch(line, forking.spec(1))
    assert (reply["ok"], reply["cause"]) == (False, "launch") and reply["error"].startswith("EMFILE")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
    assert forking.launch(line, forking.spec(1))["ok"]


def test_of_launches_in_one_turn_each_has_its_own_answer_and_no_descriptor_is_lost(forking: Launchers) -> None:
    process = forking.start("--spares", "0")
    line = forking.connect()
    line.ask("list")

    def used() -> int:
        return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))

    before, free = resource.prlimit(process.pid, resource.RLIMIT_NOFILE), used()
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free + 3, before[1]))
    os.kill(process.pid, signal.SIGSTOP)
    specs = [forking.spec(number) for number in range(1, 5)]
    numbers = [line.tell("launch", spec=spec) for spec in (*specs, specs[0])]
    os.kill(process.pid, signal.SIGCONT)
    replies = [line.answer(number) for number in numbers]
    forking.pids |= {reply["pid"] for reply in replies if reply["ok"]}
    assert [reply["ok"] for reply in replies] == [True, True, True, False, True]
    assert replies[3]["error"].startswith("EMFILE")
    assert replies[4]["pid"] == replies[0]["pid"], "asked twice for one run: there is one process"
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)

    def living() -> int:  # the limit was theirs too, and may have been too low for them
        return sum(not run["exited"] for run in line.ask("list")["runs"])

    eventually(lambda: used() == free + living(), 10, what="one descriptor for each child that lives")
    assert forking.launch(line, specs[3])["ok"]


def test_requests_of_a_supervisor_that_died_are_done_before_the_next_ones_list(forking: Launchers) -> None:
    process = forking.start()
    first, second = forking.connect(), forking.connect()
    second.ask("list")
    os.kill(process.pid, signal.SIGSTOP)
    specs = [forking.spec(n) for n in range(1, 13)]
    for spec in specs:
        first.tell("launch", spec=spec)
    first.close()
    number = second.tell("list")
    os.kill(process.pid, signal.SIGCONT)
    runs = second.answer(number)["runs"]
    forking.pids |= {run["pid"] for run in runs}
    assert {run["token"] for run in runs} == {spec["token"] for spec in specs}


def test_a_second_launcher_does_not_take_a_living_ones_socket(forking: Launchers) -> None:
    forking.start()
    line = forking.connect()
    line.ask("list")
    again = [sys.executable, "-m", "botproc.launcher", "--socket", str(forking.path), "--generation", "g2"]
    second = subprocess.run(again, capture_output=True, timeout=30, check=False)
    assert second.returncode == 1 and b"another launcher listens" in second.stderr
    assert line.ask("list")["generation"] == "g1"
