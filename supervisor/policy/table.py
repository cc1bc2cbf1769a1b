"""The table of the lifecycle: every (state, event type), each decided on purpose.

A cell is a handler, or `ignored` with the reason in words, or `impossible` with the reason why nobody can
send that. Events that may legally race (an end that comes while it is being stopped, a pause answered after
the stop was asked) are never impossible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from supervisor.policy import ending, events, holding, operators, starting
from supervisor.policy.events import Event
from supervisor.policy.states import State
from supervisor.policy.steps import TARGETS, Handler


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is done, in words, and which states it may lead to."""

    kind: Literal["handler", "ignored", "impossible"]
    text: str
    run: Handler | None = None
    targets: tuple[State, ...] = ()


def ignored(reason: str) -> Cell:
    """Legal, and nothing is to be done."""
    return Cell("ignored", reason)


def impossible(reason: str) -> Cell:
    """Nobody can send this: raises InvalidTransition."""
    return Cell("impossible", reason)


def _cell(cell: Cell | Handler) -> Cell:
    if isinstance(cell, Cell):
        return cell
    text = (cell.__doc__ or "").strip().partition("\n")[0]
    return Cell("handler", text, cell, TARGETS[cell])


Given = Cell | Handler
TABLE: Final[dict[tuple[State, type[Event]], Cell]] = {}


def _row(
    event: type[Event],
    stopped: Given,
    starting: Given,
    running: Given,
    paused: Given,
    stopping: Given,
    backoff: Given,
    failed: Given,
    adopting: Given,
) -> None:
    """One event in every state, in the order of `State`. Each is a required argument: none can be forgotten."""
    given = (stopped, starting, running, paused, stopping, backoff, failed, adopting)
    TABLE.update({(state, event): _cell(cell) for state, cell in zip(State, given, strict=True)})


_OVER = ignored("the end of this run is known already; its news is told again or late")
_LATE = ignored("late: the run that said it has ended")
_NO_LOCK = ignored("it does not wait for a lock")
_TIMELESS = ignored("nothing is timed here")
_ENDING = ignored("it is being ended; only its end counts")
_NOT_ASKED = impossible("no intent to launch is under way")
_OTHER = impossible("a run of this bot is known already")
_FENCED = ignored("the gateway remembers; nothing waits for it, the run hears it from the gateway itself")
_FAST = ignored("its Hello was faster than the launcher's answer")
_SPOKE = ignored("it said Hello, so it was launched, whatever became of the launcher's answer")
_FOREIGN = impossible("this supervisor did not launch it")
_UNREADY = ignored("it is asked again once it is Ready")
_HELLO = ignored("its Hello will tell")
_RESTING = ignored("it has no process; its next run is a fresh one anyway")
_FRESH = ignored("it is being ended; a run that follows is a fresh one anyway")
_NOT_BLOCKED = ignored("it waits for nobody")
_NO_EXEC = impossible("what is Ready was executed")
_KEPT = ignored("no process to end; it stays failed, so that the reason is kept")

# Columns: stopped, starting, running, paused, stopping, backoff, failed, adopting.
_row(
    events.WantRunning,
    operators.start,
    operators.remember,
    operators.change_running,
    operators.change_paused,
    operators.want_again,
    operators.remember,
    operators.start,
    operators.remember,
)
_row(
    events.WantPaused,
    operators.start,
    operators.remember,
    operators.change_running,
    operators.change_paused,
    operators.want_again,
    operators.remember,
    operators.keep_failed,
    operators.remember,
)
_row(
    events.WantStopped,
    operators.stay_stopped,
    operators.stop,
    operators.stop,
    operators.stop,
    operators.stop_harder,
    operators.cancel_backoff,
    operators.give_up_failed,
    operators.stop,
)
_row(
    events.Restart,
    operators.start,
    operators.bounce,
    operators.bounce,
    operators.bounce,
    operators.bounce_stopping,
    operators.start,
    operators.start,
    operators.bounce,
)
_row(
    events.Reconfigured,
    _RESTING,
    operators.renew,
    operators.renew,
    operators.renew,
    _FRESH,
    operators.renew_waiting,
    _RESTING,
    operators.renew,
)
_row(
    events.GroupRestart,
    _RESTING,
    operators.group_restart,
    operators.group_restart,
    operators.group_restart,
    _ENDING,
    _RESTING,
    _RESTING,
    operators.group_restart,
)
_row(
    events.StandDown,
    operators.stay_stopped,
    operators.stop,
    operators.stop,
    operators.stop,
    operators.stop_harder,
    operators.cancel_backoff,
    _KEPT,
    operators.stop,
)
for _hold in (events.HostPause, events.HostStop, events.HostRelease):
    _row(
        _hold,
        holding.hold_stopped,
        holding.hold_starting,
        holding.hold_running,
        holding.hold_running,
        holding.hold_later,
        holding.hold_later,
        holding.hold_later,
        holding.hold_starting,
    )
