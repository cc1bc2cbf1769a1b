"""Restart policies, backoff in numbers, and the reasons as a person reads them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from supervisor.policy import events as ev
from supervisor.policy import instructions as do
from supervisor.policy.lifecycle import decide
from supervisor.policy.restart import backoff, seconds
from supervisor.policy.states import Bot, Cause, Kind, Limits, State, Wanted


class Exact(Random):
    """No jitter: always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def step(bot: Bot, event: ev.Event, now: float) -> tuple[Bot, list[do.Instruction]]:
    return decide(bot, event, now, Exact())


def running(limits: Limits | None = None, kind: Kind = "bot", now: float = 100.0, **more: Any) -> Bot:
    """A bot that went the whole way up."""
    bot = Bot(7, "alpha", kind=kind, limits=limits or Limits(), **more)
    bot, _ = step(bot, ev.WantRunning(7), now)
    return come_up(bot, now)


def come_up(bot: Bot, now: float) -> Bot:
    assert bot.state is State.STARTING
    for event in (
        ev.Recorded(7, bot.epoch),
        ev.Launched(7, bot.epoch, 4711),
        ev.HelloSeen(7, bot.epoch),
        ev.ReadySeen(7, bot.epoch),
    ):
        bot, _ = step(bot, event, now)
    assert bot.state is State.RUNNING
    return bot


def crash(bot: Bot, now: float) -> Bot:
    return step(bot, ev.Exited(7, bot.epoch, 9, -1, 9), now)[0]


CRASH: dict[str, Any] = {"status": 9, "code": -1, "signal": 9}
ERROR: dict[str, Any] = {"status": 256, "code": 1, "signal": 0}
CLEAN: dict[str, Any] = {"status": 0, "code": 0, "signal": 0}
OOM: dict[str, Any] = {"status": 9, "code": -1, "signal": 9, "oom": True}


@pytest.mark.parametrize(
    ("policy", "end", "state", "cause", "reason"),
    [
        pytest.param(
            "permanent",
            CRASH,
            "starting",
            "crash",
            "crashed (signal 9); restarting at once (1 of 5)",
            id="permanent_crash",
        ),
        pytest.param(
            "permanent",
            ERROR,
            "starting",
            "crash",
            "crashed (exit code 1); restarting at once (1 of 5)",
            id="permanent_error",
        ),
        pytest.param(
            "permanent",
            CLEAN,
            "starting",
            "clean",
            "ended by itself (exit code 0); restarting at once (1 of 5)",
            id="permanent_clean_exit",
        ),
        pytest.param(
            "permanent",
            OOM,
            "starting",
            "oom",
            "out of memory (signal 9); restarting at once (1 of 5)",
            id="permanent_oom",
        ),
        pytest.param(
            "transient",
            CRASH,
            "starting",
            "crash",
            "crashed (signal 9); restarting at once (1 of 5)",
            id="transient_crash",
        ),
        pytest.param(
            "transient",
            ERROR,
            "starting",
            "crash",
            "crashed (exit code 1); restarting at once (1 of 5)",
            id="transient_error",
        ),
        pytest.param(
            "transient",
            CLEAN,
            "stopped",
            "clean",
            "ended by itself (exit code 0); not restarted (transient)",
            id="transient_clean_exit",
        ),
        pytest.param(
            "temporary",
            CRASH,
            "stopped",
            "crash",
            "crashed (signal 9); not restarted (temporary)",
            id="temporary_crash",
        ),
        pytest.param(
            "temporary",
            CLEAN,
            "stopped",
            "clean",
            "ended by itself (exit code 0); not restarted (temporary)",
            id="temporary_clean_exit",
        ),
        pytest.param(
            "temporary",
            {"status": 65 << 8, "code": 65, "signal": 0, "detail": "fast must be below slow"},
            "failed",
            "strategy",
            "fast must be below slow",
            id="temporary_strategy_cannot_be_built",
        ),
        pytest.param(
            "permanent",
            {"status": -1, "code": -1, "signal": 0},
            "starting",
            "unknown",
            "gone, nobody saw how; counted as a crash; restarting at once (1 of 5)",
            id="permanent_unknown",
        ),
    ],
)
def test_policy_after_an_end(policy: Any, end: dict[str, Any], state: str, cause: str, reason: str) -> None:
    bot = running(Limits(restart=policy))
    after, instructions = step(bot, ev.Exited(7, bot.epoch, **end), 105.0)
    assert (after.state, after.reason) == (state, reason)
    assert after.wanted is Wanted.RUNNING
    assert after.count(Cause(cause)) == 1
    assert sum(number for _, number in after.counts) == 1
    recorded = next(i for i in instructions if isinstance(i, do.RecordEnd))
    assert (recorded.epoch, recorded.status, recorded.cause) == (bot.epoch, end["status"], cause)
    if state == "starting":
        assert do.RecordIntent(7, bot.epoch + 1) in instructions
        assert after.restarts == 1
    else:
        assert do.SendFence(7, bot.epoch, alive=False) in instructions
        assert after.deadline is None


