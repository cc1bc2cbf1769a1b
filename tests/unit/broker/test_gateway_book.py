"""Which orders the gateway's book refuses, and what it remembers of those that it has seen."""

from __future__ import annotations

from typing import Any

import pytest

from broker.gateway.book import Book, FenceState, Sight
from protocol.messages import Order, OrderResult

BOOT, KERNEL, NOW, TTL = "gateway-1", "kernel-1", 1000.0, 30.0


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "installation": "inst",
        "bot_id": 7,
        "epoch": 3,
        "seq": 1,
        "gateway_boot": BOOT,
        "decision": "EURUSD|H1|3600",
        "bar_time": 3600,
        "decided_at": 0.0,
        "decided_mono": NOW - 1.0,
        "boot_id": KERNEL,
        "action": "open",
        "symbol": "EURUSD",
        "volume": 0.1,
        "magic": 77,
    }
    return Order(**{**fields, **changes})


@pytest.fixture
def book() -> Book:
    book = Book(BOOT, KERNEL, [FenceState(7, 3, True, 77, "bot")])
    book.heard = True
    book.last_closed["EURUSD", "H1"] = 3600
    return book


def test_a_sound_order_passes(book: Book) -> None:
    assert book.refuse(order(), NOW, TTL) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gateway_boot": "gateway-0"}, "another gateway process"),
        ({"epoch": 2}, "old epoch 2"),
        ({"epoch": 4}, "no fence stands"),
        ({"bot_id": 8}, "no fence stands"),
        ({"magic": 78}, "magic 78"),
        ({"decided_mono": NOW - 31.0}, "decided 31.0 s ago"),
        ({"decided_mono": NOW + 5.0}, "in the future"),
        ({"decision": "EURUSD|H1|0", "bar_time": 0}, "last closed one is of 3600"),
        ({"decision": "EURUSD|H4|3600"}, "no closed bar of EURUSD H4"),
        ({"decision": "GBPUSD|H1|3600"}, "not of this order's symbol"),
        ({"decision": "nonsense"}, "is not symbol|timeframe|bar_time"),
    ],
)
def test_refused(book: Book, changes: dict[str, Any], why: str) -> None:
    assert why in book.refuse(order(**changes), NOW, TTL)


def test_age_is_not_judged_by_another_machine_s_clock(book: Book) -> None:
    assert book.refuse(order(decided_mono=5.0, boot_id="kernel-2"), NOW, TTL) == ""


WALL = 1_790_000_000.0