_row(
    events.LimitHit,
    _LATE,
    _UNREADY,
    holding.limit_hit,
    holding.limit_hit,
    _ENDING,
    _LATE,
    _LATE,
    _HELLO,
)
_row(
    events.Recorded,
    _NOT_ASKED,
    starting.launch,
    _NOT_ASKED,
    _NOT_ASKED,
    ending.recorded_stopping,
    _NOT_ASKED,
    _NOT_ASKED,
    _NOT_ASKED,
)
_row(
    events.RecordFailed,
    _NOT_ASKED,
    starting.retry_record,
    _NOT_ASKED,
    _NOT_ASKED,
    ending.unrecorded_stopping,
    _NOT_ASKED,
    _NOT_ASKED,
    _NOT_ASKED,
)
_row(
    events.Blocked,
    _NOT_ASKED,
    starting.blocked,
    _NOT_ASKED,
    _NOT_ASKED,
    ending.unrecorded_stopping,
    _NOT_ASKED,
    _NOT_ASKED,
    _NOT_ASKED,
)
_row(
    events.Unblocked,
    _NOT_BLOCKED,
    _NOT_BLOCKED,
    _NOT_BLOCKED,
    _NOT_BLOCKED,
    _NOT_BLOCKED,
    starting.unblocked,
    _NOT_BLOCKED,
    _NOT_BLOCKED,
)
_row(
    events.Launched,
    ending.alive_after_all,
    starting.launched,
    _FAST,
    _FAST,
    ending.launched_stopping,
    ending.alive_after_all,
    ending.alive_after_all,
    _FOREIGN,
)
_row(
    events.LaunchFailed,
    _OVER,
    starting.launch_failed,
    _SPOKE,
    _SPOKE,
    ending.unlaunched_stopping,
    _OVER,
    _OVER,
    _FOREIGN,
)
_row(
    events.HelloSeen,
    ending.alive_after_all,
    starting.hello_starting,
    starting.hello_again,
    starting.hello_again,
    ending.hello_stopping,
    ending.alive_after_all,
    ending.alive_after_all,
    starting.hello_adopting,
)
_row(events.WaitingFor, _LATE, starting.waiting, starting.waiting, starting.waiting, _ENDING, _LATE, _LATE, _HELLO)
_row(
    events.ReadySeen,
    ending.alive_after_all,
    starting.ready,
    starting.ready_again,
    starting.ready_again,
    ending.hello_stopping,
    ending.alive_after_all,
    ending.alive_after_all,
    starting.ready,
)
_row(events.PauseDone, _LATE, _UNREADY, starting.pause_done, starting.answered, _ENDING, _LATE, _LATE, _HELLO)
_row(events.ResumeDone, _LATE, _UNREADY, starting.answered, starting.resume_done, _ENDING, _LATE, _LATE, _HELLO)
_row(
    events.Exited,
    _OVER,
    ending.ended,
    ending.ended,
    ending.ended,
    ending.ended_stopping,
    _OVER,
    _OVER,
    ending.ended,
)
_row(events.Gone, _OVER, ending.ended, ending.ended, ending.ended, ending.ended_stopping, _OVER, _OVER, ending.ended)
_row(
    events.ExecFailed,
    _OVER,
    ending.exec_failed,
    _NO_EXEC,
    _NO_EXEC,
    ending.exec_failed_stopping,
    _OVER,
    _OVER,
    ending.exec_failed,
)
_row(
    events.LockHeld,
    _OVER,
    ending.lock_held,
    ending.lock_code,
    ending.lock_code,
    ending.lock_held_stopping,
    _OVER,
    _OVER,
    ending.lock_held,
)
_row(events.OldRunDead, _NO_LOCK, _NO_LOCK, _NO_LOCK, _NO_LOCK, _NO_LOCK, starting.lock_free, _NO_LOCK, _NO_LOCK)
_row(events.Hung, _LATE, ending.hung, ending.hung, ending.hung, _ENDING, _LATE, _LATE, ending.hung)
_row(events.AdoptStarted, starting.adopt, _OTHER, _OTHER, _OTHER, _OTHER, _OTHER, _OTHER, _OTHER)
_row(events.FenceAcked, _FENCED, _FENCED, _FENCED, _FENCED, _FENCED, _FENCED, _FENCED, _FENCED)
_row(
    events.FenceLow,
    starting.fence_higher,
    starting.fence_low,
    starting.fence_low,
    starting.fence_low,
    starting.learn_epoch,
    starting.learn_epoch,
    starting.fence_higher,
    starting.fence_low,
)
_row(
    events.Deadline,
    _TIMELESS,
    ending.no_hello,
    starting.running_deadline,
    starting.running_deadline,
    ending.harder,
    starting.try_again,
    _TIMELESS,
    ending.adopt_timeout,
)
