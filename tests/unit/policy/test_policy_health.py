"""Verdicts about hangs, and when they wait."""

from __future__ import annotations

import pytest

from supervisor.policy.health import Suspect, Suspension, after_suspension, judge, judge_voice


@pytest.mark.parametrize(
    ("beat_age", "progress_age", "lag", "verdict"),
    [
        pytest.param(0.5, 1.0, 0.0, None, id="well"),
        pytest.param(5.9, 0.0, 0.0, None, id="two_heartbeats_lost"),
        pytest.param(6.1, 0.0, 0.0, "no heartbeat for 6.1 s", id="silent"),
        pytest.param(0.5, 30.5, 0.0, "analyse for 30 s, 30 s allowed", id="alive_and_stuck"),
        pytest.param(0.5, 30.5, 2.0, None, id="stuck_by_the_machine"),
    ],
)
def test_verdicts(beat_age: float, progress_age: float, lag: float, verdict: str | None) -> None:
    assert judge(beat_age, progress_age, 30.0, "analyse", 1.0, 6.0, lag) == verdict


def test_a_phase_without_limit_and_a_slow_heartbeat() -> None:
    assert judge(1.0, 9999.0, 0.0, "idle", 1.0, 6.0) is None
    assert judge(20.0, 0.0, 30.0, "idle", 10.0, 6.0) is None


@pytest.mark.parametrize(
    ("heard", "since", "progress_age", "verdict"),
    [
        pytest.param(None, 29.0, 0.0, None, id="not_heard_yet"),
        pytest.param(None, 30.5, 0.0, "on the bus: no heartbeat for 30 s", id="never_heard"),
        pytest.param(5.9, 99.0, 0.0, None, id="well"),
        pytest.param(6.1, 99.0, 0.0, "on the bus: no heartbeat for 6.1 s", id="silent"),
        pytest.param(6.1, 7.0, 0.0, "on the bus: no heartbeat for 6.1 s", id="silent_soon_after_its_start"),
        pytest.param(0.5, 99.0, 4.5, None, id="at_work"),
        pytest.param(0.5, 99.0, 5.5, "on the bus: no progress for 5.5 s, 5 s allowed", id="alive_and_stuck"),
    ],
)
def test_verdicts_on_programs(heard: float | None, since: float, progress_age: float, verdict: str | None) -> None:
    assert judge_voice(heard, since, progress_age, 5.0, 1.0, 6.0, 30.0) == verdict


def test_a_short_start_timeout_makes_nobody_hang_who_may_be_silent_longer() -> None:
    assert judge_voice(None, 5.5, 0.0, 0.0, 1.0, 6.0, 2.0) is None
    assert judge_voice(None, 6.5, 0.0, 0.0, 1.0, 6.0, 2.0) is not None


def test_suspended_for_a_while_and_not_for_ever() -> None:
    calm = Suspension(longest=60.0, calm=5.0)
    assert not calm.active(0.0)
    bad = calm.observe(True, 100.0).observe(True, 159.0)
    assert bad.active(159.0)
    assert not bad.active(160.0)
    assert bad.exhausted(160.0)
    # Flickering does not buy more time: the suspension began at 100.
    flicker = bad.observe(False, 161.0).observe(True, 163.0)
    assert flicker.exhausted(163.0)
    assert not flicker.active(163.0)
    over = flicker.observe(False, 164.0).observe(False, 169.0)
    assert over == calm
    assert over.observe(True, 170.0).active(170.0)


def test_after_it_the_heaviest_are_judged_first() -> None:
    suspects = [Suspect(1, 3.0, "a"), Suspect(2, 0.1, "starved"), Suspect(3, 50.0, "b")]
    assert [s.bot_id for s in after_suspension(suspects)] == [3, 1]
