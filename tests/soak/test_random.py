"""Random faults on a whole stable, and the audit after each. In the suite: few bots, seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.scale import SOAK, SOAK_BOTS, SOAK_PROGRAMS, SOAK_SECONDS
from tests.soak.audit import Auditor
from tests.soak.faults import FAULTS, Fault
from tests.soak.report import Tally, table
from tests.soak.yard import PATIENCE, Beside, Follower, Yard, chatter, config_text
from tests.support import eventually

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]

#: STABLEHAND_SEED repeats a run that failed, or makes another.
SEED = int(os.environ.get("STABLEHAND_SEED", "1"))
#: Where the table goes, beside the terminal.
REPORT = os.environ.get("STABLEHAND_SOAK_REPORT", "")
_TOGETHER = 0.25


class Rounds:
    """Plays them."""

    def __init__(self, yard: Yard, auditor: Auditor, tally: Tally) -> None:
        self.yard = yard
        self.auditor = auditor
        self.tally = tally

    def one(self) -> None:
        """A fault, now and then two at once, and the audit."""
        yard = self.yard
        yard.taken.clear()
        yard.scars.clear()
        first = self._choose(lambda _fault: True)
        second = None
        if first.beside and yard.random.random() < _TOGETHER:
            second = self._choose(lambda fault: fault.beside and fault is not first)
        names = " and ".join(one.name for one in (first, second) if one)
        self.tally.rounds += 1
        self.tally.loads.append(os.getloadavg()[0])
        if SOAK:
            print(f"{time.strftime('%H:%M:%S')} round {self.tally.rounds}: {names}", flush=True)  # seen with -s
        try:
            self._play(first, second)
            self.auditor.light()
        except Exception as error:
            raise AssertionError(f"round {self.tally.rounds} of seed {SEED}, {names}: {error}") from error

    def _choose(self, fits: Callable[[Fault], bool]) -> Fault:
        # Each once before any twice: else a short run would miss some.
        fitting = [fault for fault in FAULTS if fits(fault) and (SOAK or fault.quick)]
        fresh = [fault for fault in fitting if fault.name not in self.tally.played]
        among = fresh or fitting
        return self.yard.random.choices(among, [fault.weight for fault in among])[0]

    def _play(self, first: Fault, second: Fault | None) -> None:
        steps = first.play(self.yard)
        beside: Iterator[None] = second.play(self.yard) if second else iter(())
        next(steps)
        next(beside, None)
        began = time.monotonic()
        next(steps)
        seconds = time.monotonic() - began
        for _ in (*steps, *beside):
            pass
        self.tally.add(first.name, None if second else seconds)
        if second:
            self.tally.together += 1
            self.tally.add(second.name, None)


def test_random_faults_on_a_stable_under_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tests.daemon import installation

    folder = tmp_path / "one"
    folder.mkdir()
    with installation(folder, config_text(SOAK_BOTS, SOAK_PROGRAMS, folder)) as daemon:
        page = _rounds(daemon)
    if REPORT:
        Path(REPORT).write_text(page, "utf-8")
    if SOAK:
        with capfd.disabled():
            print(f"\n{page}")


def _rounds(daemon: Daemon) -> str:
    yard = Yard(daemon, SEED)
    auditor, tally, follower = Auditor(yard), Tally(SEED, SOAK_BOTS, SOAK_PROGRAMS), Follower()
    beside = [Beside(yard, chatter, "chatter"), Beside(yard, follower, "follower")]
    try:
        yard.settled()
        for one in beside:
            one.start()
        auditor.light()
        rounds = Rounds(yard, auditor, tally)
        until = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < until:
            rounds.one()
        last = yard.ask("events", limit=1)["last"]
        eventually(lambda: follower.last >= last, PATIENCE, what="the follower has all")
    finally:
        for one in beside:
            one.stop()
    assert not follower.gaps, follower.gaps
    return table(tally, auditor, auditor.final())