def test_backoff_doubles_and_ends_in_quarantine() -> None:
    bot, now, waits = running(), 100.0, []
    reasons = []
    for _ in range(6):
        bot = crash(bot, now)
        reasons.append(bot.reason)
        if bot.state is State.BACKOFF:
            assert bot.deadline is not None
            waits.append(bot.deadline - now)
            assert step(bot, ev.Deadline(7), bot.deadline - 0.001)[0] is bot, "too early"
            now = bot.deadline
            bot, _ = step(bot, ev.Deadline(7), now)
        if bot.state is State.STARTING:
            bot = come_up(bot, now)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert reasons[0] == "crashed (signal 9); restarting at once (1 of 5)"
    assert reasons[3] == "crashed (signal 9); restarting in 4 s (4 of 5)"
    assert bot.state is State.FAILED
    assert reasons[5] == "crashed (signal 9); given up (6 failures in 60 s, 5 allowed)"
    # An operator gives it a clean slate.
    bot, _ = step(bot, ev.WantRunning(7), now)
    assert (bot.failures, bot.attempts, bot.state) == ((), 0, State.STARTING)


def test_quarantine_alerts_and_fences() -> None:
    bot = running(Limits(intensity=0))
    after, instructions = step(bot, ev.Exited(7, bot.epoch, **CRASH), 101.0)
    assert after.state is State.FAILED
    assert [i.type for i in instructions if isinstance(i, do.Note)] == ["alert", "state"]
    assert do.SendFence(7, bot.epoch, alive=False) in instructions


@pytest.mark.parametrize("offset", [-0.001, 0.0, 0.001])
def test_crash_around_stable_after_counts_in_the_window(offset: float) -> None:
    """Becoming stable shortens the wait, and never empties the window: no crash loop without an end."""
    bot, now = running(Limits(intensity=3, stable_after=10.0)), 100.0
    states = []
    for _ in range(4):
        now += 10.0 + offset
        if bot.deadline is not None and now >= bot.deadline:
            bot, _ = step(bot, ev.Deadline(7), now)
        bot = crash(bot, now)
        states.append(bot.state)
        if bot.state is State.BACKOFF:
            assert bot.deadline is not None
            assert bot.deadline - now == (1.0 if offset >= 0 else 2.0 ** (len(states) - 2))
            now = bot.deadline
            bot, _ = step(bot, ev.Deadline(7), now)
        if bot.state is State.STARTING:
            bot = come_up(bot, now)
    assert states == [State.STARTING, State.BACKOFF, State.BACKOFF, State.FAILED]


def test_old_failures_leave_the_window() -> None:
    bot, now = running(Limits(intensity=1, period=60.0)), 100.0
    for _ in range(5):
        now += 61.0
        bot, _ = step(bot, ev.Deadline(7), now)
        bot = crash(bot, now)
        assert bot.reason.endswith("restarting at once (1 of 1)")
        bot = come_up(bot, now)


