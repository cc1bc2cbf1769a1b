"""When a gateway that waits for an account may have it: not while one that restarts may come back."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from broker.mt5 import takeover
from broker.mt5.accountlock import AccountLock
from broker.mt5.takeover import Takeover
from broker.mt5.troubles import Account
from protocol.locks import FileLock, LockHeld

ME = Account(login=7, server="Broker-Live", path="")
LOOKS = [0.0, 1.0, 3.0, 7.0, 12.0, 17.0, 22.0, 27.0, 32.0, 37.0, 42.0, 47.0]


def kept_at(state: Takeover, looks: list[float], held: Callable[[float], bool] = lambda _: False) -> float | None:
    """The first of the looks at which the lock is kept."""
    for now in looks:
        state = state.held("process 5") if held(now) else state.free(now)
        if not held(now) and state.may_keep(now):
            return now
    return None


def test_an_account_that_nobody_held_is_taken_at_once() -> None:
    assert kept_at(Takeover(), LOOKS) == 0.0


def test_one_that_was_held_must_have_been_free_for_half_a_minute() -> None:
    assert kept_at(Takeover().held("process 5"), LOOKS) == 32.0
    assert takeover.SECONDS == 30.0
    assert kept_at(Takeover(), LOOKS, held=lambda now: now == 12.0) == 0.0
    assert kept_at(Takeover().held("process 5"), LOOKS, held=lambda now: now == 12.0) == 47.0, "it came back"


def test_a_host_that_slept_between_two_looks_counts_as_one_more_look() -> None:
    assert kept_at(Takeover().held("process 5"), [0.0, 9_000.0, 9_001.0, 9_002.0]) == 9_002.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "account.lock"


def gateway(file: Path, note: str) -> AccountLock:
    return AccountLock(ME, partial(FileLock, file, note=note))


def test_a_gateway_that_restarts_keeps_its_account_before_one_that_waits(file: Path) -> None:
    first, other = gateway(file, "/a"), gateway(file, "/b")
    assert first.keep(0.0) == ""
    assert f"has a gateway on this host already (process {os.getpid()}, data in /a); stop that one" in other.keep(0.0)
    first.release()  # it crashes
    line = other.keep(5.0)
    assert f"had another gateway on this host (process {os.getpid()}, data in /a), which may come back" in line
    assert "gone for 30 s" in line and not other.kept
    successor = gateway(file, "/a")
    assert successor.keep(7.0) == "", "the one that waits has let go"
    assert "has a gateway on this host already" in other.keep(10.0)
    successor.release()
    told = [(now, bool(other.keep(now))) for now in (15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 44.0, 45.0)]
    assert told == [(now, now < 45.0) for now, _ in told] and other.kept
    late = gateway(file, "/a")
    assert f"(process {os.getpid()}, data in /b)" in late.keep(46.0), "it is told who has its account"
    other.release()


def test_the_moment_of_a_look_of_one_that_waits_is_not_taken_for_a_holder(file: Path) -> None:
    waits: list[FileLock] = [FileLock(file, note="/b")]

    def hold() -> FileLock:
        try:
            return FileLock(file, note="/a")
        except LockHeld:
            waits.pop().release()  # its look is over
            raise

    mine = AccountLock(ME, hold)
    assert mine.keep(0.0) == "" and waits == []
    mine.release()
