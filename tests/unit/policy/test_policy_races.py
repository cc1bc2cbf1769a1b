"""Things that cross on the way: each pair that can legally race, by name."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from supervisor.policy import events as ev
from supervisor.policy import instructions as do
from supervisor.policy.lifecycle import InvalidTransition, decide
from supervisor.policy.states import Bot, Cause, State, Wanted


class Tape:
    """A bot, and the instructions of its last event."""

    def __init__(self, **more: Any) -> None:
        self.bot = Bot(1, "alpha", **more)
        self.now = 50.0
        self.last: list[do.Instruction] = []

    def play(self, *events: ev.Event) -> Tape:
        for event in events:
            self.bot, self.last = decide(self.bot, event, self.now, Random(1))
        return self

    def acts(self) -> list[do.Instruction]:
        return [i for i in self.last if not isinstance(i, do.Note)]


UP = (ev.WantRunning(1), ev.Recorded(1, 1), ev.Launched(1, 1, 9), ev.HelloSeen(1, 1), ev.ReadySeen(1, 1))


def test_start_asks_disk_then_fence_then_launch() -> None:
    tape = Tape().play(ev.WantRunning(1))
    assert tape.acts() == [do.RecordIntent(1, 1)]
    assert tape.play(ev.Recorded(1, 1)).acts() == [do.SendFence(1, 1, alive=True), do.Launch(1, 1)]
    assert tape.play(ev.Launched(1, 1, 9)).bot.deadline == 80.0
    assert tape.play(ev.HelloSeen(1, 1)).bot.deadline is None
    assert tape.play(ev.ReadySeen(1, 1)).bot.state is State.RUNNING


def test_stop_while_the_intent_is_recorded_never_launches() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.WantStopped(1), ev.Recorded(1, 1))
    assert tape.bot.state is State.STOPPED
    assert not any(isinstance(i, do.Launch) for i in tape.last)
    assert any(isinstance(i, do.RecordEnd) for i in tape.last)


def test_start_taken_back_and_asked_again_while_recording_launches_once() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.WantStopped(1), ev.WantRunning(1), ev.Recorded(1, 1))
    assert tape.bot.state is State.STARTING
    assert do.Launch(1, 1) in tape.last


def test_stop_while_launching_ends_the_process_when_it_arrives() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), ev.WantStopped(1))
    assert (tape.bot.state, tape.acts()) == (State.STOPPING, [])
    assert tape.play(ev.Launched(1, 1, 9)).acts() == [do.SendSignal(1, 1, "TERM", group=True)]
    assert tape.play(ev.Exited(1, 1, 15, -1, 15)).bot.state is State.STOPPED


def test_stop_and_start_while_launching_waits_for_the_first_run_to_end() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), ev.WantStopped(1), ev.WantRunning(1))
    assert tape.acts() == []
    tape.play(ev.Launched(1, 1, 9))
    assert not any(isinstance(i, do.RecordIntent) for i in tape.last)
    assert do.RecordIntent(1, 2) in tape.play(ev.Exited(1, 1, 15, -1, 15)).acts()


def test_hello_and_ready_may_be_faster_than_the_launchers_answer() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), ev.HelloSeen(1, 1), ev.ReadySeen(1, 1))
    assert tape.bot.state is State.RUNNING
    tape.play(ev.Launched(1, 1, 9))
    assert (tape.bot.state, tape.last) == (State.RUNNING, [])


def test_an_end_told_twice_counts_once() -> None:
    tape = Tape().play(*UP, ev.Exited(1, 1, 9, -1, 9), ev.Exited(1, 1, 9, -1, 9), ev.Gone(1, 1))
    assert (tape.bot.epoch, len(tape.bot.failures)) == (2, 1)


def test_pause_answered_after_the_stop_was_asked() -> None:
    tape = Tape().play(*UP, ev.WantPaused(1))
    assert tape.acts() == [do.SendPause(1, 1)]
    tape.play(ev.WantStopped(1), ev.PauseDone(1, 1))
    assert (tape.bot.state, tape.last) == (State.STOPPING, [])


def test_pause_taken_back_before_its_answer() -> None:
    tape = Tape().play(*UP, ev.WantPaused(1), ev.WantRunning(1))
    assert tape.acts() == [do.SendResume(1, 1)]
    tape.play(ev.PauseDone(1, 1), ev.ResumeDone(1, 1))
    assert (tape.bot.state, tape.bot.answer_by) == (State.RUNNING, None)


def test_a_pause_without_an_answer_is_asked_again() -> None:
    tape = Tape().play(*UP, ev.WantPaused(1))
    assert tape.bot.deadline == 60.0
    tape.now = 60.0
    assert tape.play(ev.Deadline(1)).acts() == [do.SendPause(1, 1)]
    assert tape.play(ev.HelloSeen(1, 1, True, True)).bot.state is State.PAUSED


def test_wanted_paused_comes_up_and_pauses() -> None:
    tape = Tape().play(ev.WantPaused(1), *UP[1:])
    assert (tape.bot.state, tape.acts()) == (State.RUNNING, [do.SendPause(1, 1)])
    assert tape.play(ev.PauseDone(1, 1)).bot.state is State.PAUSED


def test_two_restarts_make_one() -> None:
    tape = Tape().play(*UP, ev.Restart(1), ev.Restart(1))
    assert tape.acts() == []
    tape.play(ev.Exited(1, 1, 0, 0, 0))
    assert (tape.bot.state, tape.bot.epoch, tape.bot.failures) == (State.STARTING, 2, ())


def test_a_changed_configuration_makes_a_fresh_run_and_never_undoes_a_stop() -> None:
    tape = Tape().play(*UP, ev.Reconfigured(1), ev.Exited(1, 1, 0, 0, 0))
    assert (tape.bot.state, tape.bot.epoch, tape.bot.wanted) == (State.STARTING, 2, Wanted.RUNNING)
    for before in ((), UP[:1], UP[:2], UP[:3], UP):  # at whatever point of its start or life the stop comes
        tape = Tape().play(*before, ev.WantStopped(1))
        stopping = tape.bot
        assert tape.play(ev.Reconfigured(1)).bot == stopping and tape.last == []
    # Being restarted already, or waiting for its next attempt, or to be adopted.
    tape = Tape().play(*UP, ev.Restart(1), ev.Reconfigured(1))
    assert tape.last == [] and tape.play(ev.Exited(1, 1, 0, 0, 0)).bot.epoch == 2
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), ev.LaunchFailed(1, 1, Cause.LAUNCH, "ENOMEM"))
    assert tape.bot.state is State.BACKOFF
    assert tape.play(ev.Reconfigured(1)).bot.state is State.STARTING
    tape = Tape(wanted=Wanted.RUNNING).play(ev.AdoptStarted(1, 4), ev.Reconfigured(1))
    assert tape.bot.state is State.STOPPING
    # Left over from before, and not wanted: it is being stopped, and stays so.
    tape = Tape(wanted=Wanted.STOPPED).play(ev.AdoptStarted(1, 4), ev.Reconfigured(1))
    assert tape.bot.wanted is Wanted.STOPPED and tape.last == []


def test_stop_overrules_a_restart_and_a_hang() -> None:
    for first in (ev.Restart(1), ev.Hung(1, 1, "no heartbeat for 6 s")):
        tape = Tape().play(*UP, first, ev.WantStopped(1), ev.Exited(1, 1, 9, -1, 9))
        assert (tape.bot.state, tape.bot.wanted) == (State.STOPPED, Wanted.STOPPED)
        assert tape.bot.count(Cause.HANG) == isinstance(first, ev.Hung)


def test_stand_down_keeps_what_is_wanted() -> None:
    tape = Tape().play(*UP, ev.StandDown(1), ev.Exited(1, 1, 0, 0, 0))
    assert (tape.bot.state, tape.bot.wanted) == (State.STOPPED, Wanted.RUNNING)


def test_killed_at_once_where_asked() -> None:
    tape = Tape().play(*UP, ev.WantStopped(1, "kill"))
    assert tape.acts() == [do.SendSignal(1, 1, "KILL", group=True)]
    tape = Tape().play(*UP, ev.WantStopped(1), ev.WantStopped(1, "kill"))
    assert tape.acts() == [do.SendSignal(1, 1, "KILL", group=True)]


def test_fence_low_before_the_launch_was_answered() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), ev.FenceLow(1, 1, 9))
    assert tape.acts() == []
    assert tape.play(ev.Launched(1, 1, 7)).acts() == [do.SendSignal(1, 1, "KILL", group=True)]
    assert do.RecordIntent(1, 10) in tape.play(ev.Exited(1, 1, 9, -1, 9)).acts()
    assert tape.bot.failures == ()


def test_stale_news_changes_nothing() -> None:
    tape = Tape().play(*UP, ev.Exited(1, 1, 9, -1, 9))
    before = tape.bot
    for stale in (ev.ReadySeen(1, 1), ev.Hung(1, 1, "x"), ev.LockHeld(1, 1, 3), ev.FenceLow(1, 1, 90)):
        tape.play(stale)
        assert tape.bot is before
        assert tape.last == []


@pytest.mark.parametrize(
    ("hello", "state"),
    [((True, False), State.RUNNING), ((True, True), State.PAUSED), ((False, False), State.STARTING)],
)
def test_adopted_as_it_is(hello: tuple[bool, bool], state: State) -> None:
    tape = Tape(wanted=Wanted.RUNNING, floor=16).play(ev.AdoptStarted(1, 4))
    assert (tape.bot.state, tape.bot.deadline) == (State.ADOPTING, 60.0)
    tape.play(ev.HelloSeen(1, 4, *hello))
    assert tape.bot.state is state
    fence = do.SendFence(1, 4, alive=True)
    assert tape.acts() == [fence, do.SendResume(1, 4)][: 2 if hello[1] else 1]
    assert tape.bot.next_epoch == 17


def test_adopted_and_silent_is_a_hang_and_gone_is_a_crash() -> None:
    tape = Tape(wanted=Wanted.RUNNING, floor=16).play(ev.AdoptStarted(1, 4))
    tape.now = 60.0
    assert tape.play(ev.Deadline(1)).acts() == [do.SendSignal(1, 4, "ABRT", group=False)]
    tape = Tape(wanted=Wanted.RUNNING, floor=16).play(ev.AdoptStarted(1, 4), ev.Gone(1, 4))
    assert (tape.bot.epoch, tape.bot.count(Cause.UNKNOWN)) == (17, 1)


def test_left_running_though_wanted_stopped() -> None:
    tape = Tape(floor=16).play(ev.AdoptStarted(1, 4))
    assert tape.acts() == [do.SendStop(1, 4, "keep")]
    assert tape.play(ev.HelloSeen(1, 4, True)).acts() == [do.SendStop(1, 4, "keep")]


def test_alive_although_its_launch_had_failed() -> None:
    failed = ev.LaunchFailed(1, 1, Cause.LAUNCH, "the launcher died")
    tape = Tape().play(ev.WantRunning(1), ev.Recorded(1, 1), failed, ev.HelloSeen(1, 1))
    assert (tape.bot.state, tape.acts()) == (State.STOPPING, [do.SendSignal(1, 1, "KILL", group=True)])
    assert do.RecordIntent(1, 2) in tape.play(ev.Gone(1, 1)).acts()


def test_hello_after_the_end_is_late_news() -> None:
    tape = Tape().play(*UP, ev.WantStopped(1), ev.Exited(1, 1, 0, 0, 0), ev.HelloSeen(1, 1))
    assert (tape.bot.state, tape.last) == (State.STOPPED, [])


def test_the_impossible_tells_the_story() -> None:
    with pytest.raises(
        InvalidTransition, match=r"alpha: Recorded in state running .*50.000 starting ReadySeen -> running"
    ):
        Tape().play(*UP, ev.Recorded(1, 1))
    with pytest.raises(InvalidTransition, match="it was not launched"):
        Tape().play(ev.WantRunning(1), ev.Exited(1, 1, 0, 0, 0))


def test_start_asked_during_a_stop_lets_the_stop_end_and_burns_nothing() -> None:
    tape = Tape().play(*UP, ev.WantStopped(1), ev.WantRunning(1))
    assert (tape.bot.state, tape.bot.stop_step, tape.acts()) == (State.STOPPING, "message", [])
    assert do.RecordIntent(1, 2) in tape.play(ev.Exited(1, 1, 0, 0, 0)).acts()
    assert (tape.bot.failures, tape.bot.restarts, tape.bot.count(Cause.OPERATOR)) == ((), 0, 1)


def test_fence_low_while_the_intent_is_recorded_never_launches_the_low_epoch() -> None:
    tape = Tape().play(ev.WantRunning(1), ev.FenceLow(1, 1, 9), ev.Recorded(1, 1))
    assert [type(i) for i in tape.acts()] == [do.RecordEnd, do.RecordIntent]
    assert tape.play(ev.Recorded(1, 10)).acts() == [do.SendFence(1, 10, alive=True), do.Launch(1, 10)]