def test_a_short_window_is_no_way_round_the_backoff() -> None:
    """Never stable, and every failure alone in its window: the wait grows all the same."""
    bot, now, waits = running(Limits(period=0.5)), 100.0, []
    for _ in range(4):
        bot = crash(bot, now)
        if bot.state is State.BACKOFF:
            assert bot.deadline is not None
            waits.append(bot.deadline - now)
            now = bot.deadline
            bot, _ = step(bot, ev.Deadline(7), now)
        bot = come_up(bot, now + 0.1)
        now += 1.0
    assert waits == [1.0, 2.0, 4.0]


def test_backoff_is_capped_and_jittered() -> None:
    limits = Limits(backoff_initial=1.0, backoff_max=60.0)
    assert [backoff(limits, n, Exact()) for n in (1, 2, 3, 7, 8, 5000)] == [1.0, 2.0, 4.0, 60.0, 60.0, 60.0]
    rng = Random(3)
    drawn = [backoff(limits, 3, rng) for _ in range(500)]
    assert 3.2 <= min(drawn) < 3.3 < 4.7 < max(drawn) <= 4.8


def test_a_gateway_is_never_given_up() -> None:
    bot, now, alerts = running(Limits(intensity=2), kind="gateway"), 100.0, 0
    for _ in range(8):
        bot, instructions = step(bot, ev.Exited(7, bot.epoch, **CRASH), now)
        assert not any(isinstance(i, do.SendFence) for i in instructions)
        alerts += sum(isinstance(i, do.Note) and i.type == "alert" for i in instructions)
        if bot.state is State.BACKOFF:
            assert bot.deadline is not None
            now = bot.deadline
            bot, _ = step(bot, ev.Deadline(7), now)
        bot = come_up(bot, now)
    assert alerts >= 1
    bot, _ = step(bot, ev.Exited(7, bot.epoch, 78 << 8, 78, 0, "no file EURUSD_H1.csv"), now)
    assert (bot.state, bot.reason) == (State.FAILED, "no file EURUSD_H1.csv")


