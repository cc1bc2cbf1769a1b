"""The throttle on a simulated machine: it reacts in time, does not swing, holds the right bots, and lets all go."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.policy.throttle import MOST_PATIENCE, Reading, Settings, Subject, Throttle, control, treatments
from tests.unit.policy.host import Host, Trace, herd
from tests.unit.policy.recorded import load

HOUR = 3600.0


def swings(host: Host) -> int:
    """How often the controller turned round."""
    return sum(a[1].direction != b[1].direction for a, b in pairwise(host.changes))


def constant(value: float) -> Trace:
    return lambda now: value


def test_a_calm_machine_is_left_alone() -> None:
    host = Host(constant(30.0), herd(40))
    host.run(HOUR)
    assert host.changes == [] and host.state.level == 0


def test_a_step_is_met_within_bounds_and_everything_comes_back() -> None:
    host = Host(lambda now: 95.0 if 60 <= now < 660 else 10.0, herd(40))
    host.run(660)
    first = host.changes[0][0]
    assert 60 < first <= 60 + 3 * host.settings.react, first
    levels = [change.level for _, change in host.changes]
    assert levels == sorted(levels) and levels[-1] == 4
    host.run(HOUR)
    assert host.state.level == 0 and host.state.held == ()
    assert all(one.pace == 1 and one.nice == 0 for one in treatments(host.state, host.settings, host.subjects).values())
    assert swings(host) == 1


def test_a_load_that_only_fits_without_the_held_bots_does_not_swing_for_ever() -> None:
    host = Host(constant(60.0), herd(40))  # all bots at their pace: 100 %
    host.run(2 * HOUR)
    early = swings(host)
    host.run(3 * HOUR)
    # The patience doubles with each relapse: at the end there are hours between two attempts.
    longest = MOST_PATIENCE * host.settings.recover
    assert early <= 12
    assert swings(host) - early <= 2 * 3 * HOUR / longest


def test_a_sawtooth_does_not_make_it_swing_with_every_tooth() -> None:
    host = Host(lambda now: 40 + (now % 60), herd(10))  # 40 to 100 in a minute, again and again
    host.run(2 * HOUR)
    assert len(host.changes) <= 30, len(host.changes)


def test_spikes_are_ignored() -> None:
    host = Host(lambda now: 100.0 if now % 120 < 6 else 20.0, herd(20))
    host.run(HOUR)
    assert host.changes == []


def test_a_leak_is_met_step_by_step() -> None:
    one = Settings(targets={"memory": 90.0})
    state, levels = Throttle(), []
    subjects = herd(20)
    for tick in range(900):
        state, _ = control(state, one, Reading(memory=60 + tick / 20), subjects, tick * 2.0)
        levels.append(state.level)
    assert levels == sorted(levels) and levels[-1] == 4
    crossed = next(tick for tick in range(900) if 60 + tick / 20 > 90)
    assert levels.index(1) - crossed <= 30 / 2


def test_the_most_important_are_spared_and_the_least_held_first() -> None:
    host = Host(constant(100.0), herd(40))
    host.run(600)
    spared = {one.bot_id for one in host.subjects if one.priority == 9}
    assert not spared & set(host.state.held)
    given = treatments(host.state, host.settings, host.subjects)
    assert {given[bot_id].pace for bot_id in spared} == {1.0}
    paces = {one.priority: given[one.bot_id].pace for one in host.subjects}
    assert [paces[priority] for priority in range(10)] == sorted(paces.values(), reverse=True)
    first = host.changes[2][1]
    priorities = {one.bot_id: one.priority for one in host.subjects}
    assert {priorities[bot_id] for bot_id in first.bots} == {0}


def test_opt_outs_and_floors_hold() -> None:
    subjects = [Subject(1, 0, True, True, throttle=False), Subject(2, 0, True, True, pace_max=1.5)]
    host = Host(constant(100.0), subjects)
    host.run(600)
    given = treatments(host.state, host.settings, host.subjects)
    assert given[1].pace == 1.0 and given[1].hold == "" and given[2].pace == 1.5
    assert host.state.stopped == (2,)


def test_the_most_that_may_be_done_to_a_bot_is_not_exceeded() -> None:
    subjects = [Subject(number, 0, True, True, most=number) for number in range(1, 5)]
    subjects += [Subject(5, 0, True, True, most=3, group="pair"), Subject(6, 0, True, True, group="pair")]
    host = Host(constant(100.0), subjects)
    host.run(HOUR)
    given = treatments(host.state, host.settings, host.subjects)
    assert [given[number].hold for number in range(1, 7)] == ["", "", "pause", "stop", "pause", "pause"]
    assert [given[number].nice > 0 for number in range(1, 5)] == [False, True, True, True]
    assert all(given[number].pace == host.settings.pace for number in range(1, 7))
    host.turn(3, most=2)
    host.look()
    assert 3 not in host.state.held


@pytest.mark.parametrize(
    ("targets", "highest"),
    [({"network": 15.0}, 4), ({"memory": 12.0}, 4), ({"pressure": 90.0}, 4), ({"cpu": 95.0, "network": 15.0}, 4)],
)
def test_a_recorded_machine_is_met_in_time_without_swinging(targets: dict[str, float], highest: int) -> None:
    recording = load("loaded")
    settled = Settings(targets=targets, react=10, recover=30, share=0.25)
    host = Host(constant(0.0), herd(40), settled, recorded=recording)
    host.run(recording.at[-1])
    key = next(iter(targets))
    above = recording.above(key, targets[key])
    sustained = next(at for at in above if sum(at <= one < at + 20 for one in above) >= 18)
    first = next(at for at, change in host.changes if change.direction == "up")
    assert first <= sustained + 3 * host.settings.react, (first, sustained)
    # A step takes at least `react` up and `recover` down; turning round needs both.
    assert swings(host) <= 2 * recording.at[-1] / (host.settings.react + host.settings.recover), swings(host)
    assert 1 <= max(change.level for _, change in host.changes) <= highest
    host.run(2 * HOUR, 15.0)  # the machine has come to rest
    assert host.state.level == 0 and host.state.held == ()
    late = [change.direction for at, change in host.changes if at > recording.at[-1] + host.settings.react]
    assert set(late) <= {"down"}, "nothing is held while the machine rests"


@pytest.mark.parametrize("key", ["cpu", "memory", "pressure", "loop_lag", "network"])
@pytest.mark.parametrize("shape", ["step", "sawtooth", "leak", "spike"])
def test_each_target_meets_each_shape(key: str, shape: str) -> None:
    shapes: dict[str, Trace] = {  # shares of the target
        "step": lambda now: 1.2 if 60 <= now < 660 else 0.1,
        "sawtooth": lambda now: 0.4 + (now % 60) / 100 if now < 660 else 0.1,
        "leak": lambda now: 0.5 + now / 660 if now < 660 else 0.1,
        "spike": lambda now: 2.0 if now % 120 < 4 and now < 660 else 0.2,
    }
    target = 0.5 if key == "loop_lag" else 50.0
    trace = shapes[shape]
    subjects = [replace(one, flat=one.bot_id % 3 > 0) for one in herd(40)]
    host = Host(constant(0.0), subjects, Settings(targets={key: target}))
    host.recorded = lambda now: Reading(**{key: target * trace(now)})
    host.run(660)  # `check` looks at positions, order and paces at every step
    if shape == "spike":
        assert host.changes == []
    if shape in ("step", "leak"):
        over = next(now for now in range(660) if trace(now) > 1.0)
        assert over < host.changes[0][0] <= over + 3 * host.settings.react
        assert swings(host) == 0 and host.state.level >= 3
    host.run(HOUR, 10.0)
    assert host.state.level == 0 and host.state.held == () and swings(host) <= 1


def test_a_group_is_held_and_let_go_together() -> None:
    subjects = [*herd(3), Subject(50, 1, True, True, group="pair"), Subject(51, 4, True, True, group="pair")]
    host = Host(constant(100.0), subjects)
    while 50 not in host.state.held:
        host.look()
    assert 51 in host.state.held
    assert 3 in host.state.held, "a group counts by its most important bot"
    host.turn(51, flat=False)
    host.look()
    assert not {50, 51} & set(host.state.held)


def test_who_holds_a_position_is_never_held_and_let_go_at_once_when_he_does() -> None:
    host = Host(constant(100.0), [replace(one, flat=one.bot_id % 2 == 0) for one in herd(20)])
    host.run(900)
    assert host.state.stopped
    chosen = host.state.stopped[0]
    host.turn(chosen, flat=False)
    host.look()
    assert chosen not in host.state.held


def test_what_is_unknown_moves_nothing() -> None:
    state, subjects = Throttle(base=2, paused=(1,)), herd(4)
    for tick in range(500):
        state, changes = control(state, Settings(), Reading(), subjects, tick * 2.0)
        assert not changes
    assert state.level == 3


levels = st.floats(0, 130, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    trace=st.lists(st.tuples(levels, st.integers(1, 60)), min_size=1, max_size=25),
    bots=st.lists(
        st.builds(
            Subject,
            bot_id=st.integers(1, 10_000),
            priority=st.integers(0, 9),
            flat=st.booleans(),
            running=st.booleans(),
            group=st.sampled_from(["", "", "a", "b"]),
            throttle=st.sampled_from([True, True, False]),
            pace_max=st.sampled_from([1.0, 2.0, 100.0]),
            most=st.sampled_from([0, 1, 2, 3, 4, 4]),
        ),
        max_size=15,
        unique_by=lambda one: one.bot_id,
    ),
    flips=st.lists(st.tuples(st.integers(0, 14), st.booleans()), max_size=25),
)
def test_whatever_the_machine_does(
    trace: list[tuple[float, int]], bots: list[Subject], flips: list[tuple[int, bool]]
) -> None:
    host = Host(constant(0.0), bots)
    for number, (value, looks) in enumerate(trace):
        host.trace = constant(value)
        for _ in range(looks):
            host.look()  # which checks priorities, positions and paces
        if number < len(flips) and bots:
            which, flat = flips[number]
            host.turn(bots[which % len(bots)].bot_id, flat=flat)
    for (a, _), (b, change) in pairwise(host.changes):
        least = host.settings.react if change.direction == "up" else host.settings.recover
        assert b - a >= least, "two steps too close to each other"
    host.trace = constant(0.0)
    while host.state.level and host.now < 24 * HOUR:
        host.look(5.0)
    assert host.state.level == 0 and host.state.held == ()
