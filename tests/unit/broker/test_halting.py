"""The latch of a gateway: in force at once, remembered, lifted only when that is remembered too."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.gateway.halting import Halting
from protocol.halts import HaltState, scope_of, split_key
from store.database import Database, open_database
from store.writer import Writer
from tests.support import eventually


class Latch:
    """A Halting with a real ledger; the test is its service thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.opened: list[tuple[Database, Writer]] = []
        self.halting = self.again()

    def again(self) -> Halting:
        """As after a restart."""
        ledger = open_database(self.folder / "ledger-main.db", "ledger", busy_timeout=0.05)
        writer = Writer(ledger)
        self.opened.append((ledger, writer))
        self.halting = Halting(
            "main", ledger, writer, self.folder, post=lambda *call: self.calls.append((call[0], call[1:])),
            now=lambda: self.now,
        )  # fmt: skip
        return self.halting

    def turn(self, until: Callable[[], Any]) -> Any:
        """Run what is posted until something holds."""

        def look() -> Any:
            while self.calls:
                call, args = self.calls.pop(0)
                call(*args)
            return until()

        return eventually(look)

    def halt(self, **changes: Any) -> str:
        """Halt, and the error that was told."""
        errors: list[str] = []
        fields: dict[str, Any] = {"scope": "all", "reason": "x", "who": "me", "at": 1.0} | changes
        self.halting.halt(HaltState(**fields), lambda _halt, error: errors.append(error))
        self.turn(lambda: errors)
        return errors[0]

    def lift(self, scope: str) -> tuple[list[str], str]:
        told: list[tuple[list[str], str]] = []
        self.halting.lift(scope, "me", lambda keys, error: told.append((keys, error)))
        self.turn(lambda: told)
        return told[0]


@pytest.fixture
def latch(tmp_path: Path) -> Iterator[Latch]:
    made = Latch(tmp_path)
    yield made
    for ledger, writer in made.opened:
        writer.close()
        ledger.close()


def locked(folder: Path) -> sqlite3.Connection:
    other = sqlite3.connect(folder / "ledger-main.db", isolation_level=None)
    other.execute("begin immediate")
    return other


def test_scopes_and_keys() -> None:
    assert [scope_of(None, None), scope_of("main", None), scope_of(None, "b")] == ["all", "account:main", "bot:b"]
    halt = HaltState(scope="bot:b", reason="x", who="guard", at=0, rule="max_daily_loss", until=99)
    assert halt.key == "bot:b/max_daily_loss@99"
    assert split_key(halt.key) == ("bot:b", "max_daily_loss", 99)
    assert halt.covers("main", "b") and not halt.covers("main", "c")


def test_a_halt_holds_over_a_restart_with_its_flatten_until_it_is_lifted(latch: Latch) -> None:
    assert latch.halt(scope="account:main", flatten=True) == ""
    assert latch.halting.why("any") == "halted (account main): x"
    again = latch.again()
    assert [halt.key for halt in again.flattening()] == ["account:main"]
    assert latch.lift("all") == ([], "")
    assert latch.lift("account:main") == (["account:main"], "")
    assert latch.again().standing() == [] and latch.halting.why("any") == ""


def test_the_first_reason_stays_and_a_flatten_can_be_added(latch: Latch) -> None:
    latch.halt(reason="first")
    latch.halt(reason="second", flatten=True)
    (halt,) = latch.again().standing()
    assert (halt.reason, halt.flatten) == ("first", True)


def test_what_the_disk_refuses_is_in_force_and_written_later_and_nothing_is_lifted_meanwhile(latch: Latch) -> None:
    other = locked(latch.folder)
    assert "locked" in latch.halt(scope="bot:b")
    assert latch.halting.why("b") and not latch.halting.why("c")
    assert not latch.halting.standing()[0].remembered
    keys, error = latch.lift("bot:b")
    assert keys == [] and "could not be remembered" in error
    assert latch.halting.why("b")
    other.rollback()
    latch.halting.pulse()
    latch.turn(lambda: latch.halting.standing()[0].remembered)
    assert latch.again().why("b")
    other.close()


def test_halted_anew_while_it_is_being_lifted_it_stays(latch: Latch) -> None:
    latch.halt()
    told: list[Any] = []
    latch.halting.lift("all", "me", lambda *answer: told.append(answer))
    latch.halting.latch(HaltState(scope="all", reason="again", who="other", at=2.0))
    latch.turn(lambda: told)
    assert told == [([], "")] and latch.halting.why("b")
    latch.turn(lambda: latch.halting.standing()[0].remembered)
    assert latch.again().why("b")


def test_the_file_latches_also_before_the_start_and_must_go_before_the_lift(latch: Latch) -> None:
    (latch.folder / "HALT").write_text("fire \n alarm")
    latch.halting.pulse()
    assert latch.halting.why("b") == "halted (everything): fire alarm"
    keys, error = latch.lift("all")
    assert keys == [] and "remove it first" in error
    (latch.folder / "HALT").unlink()
    latch.halting.pulse()
    assert latch.halting.why("b")
    assert latch.lift("all") == (["all"], "")
    (latch.folder / "HALT").write_text("")
    assert latch.again().why("b") == "halted (everything): the file HALT"


def test_a_guards_halt_ends_at_its_time_or_is_forgiven_for_good(latch: Latch) -> None:
    lost = HaltState(scope="bot:b", reason="lost", who="guard", at=1.0, rule="max_daily_loss", until=2000)
    latch.halting.latch(lost)
    latch.turn(lambda: latch.halting.standing()[0].remembered)
    assert "max_daily_loss" in latch.again().why("b")
    latch.now = 2000
    assert latch.halting.why("b") == ""
    latch.halting.pulse()
    latch.turn(lambda: latch.again().standing() == [])
    other = lost.model_copy(update={"until": 3000})
    latch.halting.latch(other)
    latch.turn(lambda: latch.halting.standing()[0].remembered)
    assert not latch.halting.forgiven(other.key)
    assert latch.lift("bot:b")[0] == [other.key]
    assert latch.halting.forgiven(other.key) and latch.again().forgiven(other.key)
