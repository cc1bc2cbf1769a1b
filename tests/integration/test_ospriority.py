"""A bot's priority at the operating system: lowered with all its threads, and given back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from supervisor.runtime import ospriority
from tests.support import eventually

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux gives a priority back")
SLEEPER = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print('up', flush=True)"


@pytest.fixture
def pid() -> Iterator[int]:
    """A process with two threads, which leads a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    yield process.pid
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def lowered(pid: int) -> set[bool]:
    """Whether each thread is below the usual."""
    threads = [one.id for one in psutil.Process(pid).threads()]
    assert len(threads) == 2
    return {os.getpriority(os.PRIO_PROCESS, one) > 0 or os.sched_getscheduler(one) == os.SCHED_BATCH for one in threads}


@pytest.mark.parametrize("method", ["nice", "batch"])
def test_lowered_and_given_back(pid: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method == "nice" and ospriority.method() != "nice":
        pytest.skip("no privilege to raise a priority here")
    monkeypatch.setattr(ospriority, "method", lambda: method)
    assert lowered(pid) == {False}
    assert ospriority.lower(pid, 10)
    assert lowered(pid) == {True}
    assert ospriority.lower(pid, 0)
    assert lowered(pid) == {False}


def test_the_lowered_really_yields() -> None:
    burner = "import time\nend = time.monotonic() + 30\nprint(flush=True)\nwhile time.monotonic() < end: pass"
    core = min(os.sched_getaffinity(0))
    with ExitStack() as stack:
        pids = []
        for _ in range(2):  # each in a session of its own, as bots are; both on one processor
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", burner], stdout=subprocess.PIPE, start_new_session=True)
            )
            stack.callback(process.kill)
            os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            process.stdout.readline()
            pids.append(process.pid)
        assert ospriority.lower(pids[0], 15)
        assert not ospriority.autogroups() or eventually(lambda: ospriority.lower_session(pids[0], 15), 5)

        def used() -> list[float]:
            return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]

        before = used()

        def shares() -> list[float]:
            return [after - first for after, first in zip(used(), before, strict=True)]

        eventually(lambda: shares()[1] >= 0.5, 30)
        lowered_share, usual_share = shares()
        assert lowered_share < usual_share / 2, (lowered_share, usual_share)


WITHOUT_PRIVILEGE = """
import encodings.ascii, os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from supervisor.runtime import ospriority
os.setgid(65534), os.setuid(65534)
children = [
    subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) for _ in "123"
]
try:
    for child in children:  # in the midst of its exec it still is root's to the kernel, since we were
        child.stdin.write(b"up\\n"), child.stdin.flush(), child.stdout.readline()
    late = 0
    for child in children:
        while not ospriority.lower_session(child.pid, 5):
            late += 1
            time.sleep(ospriority.SESSION_STEP / 4)
    print(late, *(open(f"/proc/{one.pid}/autogroup").read().split()[-1] for one in children))
    while not ospriority.lower_session(children[0].pid, 0):
        time.sleep(ospriority.SESSION_STEP / 4)
    print(open(f"/proc/{children[0].pid}/autogroup").read().split()[-1])
finally:
    for child in children:
        child.communicate()
"""


def test_without_a_privilege_sessions_are_lowered_one_after_the_other_and_given_back() -> None:
    if os.geteuid() != 0 or not ospriority.autogroups():
        pytest.skip("only root can give its privileges up, and there must be groups of sessions")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRIVILEGE, str(Path(ospriority.__file__).parents[2])],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (late, *lowered_to), given_back = (line.split() for line in done.stdout.splitlines())
    assert lowered_to == ["5", "5", "5"] and given_back == ["0"]
    assert int(late) > 0 or time.monotonic() - began > 2 * ospriority.SESSION_STEP, "the kernel bounds how often"


def test_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait(10)
    assert not ospriority.lower(process.pid, 10)
    assert ospriority.lower_session(process.pid, 10), "nothing is left to be done"
