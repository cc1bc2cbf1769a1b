"""Fences while the ledger refuses: in force at once, closes only, remembered as soon as it takes them."""

from __future__ import annotations

from typing import Any

import pytest

from broker.gateway.book import Book, FenceState
from broker.gateway.fencing import Fencing
from protocol.messages import Fence, Fenced
from store.errors import StoreError
from store.ledger import FenceRow


class Disk:
    """A writer that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def submit(self, write: Any, done: Any) -> None:
        self.asked.append(done)

    def answer(self, outcome: Any) -> None:
        waiting, self.asked = self.asked, []
        for done in waiting:
            done(outcome)


class Bench:
    def __init__(self) -> None:
        self.disk = Disk()
        self.sent: list[Fenced] = []
        self.opened: list[int] = []
        self.book = Book("gateway", "kernel", [FenceState(7, 3, True, 77, "bot")])
        self.fencing = Fencing(
            self.book,
            self.disk,  # type: ignore[arg-type]
            post=lambda call, *args: call(*args),
            send=self.sent.append,
            barred=lambda fence: None,
            opened=self.opened.append,
            in_flight=lambda *_: False,
        )

    def fence(self, epoch: int, *, alive: bool = True) -> None:
        self.fencing.fence(Fence(id=f"f{epoch}{alive}", bot_id=7, name="bot", epoch=epoch, alive=alive, magic=77))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_full_ledger_lets_the_successor_in_to_close_and_says_so(bench: Bench) -> None:
    bench.fence(4)
    bench.disk.answer(StoreError("database or disk is full"))
    (answer,) = bench.sent
    assert answer.ok and not answer.remembered and "full" in answer.reason
    assert bench.opened == [7] and bench.book.may_attach(7, 4) == ""
    bench.fencing.remember()
    bench.disk.answer(StoreError("database or disk is full"))
    assert len(bench.sent) == 1
    bench.fencing.remember()
    bench.disk.answer(FenceRow(7, 4, True, 77, "bot"))
    assert bench.sent[-1].id == answer.id and bench.sent[-1].ok and bench.sent[-1].remembered
    bench.fencing.remember()
    assert not bench.disk.asked, "what is remembered is not written again"


def test_an_end_that_comes_meanwhile_holds(bench: Bench) -> None:
    bench.fence(4)
    bench.fence(4, alive=False)
    bench.disk.answer(StoreError("database or disk is full"))
    assert [(one.epoch, one.ok) for one in bench.sent] == [(4, True)]
    assert bench.opened == [] and "fenced off" in (bench.book.may_attach(7, 4) or "")


def test_where_the_ledger_knows_better_it_is_withdrawn(bench: Bench) -> None:
    bench.fence(4)
    bench.disk.answer(StoreError("database or disk is full"))
    bench.fencing.remember()
    bench.disk.answer(FenceRow(7, 4, False, 77, "bot"))
    assert not bench.sent[-1].ok and "fenced off" in bench.sent[-1].reason
    assert "fenced off" in (bench.book.may_attach(7, 4) or "")