@pytest.mark.parametrize("apart", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize(
    ("age", "why"), [(2.0, ""), (29.0, ""), (31.0, "decided 31.0 s ago"), (-0.5, ""), (-31.0, "in the future")]
)
def test_another_host_s_decision_is_judged_by_this_gateway_s_own_clock(
    book: Book, apart: float, age: float, why: str
) -> None:
    """`apart`: seconds between the wall clocks of the two hosts."""
    there = order(boot_id="kernel-2", decided_mono=5.0, decided_clock=NOW - age, decided_at=WALL - age + apart)
    reason = book.refuse(there, NOW, TTL, WALL)
    assert why in reason and bool(reason) is bool(why)


def test_only_a_run_that_does_not_know_this_gateway_s_clock_is_judged_by_the_time_of_day(book: Book) -> None:
    old = order(boot_id="kernel-2", decided_mono=5.0, decided_at=WALL - 31.0)
    assert "by the clocks of two hosts" in book.refuse(old, NOW, TTL, WALL)
    assert book.refuse(old.model_copy(update={"decided_at": WALL - 29.0}), NOW, TTL, WALL) == ""


def test_a_close_may_come_of_an_older_bar_but_not_of_an_old_epoch(book: Book) -> None:
    late = order(action="close", decision="EURUSD|H1|0", bar_time=0, position=1)
    assert book.refuse(late, NOW, TTL) == ""
    assert "old epoch" in book.refuse(order(action="close", epoch=2, position=1), NOW, TTL)


def test_second_entry_for_one_decision_is_refused_in_any_epoch(book: Book) -> None:
    book.accept(order(), "a")
    assert "has had its entry" in book.refuse(order(seq=2), NOW, TTL)
    fence = FenceState(7, 4, True, 77, "bot")
    assert book.fence(fence) == ""
    book.confirm(fence)
    assert "has had its entry" in book.refuse(order(epoch=4), NOW, TTL)


def test_without_a_word_from_a_supervisor_only_closes() -> None:
    book = Book(BOOT, KERNEL, [FenceState(7, 3, True, 77)])
    book.last_closed["EURUSD", "H1"] = 3600
    assert "no supervisor" in book.refuse(order(), NOW, TTL)
    assert book.refuse(order(action="close", position=1), NOW, TTL) == ""


def test_leaving_means_closes_only(book: Book) -> None:
    book.closing = True
    assert "leaving" in book.refuse(order(), NOW, TTL)
    assert book.refuse(order(action="close", position=1), NOW, TTL) == ""


def test_a_fence_bars_the_old_epoch_at_once_and_admits_the_new_one_only_when_durable(book: Book) -> None:
    fence = FenceState(7, 4, True, 77)
    assert book.fence(fence) == ""
    assert "old epoch" in book.veto(order(), NOW, TTL)
    assert "fenced off" in book.veto(order(epoch=4), NOW, TTL)
    assert book.may_attach(7, 4) is None
    assert book.confirm(fence)
    assert book.veto(order(epoch=4), NOW, TTL) == ""
    assert book.may_attach(7, 4) == ""
    assert "old" in (book.may_attach(7, 3) or "")


def test_an_epoch_whose_fence_is_not_remembered_may_close_and_not_enter(book: Book) -> None:
    fence = FenceState(7, 4, True, 77)
    assert book.fence(fence) == "" and book.admit_closes(fence)
    assert book.may_attach(7, 4) == ""
    assert "old epoch" in book.veto(order(action="close", position=1), NOW, TTL)
    assert book.veto(order(epoch=4, action="close", position=1), NOW, TTL) == ""
    assert "NOT remembered: closes only" in book.veto(order(epoch=4), NOW, TTL)
    assert book.fence(fence) == "" and book.admit_closes(fence)  # asked again: still closes only
    assert "closes only" in book.veto(order(epoch=4), NOW, TTL)
    assert book.confirm(fence)  # the disk took it
    assert book.veto(order(epoch=4), NOW, TTL) == ""
    assert book.admit_closes(fence)  # asked again while the disk refuses anew: what is in the ledger stays
    assert book.veto(order(epoch=4), NOW, TTL) == ""
    assert book.fence(FenceState(7, 4, False, 77)) == ""
    assert not book.admit_closes(fence), "an end is not taken back by a disk that refuses"


def test_an_epoch_fenced_off_never_comes_back(book: Book) -> None:
    assert book.fence(FenceState(7, 3, False, 77)) == ""
    assert "fenced off" in book.refuse(order(), NOW, TTL)
    assert "for good" in book.fence(FenceState(7, 3, True, 77))
    assert "known already" in book.fence(FenceState(7, 2, True, 77))
    assert not book.confirm(FenceState(7, 3, True, 77)), "a late confirmation must not revive it"
    assert "fenced off" in (book.may_attach(7, 3) or "")


def test_a_fence_repeated_for_the_living_epoch_does_not_interrupt_it(book: Book) -> None:
    assert book.fence(FenceState(7, 3, True, 77)) == ""
    assert book.refuse(order(), NOW, TTL) == ""


def test_a_repeated_id_is_answered_by_its_result(book: Book) -> None:
    assert book.sight(order(), "a") == (Sight.NEW, None)
    book.accept(order(), "a")
    assert book.sight(order(), "a") == (Sight.UNDER_WAY, None)
    assert book.sight(order(), "b") == (Sight.OTHER_PAYLOAD, None)
    result = OrderResult(id=order().id, status="done", deal=5)
    book.settle(result)
    assert book.sight(order(), "a") == (Sight.KNOWN, result)
    assert book.asked(order().id) == (Sight.KNOWN, result)


def test_unknown_gives_way_to_the_truth_and_the_truth_stays(book: Book) -> None:
    book.accept(order(), "a")
    book.settle(OrderResult(id=order().id, status="unknown"))
    done = OrderResult(id=order().id, status="done", deal=5)
    book.settle(done)
    book.settle(OrderResult(id=order().id, status="refused"))
    assert book.sight(order(), "a") == (Sight.KNOWN, done)


def test_an_id_asked_for_before_it_came_is_refused_when_it_comes(book: Book) -> None:
    assert book.asked(order().id)[0] is Sight.LOOK_UP
    book.tombstone(order().id)
    sight, result = book.sight(order(), "a")
    assert sight is Sight.KNOWN
    assert result is not None
    assert result.status == "refused"


def test_a_number_already_passed_is_looked_up_in_the_ledger(book: Book) -> None:
    book.accept(order(seq=5), "a")
    assert book.sight(order(seq=4), "b")[0] is Sight.LOOK_UP
    assert book.sight(order(seq=6, gateway_boot="gateway-0"), "b")[0] is Sight.LOOK_UP
    assert book.sight(order(seq=6), "b")[0] is Sight.NEW
