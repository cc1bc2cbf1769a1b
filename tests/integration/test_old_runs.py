"""An old run that still holds its bot's lock: it is seen dead, and it alone. Real processes, a real lock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol.locks import FileLock, holder_of
from protocol.process import ProcessIdentity, identity_of
from supervisor.policy import events
from supervisor.runtime import oldruns
from supervisor.runtime.registry import Record, Run
from tests.support import eventually

pytestmark = pytest.mark.posix

#: Takes the lock as soon as it is free, says so, and holds it.
HOLDER = """
import sys, time
from pathlib import Path
from protocol.locks import FileLock, LockHeld
until = time.monotonic() + 60
while time.monotonic() < until:
    try:
        held = FileLock(Path(sys.argv[1]))
    except LockHeld:
        time.sleep(0.001)
        continue
    print("held", flush=True)
    time.sleep(60)
"""


class Holders:
    """Processes that hold the lock, one after the other."""

    def __init__(self, lock: Path, stack: ExitStack) -> None:
        self.lock = lock
        self._stack = stack

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(self.lock)], stdout=subprocess.PIPE)
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        return process

    def holding(self) -> subprocess.Popen[bytes]:
        process = self.start()
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        return process


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    with ExitStack() as stack:
        yield Holders(tmp_path / "lock", stack)


async def asked(holders: Holders, pid: int, times: int, seconds: float) -> list[events.Event]:
    """Have the death of `pid` confirmed, `times` times, as attempts that fail on the lock do; what came of it."""
    record = Record(bot_id=7, name="b", kind="bot", wanted="running", account="main")
    posted: list[events.Event] = []
    old = oldruns.OldRuns(posted.append, lambda _: holders.lock)
    for _ in range(times):
        old.confirm_dead(record, pid)
        await asyncio.sleep(0.2)
    await asyncio.sleep(seconds)
    old.close()
    return posted


def test_the_successor_that_takes_the_lock_meanwhile_is_left_alone(holders: Holders) -> None:
    """The old run is killed when its time is over; whoever waited for the lock has it in the next millisecond."""
    first, second = holders.holding(), holders.start()
    posted = asyncio.run(asked(holders, first.pid, 3, oldruns._PATIENCE + 1.0))
    assert first.poll() == -9 and second.poll() is None and holder_of(holders.lock) == second.pid
    assert posted == [events.OldRunDead(7)], "said once, however often it was asked"


def test_one_that_leaves_by_itself_is_not_waited_for(holders: Holders) -> None:
    first = holders.holding()
    first.kill()
    first.wait(10)
    began = time.monotonic()
    posted = asyncio.run(asked(holders, first.pid, 1, 0.1))
    assert posted == [events.OldRunDead(7)] and time.monotonic() - began < oldruns._PATIENCE
    FileLock(holders.lock).release()


def test_a_process_that_does_not_hold_the_lock_is_never_signalled(holders: Holders) -> None:
    """The pid that was told may be somebody else's by now."""
    holders.holding()
    waiting = holders.start()
    eventually(lambda: b"-c" in Path(f"/proc/{waiting.pid}/cmdline").read_bytes(), 10)
    posted = asyncio.run(asked(holders, waiting.pid, 1, oldruns._PATIENCE + 0.5))
    assert waiting.poll() is None and posted == [events.OldRunDead(7)]


def of(process: subprocess.Popen[bytes]) -> tuple[Record, Run, ProcessIdentity]:
    record = Record(bot_id=7, name="b", kind="bot", wanted="running", account="main")
    identity = identity_of(process.pid)
    assert identity is not None
    record.run = Run(epoch=3, token="t", started_at=0.0, started=0.0)
    return record, record.run, identity


def test_one_that_nobody_watched_is_told_gone_when_it_is_signalled(holders: Holders) -> None:
    """Its launcher ended in the moment in which it told of it, and then it ended itself."""
    process = holders.start()
    record, run, identity = of(process)
    process.kill()
    process.wait(10)

    async def signalled() -> list[events.Event]:
        posted: list[events.Event] = []
        old = oldruns.OldRuns(posted.append, lambda _: holders.lock)
        run.pid, run.identity = identity.pid, identity
        old.signal(record, run, 9, group=True)
        old.close()
        return posted

    (gone,) = asyncio.run(signalled())
    assert isinstance(gone, events.Gone) and (gone.bot_id, gone.epoch) == (7, 3)


@pytest.mark.parametrize("speaks_first", [True, False])
def test_one_whose_launch_had_no_answer_is_known_by_its_hello(holders: Holders, speaks_first: bool) -> None:
    process = holders.start()
    record, run, identity = of(process)

    async def spoken() -> list[events.Event]:
        posted: list[events.Event] = []
        old = oldruns.OldRuns(posted.append, lambda _: holders.lock)
        for what in ("said", "unlaunched") if speaks_first else ("unlaunched", "said"):
            assert run.identity is None and run.pid == 0
            setattr(run, what, identity if what == "said" else True)
            old.take_at_its_word(record, run)
        assert run.pid == process.pid and posted == []
        old.signal(record, run, 9, group=False)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if posted:
                break
        old.close()
        return posted

    (gone,) = asyncio.run(spoken())
    assert isinstance(gone, events.Gone) and process.wait(10) == -9