def test_launch_errors_say_what_happens_next_and_burn_no_budget() -> None:
    bot, _ = step(Bot(7, "alpha"), ev.WantRunning(7), 100.0)
    now, waits, reasons = 100.0, [], []
    for _ in range(7):
        bot, _ = step(bot, ev.Recorded(7, bot.epoch), now)
        bot, _ = step(bot, ev.LaunchFailed(7, bot.epoch, Cause.LAUNCH, "ENOMEM"), now)
        assert bot.state is State.BACKOFF
        assert bot.deadline is not None
        waits.append(bot.deadline - now)
        reasons.append(bot.reason)
        now = bot.deadline
        bot, _ = step(bot, ev.Deadline(7), now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert reasons[2] == "launch failed: ENOMEM; retrying in 4 s (3 of 5)"
    assert reasons[5] == "launch failed: ENOMEM; retrying in 32 s (failed 6 times in a row)"
    assert (bot.failures, bot.count(Cause.LAUNCH), bot.count(Cause.CRASH)) == ((), 7, 0)


def test_what_is_not_the_bots_fault_burns_nothing() -> None:
    """Dependency, held lock, refusing disk, low fence."""
    bot, _ = step(Bot(7, "alpha", limits=Limits(intensity=0)), ev.WantRunning(7), 100.0)
    bot, _ = step(bot, ev.RecordFailed(7, 1, "database is locked"), 100.0)
    assert bot.reason == "start NOT recorded: database is locked; retrying in 1 s"
    bot, _ = step(bot, ev.Deadline(7), 101.0)
    bot, _ = step(bot, ev.Recorded(7, 2), 101.0)
    bot, _ = step(bot, ev.Launched(7, 2, 50), 101.0)
    bot, instructions = step(bot, ev.LockHeld(7, 2, 41), 101.0)
    assert bot.reason == "lock held by pid 41; retrying in 1 s, or as soon as that is dead"
    assert do.ConfirmDead(7, 41) in instructions
    bot, instructions = step(bot, ev.OldRunDead(7), 101.1)
    assert do.RecordIntent(7, 3) in instructions
    bot, _ = step(bot, ev.Recorded(7, 3), 101.1)
    bot, _ = step(bot, ev.HelloSeen(7, 3), 101.1)
    for _ in range(3):
        bot, _ = step(bot, ev.WaitingFor(7, 3, "dependency", "gateway main does not answer"), 101.2)
    assert (bot.state, bot.reason) == (State.STARTING, "dependency: gateway main does not answer")
    bot, instructions = step(bot, ev.FenceLow(7, 3, 40), 101.3)
    assert do.SendSignal(7, 3, "KILL", group=True) in instructions
    bot, instructions = step(bot, ev.Exited(7, 3, 9, -1, 9), 101.4)
    assert do.RecordIntent(7, 41) in instructions
    assert bot.failures == ()
    assert dict(bot.counts) == {Cause.LOCK: 1, Cause.DEPENDENCY: 2}


def test_a_hang_is_aborted_killed_and_counted_apart() -> None:
    bot = running()
    bot, instructions = step(bot, ev.Hung(7, 1, "no heartbeat for 6 s"), 120.0)
    assert do.SendAbort(7, 1) in instructions and not any(isinstance(one, do.SendSignal) for one in instructions)
    assert (bot.state, bot.deadline) == (State.STOPPING, 121.0)
    bot, instructions = step(bot, ev.Deadline(7), 121.0)
    assert instructions == [do.SendSignal(7, 1, "ABRT", group=False)]
    assert (bot.state, bot.deadline) == (State.STOPPING, 122.0)
    bot, instructions = step(bot, ev.Deadline(7), 122.0)
    assert instructions == [do.SendSignal(7, 1, "KILL", group=True)]
    bot, instructions = step(bot, ev.Exited(7, 1, 9, -1, 9), 122.1)
    assert bot.state is State.STARTING
    assert bot.reason == "hung (no heartbeat for 6 s); restarting at once (1 of 5)"
    assert dict(bot.counts) == {Cause.HANG: 1}


def test_a_program_that_hangs_gets_the_signal_for_its_minder_would_be_what_aborts() -> None:
    bot, instructions = step(running(kind="program"), ev.Hung(7, 1, "no WATCHDOG=1 for 6 s"), 120.0)
    assert do.SendSignal(7, 1, "ABRT", group=False) in instructions and do.SendAbort(7, 1) not in instructions
    assert step(bot, ev.Deadline(7), 121.0)[1] == [do.SendSignal(7, 1, "KILL", group=True)]


def test_a_stop_goes_from_message_to_term_to_kill() -> None:
    bot = running()
    seen = []
    bot, instructions = step(bot, ev.WantStopped(7, cause_id="c1"), 200.0)
    now = 200.0
    for _ in range(4):
        seen += [(now, i) for i in instructions if not isinstance(i, do.Note)]
        assert bot.deadline is not None
        now = bot.deadline
        bot, instructions = step(bot, ev.Deadline(7), now)
    assert seen == [
        (200.0, do.SendStop(7, 1, "keep", cause_id="c1")),
        (205.0, do.SendSignal(7, 1, "TERM", group=True, cause_id="c1")),
        (210.0, do.SendSignal(7, 1, "KILL", group=True, cause_id="c1")),
        (212.0, do.SendSignal(7, 1, "KILL", group=True, cause_id="c1")),
    ]
    bot, instructions = step(bot, ev.Exited(7, 1, 9, -1, 9), now)
    assert (bot.state, bot.reason, bot.failures) == (State.STOPPED, "stopped", ())
    assert all(i.cause_id == "c1" for i in instructions)
    assert bot.cause_id == ""


def test_seconds_are_written_for_people() -> None:
    assert [seconds(v) for v in (0.5, 1.0, 3.96, 4.24, 12.4, 60.0)] == [
        "0.5 s",
        "1 s",
        "4 s",
        "4.2 s",
        "12 s",
        "60 s",
    ]


def test_stable_resets_the_wait_and_keeps_the_window() -> None:
    bot = come_up(crash(running(), 100.0), 100.0)
    assert (bot.attempts, bot.deadline) == (1, 110.0)
    bot, instructions = step(bot, ev.Deadline(7), 110.0)
    assert (bot.attempts, bot.failures, bot.deadline, instructions) == (0, (100.0,), None, [])
    assert replace(bot, story=()).state is State.RUNNING
