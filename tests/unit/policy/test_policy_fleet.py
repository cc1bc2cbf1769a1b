"""The fleet: deadlines, epochs, stopping everything, and its speed."""

from __future__ import annotations

from random import Random
from time import perf_counter

import pytest

from supervisor.policy import events as ev
from supervisor.policy import instructions as do
from supervisor.policy.fleet import Fleet
from supervisor.policy.states import Bot, Limits, State, Wanted


def up(fleet: Fleet, bot_id: int, now: float) -> None:
    fleet.apply(ev.WantRunning(bot_id), now)
    epoch = fleet.bots[bot_id].epoch
    for event in (ev.Recorded(bot_id, epoch), ev.Launched(bot_id, epoch, 9), ev.ReadySeen(bot_id, epoch)):
        fleet.apply(event, now)


def test_the_earliest_deadline_leads_and_moved_ones_vanish() -> None:
    fleet = Fleet(Random(1), [Bot(n, f"b{n}", limits=Limits(start_timeout=10.0 * n)) for n in (1, 2, 3)])
    for n in (3, 2, 1):
        fleet.apply(ev.WantRunning(n), 0.0)
        fleet.apply(ev.Recorded(n, 1), 0.0)
        fleet.apply(ev.Launched(n, 1, n), 0.0)
    assert fleet.next_deadline() == 10.0
    fleet.apply(ev.HelloSeen(1, 1), 1.0)
    assert fleet.next_deadline() == 20.0
    assert fleet.due(30.0) == [2, 3]
    assert fleet.due(30.0) == [2, 3], "due until it is applied"
    instructions = fleet.tick(30.0)
    assert [i.bot_id for i in instructions if isinstance(i, do.SendSignal)] == [2, 3]
    assert fleet.next_deadline() == 31.0


def test_stop_all_leaves_wanted_and_gateways() -> None:
    fleet = Fleet(Random(1), [Bot(1, "a"), Bot(2, "b"), Bot(3, "main", kind="gateway")])
    for n in (1, 2, 3):
        up(fleet, n, 0.0)
    assert sorted(i.bot_id for i in fleet.stop_all(5.0) if isinstance(i, do.SendStop)) == [1, 2]
    for n in (1, 2):
        fleet.apply(ev.Exited(n, 1, 0, 0, 0), 5.1)
    assert fleet.at_rest()
    assert not fleet.at_rest(gateways=True)
    assert [i.bot_id for i in fleet.stop_gateways(6.0) if isinstance(i, do.SendStop)] == [3]
    assert all(bot.wanted is Wanted.RUNNING for bot in fleet.bots.values())


def test_only_a_bot_at_rest_can_be_removed() -> None:
    fleet = Fleet(Random(1), [Bot(1, "a", floor=32)])
    assert fleet.next_epoch(1) == 33
    fleet.apply(ev.WantRunning(1), 0.0)
    with pytest.raises(ValueError, match="a is starting"):
        fleet.remove(1)
    fleet.apply(ev.WantStopped(1), 0.0)
    fleet.apply(ev.Recorded(1, 33), 0.0)
    fleet.remove(1)
    assert fleet.apply(ev.HelloSeen(1, 33), 1.0) == []
    with pytest.raises(KeyError):
        fleet.remove(1)


def test_configuration_changes_and_nothing_else() -> None:
    fleet = Fleet(Random(1), [Bot(1, "a", floor=32)])
    assert fleet.configure(1, priority=9, limits=Limits(intensity=1)).priority == 9
    assert fleet.start_order([1]) == [1]
    with pytest.raises(ValueError, match="state"):
        fleet.configure(1, state=State.RUNNING)
    with pytest.raises(ValueError, match="only rise"):
        fleet.configure(1, floor=3)
    with pytest.raises(ValueError, match="taken by a"):
        fleet.add(Bot(1, "b"))


def test_starts_are_let_in_by_priority() -> None:
    fleet = Fleet(Random(1), [Bot(n, f"b{n}", priority=p) for n, p in ((1, 5), (2, 9), (3, 0), (4, 9))])
    assert fleet.start_order([3, 4, 1, 2]) == [2, 4, 1, 3]


def test_two_thousand_bots_are_fast() -> None:
    """Crash loops of 2,000 bots, each event with its deadline: far more than any stable does."""
    fleet = Fleet(Random(1), [Bot(n, f"b{n}", limits=Limits(intensity=1000)) for n in range(2000)])
    for n in range(2000):
        up(fleet, n, 0.0)
    done, now, began = 0, 1.0, perf_counter()
    while done < 20_000:
        for n in range(2000):
            bot = fleet.bots[n]
            if bot.state is State.RUNNING:
                fleet.apply(ev.Exited(n, bot.epoch, 9, -1, 9), now)
                done += 1
            if fleet.bots[n].state is State.STARTING:
                epoch = fleet.bots[n].epoch
                fleet.apply(ev.Recorded(n, epoch), now)
                fleet.apply(ev.Launched(n, epoch, 9), now)
                fleet.apply(ev.ReadySeen(n, epoch), now)
                done += 3
        fleet.next_deadline()
        now += 60.0
        done += len(fleet.due(now))
        fleet.tick(now)
    rate = done / (perf_counter() - began)
    assert len(fleet._heap) <= 4 * 2000 + 64
    # Generous, so that a busy machine does not fail it; the usual figure is several times this.
    assert rate > 5_000, f"{rate:.0f} events/s"
