"""Who starts now, who has a place, and what one bot may use."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.policy.admission import FIRST_WINDOW, Gate, Means, learned, quota
from supervisor.policy.limits import Allowance, Use, Watch, judge
from supervisor.policy.rotation import Capacity, Place, plan

MEGA = 1_000_000


def test_a_hundred_bots_start_at_once() -> None:
    assert quota(Gate(), Means(), waiting=100, under_way=0, now=0.0) == (100, "")


def test_the_window_follows_what_comes_up_and_what_fails() -> None:
    gate = Gate()
    assert quota(gate.arrived(50), Means(), waiting=1000, under_way=0, now=0.0)[0] == FIRST_WINDOW + 50
    failed = gate.failed(10.0)
    assert quota(failed, Means(), waiting=5, under_way=0, now=10.1)[0] == 0
    assert quota(failed, Means(), waiting=1000, under_way=0, now=11.0)[0] == FIRST_WINDOW / 2
    again = failed.failed(11.0).failed(12.0)
    assert again.shut_until > failed.shut_until + 1.0
    for _ in range(50):
        again = again.failed(13.0)
    assert quota(again, Means(), waiting=9, under_way=0, now=1000.0)[0] == 1


def test_a_late_loop_lets_one_in_at_a_time() -> None:
    late = Means(lag=2.0)
    assert quota(Gate(), late, waiting=9, under_way=0, now=0.0)[0] == 1
    allowed, why = quota(Gate(), late, waiting=9, under_way=1, now=0.0)
    assert allowed == 0 and "2.0 s late" in why
    slower = Gate().lagging(2.0, 5.0)
    assert slower.window < FIRST_WINDOW and slower.lagging(2.0, 5.5) == slower


def test_memory_bounds_the_number() -> None:
    means = Means(available=1000 * MEGA, total=10_000 * MEGA, per_bot=10 * MEGA)  # 500 MB stay free
    allowed, why = quota(Gate(), means, waiting=100, under_way=10, now=0.0)
    assert allowed == 40 and "memory: 1000 MB available" in why
    assert learned(12 * MEGA, [5 * MEGA] * 9) < 12 * MEGA
    assert learned(7, []) == 7


def place(bot_id: int, priority: int = 5, *, seated: bool = False, since: float = 0.0, flat: bool = True) -> Place:
    return Place(bot_id, priority, seated, since, flat)


def test_places_go_by_priority_and_then_to_who_waits_longest() -> None:
    queue = [place(1, since=3.0), place(2, since=1.0), place(3, 8, since=9.0), place(4, 2)]
    assert plan(queue, 2, 10.0).come == (3, 2)


def test_a_more_important_bot_takes_the_place_of_the_least_important_flat_one() -> None:
    seated = [place(1, 5, seated=True), place(2, 1, seated=True, flat=False), place(3, 2, seated=True)]
    found = plan([*seated, place(4, 7), place(5, 3)], 3, 10.0)
    assert found.come == () and found.go == (3,)
    leaving = [replace(one, leaving=one.bot_id == 3) for one in seated]
    assert plan([*leaving, place(4, 7)], 3, 10.0).go == ()


def test_equals_take_turns_when_that_is_asked() -> None:
    seated = [place(1, seated=True, since=0.0), place(2, seated=True, since=50.0)]
    assert plan([*seated, place(3)], 2, 70.0).go == ()
    assert plan([*seated, place(3)], 2, 70.0, rotate=60.0).go == (1,)
    assert plan([*seated, place(3, 4)], 2, 700.0, rotate=60.0).go == ()


@settings(max_examples=100, deadline=None)
@given(
    priorities=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    capacity=st.integers(0, 12),
    stuck=st.sets(st.integers(0, 29)),
)
def test_never_more_than_the_capacity_and_in_the_end_the_most_important(
    priorities: list[int], capacity: int, stuck: set[int]
) -> None:
    places = [place(number, one, flat=number not in stuck) for number, one in enumerate(priorities)]
    for step in range(100):
        found = plan(places, capacity, float(step))
        places = [
            replace(one, seated=one.bot_id in found.come or (one.seated and one.bot_id not in found.go))
            for one in places
        ]
        assert sum(one.seated for one in places) <= capacity
        if not found.come and not found.go:
            break
    else:
        raise AssertionError("it never comes to rest")
    least = min((one.priority for one in places if one.seated and one.flat), default=9)
    assert all(one.priority <= least for one in places if not one.seated) or capacity == 0


def test_fair_rotation_gives_everyone_the_same_time() -> None:
    places = [place(number) for number in range(6)]
    had = dict.fromkeys(range(6), 0)
    for minute in range(60):
        for _ in range(2):  # a place is emptied first, and then given
            found = plan(places, 2, float(minute), rotate=1.0)
            changed = set(found.come) | set(found.go)
            places = [
                replace(one, seated=one.bot_id in found.come, since=float(minute)) if one.bot_id in changed else one
                for one in places
            ]
        for one in places:
            had[one.bot_id] += one.seated
    assert max(had.values()) - min(had.values()) <= 3, had


def test_auto_capacity_grows_when_calm_and_shrinks_with_the_throttle() -> None:
    first = Capacity().adapt(seated=0, waiting=50, held=0, calm=True, room=20, now=0.0, patience=30.0)
    assert first.value == 20
    same = first.adapt(seated=20, waiting=30, held=0, calm=False, room=20, now=100.0, patience=30.0)
    assert same.value == 20
    more = first.adapt(seated=20, waiting=30, held=0, calm=True, room=1, now=100.0, patience=30.0)
    assert more.value == 21
    fewer = more.adapt(seated=21, waiting=30, held=5, calm=False, room=1, now=200.0, patience=30.0)
    assert fewer.value == 16


def steps_of(allowance: Allowance, use: Use, seconds: int) -> list[tuple[int, str]]:
    watch = Watch()
    found: list[tuple[int, str]] = []
    for now in range(seconds):
        watch, verdicts = judge(watch, allowance, use, float(now))
        found += [(now, one.step) for one in verdicts]
    return found


def test_memory_warns_then_restarts_when_flat_then_hard() -> None:
    allowed = Allowance(memory=100 * MEGA, memory_seconds=10)
    assert steps_of(allowed, Use(1, memory=150 * MEGA, flat=False), 60) == [(10, "warn"), (40, "kill")]
    assert steps_of(allowed, Use(1, memory=150 * MEGA, flat=True), 30) == [(10, "warn"), (20, "restart")]
    assert steps_of(allowed, Use(1, memory=99 * MEGA, flat=True), 60) == []
    assert steps_of(allowed, Use(1, memory=None, flat=True), 60) == []


def test_cpu_is_eased_before_a_restart_and_never_killed_for() -> None:
    allowed = Allowance(cpu=50.0, cpu_seconds=10)
    assert steps_of(allowed, Use(1, cpu=90.0, flat=False), 200) == [(10, "ease")]
    assert steps_of(allowed, Use(1, cpu=90.0, flat=True), 60) == [(10, "ease"), (20, "restart")]


def test_a_fresh_run_that_does_not_help_ends_in_quarantine() -> None:
    allowed, watch, steps = Allowance(memory=MEGA, memory_seconds=10, restarts=2), Watch(), []
    epoch = 1
    for now in range(400):
        watch, verdicts = judge(watch, allowed, Use(epoch, memory=2 * MEGA, flat=True), float(now))
        for one in verdicts:
            steps.append(one.step)
            epoch += one.step == "restart"
    assert steps == ["warn", "restart", "warn", "restart", "warn", "quarantine"]
    watch, verdicts = judge(watch, allowed, Use(epoch + 1, memory=2 * MEGA, flat=True), 5000.0)
    assert watch.restarts == () and not verdicts


def test_files_are_warned_of_once() -> None:
    assert steps_of(Allowance(open_files=100), Use(1, open_files=95), 20) == [(0, "warn")]
