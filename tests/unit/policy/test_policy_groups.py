"""Dependencies and groups: who waits, who is restarted, and what is a failure. Tables, no clock."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from supervisor.policy import events as ev
from supervisor.policy.groups import Group, Strategy, affected, blockers, failed, find_cycle, start_order
from supervisor.policy.instructions import RecordEnd, RecordIntent
from supervisor.policy.lifecycle import decide
from supervisor.policy.states import Bot, Cause, Kind, Limits, State, Wanted


def fleet(**states: str) -> dict[int, Bot]:
    """Bots 1, 2, 3 .. in these states; a `!` behind the state: not wanted."""
    return {
        number: Bot(
            number,
            name,
            state=State(state.rstrip("!")),
            wanted=Wanted.STOPPED if state.endswith("!") else Wanted.RUNNING,
        )
        for number, (name, state) in enumerate(states.items(), start=1)
    }


@pytest.mark.parametrize(
    ("after", "cycle"),
    [
        ({}, []),
        ({"a": ["b"], "b": ["c"]}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, []),  # a diamond is no ring
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
        ({"a": ["d", "b"], "b": ["c"], "c": ["a"], "d": []}, ["a", "b", "c", "a"]),
        ({"a": ["unknown"]}, []),
    ],
)
def test_cycles(after: dict[str, list[str]], cycle: list[str]) -> None:
    found = find_cycle(after)
    assert sorted(set(found)) == sorted(set(cycle))
    for one, other in pairwise(found):
        assert other in after[one]


def test_every_ring_in_random_graphs_is_found() -> None:
    rng = Random(3)
    rings = 0
    for _ in range(2000):
        names = [f"n{i}" for i in range(rng.randint(1, 7))]
        after = {name: rng.sample(names, rng.randint(0, min(2, len(names)))) for name in names}
        left = set(names)
        while peel := {name for name in left if not left & set(after[name])}:
            left -= peel  # what is left at the end waits for each other, or for such
        assert bool(find_cycle(after)) == bool(left), after
        rings += bool(left)
    assert 200 < rings < 1900


def test_start_order_follows_after_and_then_ids() -> None:
    assert start_order([3, 1, 2], {}) == (1, 2, 3)
    assert start_order([1, 2, 3], {1: [3]}) == (2, 3, 1)
    assert start_order([1, 2], {1: [9], 9: [2]}) == (2, 1)  # through one that is no member


STRATEGIES: list[tuple[Strategy, int, tuple[int, ...]]] = [
    ("one_for_one", 2, ()),
    ("rest_for_one", 1, (2, 3)),
    ("rest_for_one", 2, (3,)),
    ("rest_for_one", 3, ()),
    ("one_for_all", 2, (1, 3)),
]


@pytest.mark.parametrize(("strategy", "failing", "others"), STRATEGIES)
def test_who_is_restarted_with_a_member_that_failed(strategy: Strategy, failing: int, others: tuple[int, ...]) -> None:
    assert affected(failing, Group("g", strategy, (1, 2, 3))) == others


@pytest.mark.parametrize(
    ("strategy", "states", "waits"),
    [
        # bot 2 of 1, 2, 3; it waits for ..
        ("one_for_one", ("backoff", "backoff", "failed"), []),
        ("rest_for_one", ("running", "backoff", "backoff"), []),
        ("rest_for_one", ("paused", "backoff", "failed"), []),
        ("rest_for_one", ("starting", "backoff", "running"), [1]),
        ("rest_for_one", ("failed", "backoff", "running"), [1]),
        ("rest_for_one", ("stopped!", "backoff", "running"), []),  # its operator does not want it
        ("one_for_all", ("backoff", "backoff", "running"), [1]),
        ("one_for_all", ("running", "backoff", "backoff"), []),  # the later one waits for this one
        ("one_for_all", ("running", "backoff", "failed"), [3]),
    ],
)
def test_what_a_group_makes_wait(strategy: Strategy, states: tuple[str, ...], waits: list[int]) -> None:
    bots = fleet(**dict(zip(("one", "two", "three"), states, strict=True)))
    assert blockers(2, (), Group("g", strategy, (1, 2, 3)), bots) == waits


def test_after_waits_also_for_one_that_nobody_wants_and_not_for_one_that_is_gone() -> None:
    bots = fleet(db="stopped!", cache="running", me="starting")
    assert blockers(3, (1, 2, 99), None, bots) == [1]


@pytest.mark.parametrize(
    ("cause", "state", "is_failure"),
    [
        (Cause.CRASH, State.BACKOFF, True),
        (Cause.HANG, State.STARTING, True),
        (Cause.CLEAN, State.STARTING, True),  # a permanent one must not end
        (Cause.CRASH, State.FAILED, True),
        (Cause.STRATEGY, State.FAILED, True),
        (Cause.CLEAN, State.STOPPED, False),  # transient: it was done
        (Cause.OPERATOR, State.STARTING, False),
        (Cause.DEPENDENCY, State.STARTING, False),  # restarted with its group: no avalanche
        (Cause.LOCK, State.BACKOFF, False),
        (Cause.HOST, State.STARTING, False),
        (Cause.LAUNCH, State.BACKOFF, False),
    ],
)
def test_what_counts_as_a_failure(cause: Cause, state: State, is_failure: bool) -> None:
    before = Bot(1, "a", state=State.RUNNING, wanted=Wanted.RUNNING)
    assert failed(before, Bot(1, "a", state=state, wanted=Wanted.RUNNING), cause) is is_failure


def test_a_held_start_burns_nothing_and_begins_when_it_is_released() -> None:
    rng = Random(1)
    bot = Bot(1, "a", kind="program", limits=Limits(intensity=0))
    bot, _ = decide(bot, ev.WantRunning(1), 0.0, rng)
    bot, _ = decide(bot, ev.Blocked(1, bot.epoch, "waiting for db"), 0.0, rng)
    assert (bot.state, bot.reason, bot.deadline) == (State.BACKOFF, "dependency: waiting for db", None)
    assert bot.failures == () and bot.waits == 0 and bot.count(Cause.DEPENDENCY) == 1
    bot, todo = decide(bot, ev.Unblocked(1), 9.0, rng)
    assert bot.state is State.STARTING and any(isinstance(one, RecordIntent) for one in todo)
    bot, _ = decide(bot, ev.WantStopped(1), 9.0, rng)
    bot, _ = decide(bot, ev.Blocked(1, bot.epoch, "waiting for db"), 9.0, rng)
    assert bot.state is State.STOPPED


def test_a_restart_with_the_group_keeps_the_members_own_failures() -> None:
    rng = Random(1)
    bot = Bot(1, "a", state=State.RUNNING, run="alive", hello=True, epoch=4, wanted=Wanted.RUNNING, failures=(1.0,))
    bot, _ = decide(bot, ev.GroupRestart(1, "db failed"), 2.0, rng)
    assert bot.state is State.STOPPING
    bot, todo = decide(bot, ev.Exited(1, 4, 0, 0, 0), 3.0, rng)
    assert bot.state is State.STARTING and bot.failures == (1.0,) and bot.restarts == 0
    assert next(one for one in todo if isinstance(one, RecordEnd)).cause is Cause.DEPENDENCY


def test_a_file_that_cannot_be_executed_is_tried_again_for_ever_and_told_once() -> None:
    rng = Random(1)
    bot = Bot(1, "a", kind="program", limits=Limits(intensity=2, backoff_initial=1, backoff_max=4))
    bot, _ = decide(bot, ev.WantRunning(1), 0.0, rng)
    alerts, now = 0, 0.0
    for _ in range(20):
        bot, _ = decide(bot, ev.Recorded(1, bot.epoch), now, rng)
        bot, _ = decide(bot, ev.Launched(1, bot.epoch, 77), now, rng)
        bot, _ = decide(bot, ev.HelloSeen(1, bot.epoch), now, rng)
        bot, todo = decide(bot, ev.ExecFailed(1, bot.epoch, 71 << 8, "no such file: /x"), now, rng)
        assert bot.state is State.BACKOFF and bot.deadline is not None and bot.deadline - now <= 4 * 1.2
        assert bot.reason.startswith("launch failed: no such file: /x; retrying in ")
        alerts += sum(getattr(one, "type", "") == "alert" for one in todo)
        now = bot.deadline
        bot, _ = decide(bot, ev.Deadline(1), now, rng)
    assert alerts == 1 and bot.failures == () and bot.count(Cause.LAUNCH) == 20


@pytest.mark.parametrize("code", [65, 78])
def test_exit_codes_that_mean_something_of_bots_are_a_programs_own(code: int) -> None:
    rng = Random(1)
    ready = Bot(1, "a", kind="program", state=State.RUNNING, run="alive", epoch=1, wanted=Wanted.RUNNING)
    bot, _ = decide(ready, ev.Exited(1, 1, code << 8, code, 0), 1.0, rng)
    assert bot.state is State.STARTING and f"exit code {code}" in bot.reason
    as_bot, _ = decide(Bot(1, "a", state=State.RUNNING, run="alive", epoch=1), ev.Exited(1, 1, 0, code, 0), 1.0, rng)
    assert as_bot.state is State.FAILED


def test_a_start_that_waits_for_others_and_is_held_by_the_host_needs_both_words() -> None:
    rng = Random(1)
    bot, _ = decide(Bot(1, "a"), ev.WantRunning(1), 0.0, rng)
    bot, _ = decide(bot, ev.Blocked(1, bot.epoch, "waiting for db"), 0.0, rng)
    bot, todo = decide(bot, ev.HostStop(1, "no place"), 1.0, rng)
    assert (bot.state, todo) == (State.BACKOFF, [])
    bot, todo = decide(bot, ev.Unblocked(1), 2.0, rng)
    assert (bot.state, bot.queued, bot.reason) == (State.STOPPED, True, "no place")
    assert not any(isinstance(one, RecordIntent) for one in todo)
    bot, todo = decide(bot, ev.HostRelease(1), 3.0, rng)
    assert bot.state is State.STARTING and any(isinstance(one, RecordIntent) for one in todo)


@pytest.mark.parametrize("kind", ["program", "gateway"])
@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING, State.STOPPED, State.BACKOFF])
def test_the_host_holds_neither_programs_nor_gateways(kind: Kind, state: State) -> None:
    before = Bot(1, "a", kind=kind, state=state, run="alive", hello=True, epoch=4, wanted=Wanted.RUNNING)
    for event in (ev.HostPause(1, "cpu 97 %"), ev.HostStop(1, "cpu 97 %"), ev.HostRelease(1)):
        after, todo = decide(before, event, 1.0, Random(1))
        assert (after.state, after.held, todo) == (state, "", [])
