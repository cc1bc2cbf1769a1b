"""Lockstep: who is waited for, and in what order the orders of a bar are executed."""

from __future__ import annotations

import random

import pytest

from broker.gateway.lockstep import Lockstep, Turn
from protocol.messages import Order, RosterEntry


def entry(bot_id: int, timeframe: str = "H1", running: bool = True) -> RosterEntry:
    return RosterEntry(
        bot_id=bot_id, name=f"b{bot_id}", symbol="EURUSD", timeframe=timeframe, magic=bot_id, running=running
    )


def order(bot_id: int, seq: int = 1) -> Order:
    return Order(
        installation="i",
        bot_id=bot_id,
        epoch=1,
        seq=seq,
        gateway_boot="g",
        decision="EURUSD|H1|0",
        bar_time=0,
        decided_at=0.0,
        decided_mono=0.0,
        action="open",
        symbol="EURUSD",
        magic=bot_id,
    )


def ready(*bot_ids: int, timeframe: str = "H1") -> Lockstep:
    lockstep = Lockstep()
    lockstep.roster([entry(bot_id, timeframe) for bot_id in bot_ids])
    for bot_id in bot_ids:
        lockstep.attach(bot_id, 1, "EURUSD", timeframe)
    return lockstep


def close_bar(lockstep: Lockstep, number: int, timeframe: str = "H1") -> None:
    assert lockstep.next()[0] is Turn.STEP
    lockstep.stepped({("EURUSD", timeframe): number})


def test_the_feed_holds_without_a_roster_and_until_all_have_attached() -> None:
    lockstep = Lockstep()
    assert lockstep.next()[0] is Turn.WAIT
    lockstep.roster([entry(1), entry(2), entry(3, running=False)])
    lockstep.attach(1, 1, "EURUSD", "H1")
    assert lockstep.next()[0] is Turn.WAIT
    assert lockstep.waiting_for() == [2]
    lockstep.attach(2, 1, "EURUSD", "H1")
    assert lockstep.next()[0] is Turn.STEP
    assert lockstep.next()[0] is Turn.WAIT, "one step at a time"


@pytest.mark.parametrize("seed", range(5))
def test_orders_are_executed_by_bot_id_however_they_arrive(seed: int) -> None:
    lockstep = ready(*range(1, 9))
    close_bar(lockstep, 1)
    arrival = list(range(1, 9))
    random.Random(seed).shuffle(arrival)
    for bot_id in arrival[:-1]:
        lockstep.order(order(bot_id))
        assert lockstep.next()[0] is Turn.WAIT
    lockstep.order(order(arrival[-1]))
    turn, orders = lockstep.next()
    assert turn is Turn.EXECUTE
    assert [one.bot_id for one in orders] == list(range(1, 9))


def test_rounds_go_on_until_all_are_done() -> None:
    lockstep = ready(1, 2)
    close_bar(lockstep, 1)
    lockstep.order(order(2))
    lockstep.bar_done(1, 1, 1)
    assert [one.bot_id for one in lockstep.next()[1]] == [2]
    assert lockstep.next()[0] is Turn.WAIT, "the terminal is at it"
    lockstep.executed()
    assert lockstep.waiting_for() == [2]
    lockstep.order(order(2, seq=2))
    assert lockstep.next()[0] is Turn.EXECUTE
    lockstep.executed()
    lockstep.bar_done(2, 1, 1)
    assert lockstep.next()[0] is Turn.STEP


def test_a_bot_owes_an_answer_only_for_its_own_bars() -> None:
    lockstep = Lockstep()
    lockstep.roster([entry(1), entry(2, "H4")])
    lockstep.attach(1, 1, "EURUSD", "H1")
    lockstep.attach(2, 1, "EURUSD", "H4")
    close_bar(lockstep, 1)
    assert lockstep.waiting_for() == [1]
    lockstep.bar_done(1, 1, 1)
    assert lockstep.next()[0] is Turn.STEP
    lockstep.stepped({("EURUSD", "H1"): 2, ("EURUSD", "H4"): 1})
    assert lockstep.waiting_for() == [1, 2]


def test_a_word_about_an_earlier_bar_or_of_an_old_run_says_nothing() -> None:
    lockstep = ready(1)
    close_bar(lockstep, 5)
    lockstep.bar_done(1, 1, 4)
    lockstep.bar_done(1, 0, 5)
    assert lockstep.waiting_for() == [1]


def test_a_bot_fenced_off_is_not_waited_for_and_its_order_comes_back() -> None:
    lockstep = ready(1, 2)
    close_bar(lockstep, 1)
    lockstep.order(order(1))
    assert [one.bot_id for one in lockstep.fenced(1, 1, alive=False)] == [1]
    lockstep.bar_done(2, 1, 1)
    assert lockstep.next()[0] is Turn.STEP


def test_a_successor_is_waited_for_until_it_attaches() -> None:
    lockstep = ready(1, 2)
    close_bar(lockstep, 1)
    lockstep.bar_done(2, 1, 1)
    lockstep.fenced(1, 2, alive=True)
    assert lockstep.next()[0] is Turn.WAIT
    assert lockstep.waiting_for() == [1]
    lockstep.attach(1, 2, "EURUSD", "H1")
    assert lockstep.next()[0] is Turn.STEP


def test_a_fence_repeated_for_the_attached_epoch_forgives_nothing() -> None:
    lockstep = ready(1)
    close_bar(lockstep, 1)
    assert lockstep.fenced(1, 1, alive=True) == []
    assert lockstep.waiting_for() == [1]


def test_dropped_from_the_roster_and_detached_are_not_waited_for() -> None:
    lockstep = ready(1, 2, 3)
    close_bar(lockstep, 1)
    lockstep.order(order(2))
    assert [one.bot_id for one in lockstep.roster([entry(1), entry(2, running=False), entry(3)])] == [2]
    assert lockstep.leave(3, 1) == []
    lockstep.bar_done(1, 1, 1)
    assert lockstep.next()[0] is Turn.STEP
    lockstep.stepped({("EURUSD", "H1"): 2})
    assert lockstep.waiting_for() == [1]
    lockstep.leave(1, 1)
    assert lockstep.next()[0] is Turn.WAIT, "nobody trades: time stands still"
