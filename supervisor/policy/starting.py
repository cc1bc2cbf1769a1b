"""Handlers of the way up: recorded, launched, Hello, Ready, paused, adopted; and of fences."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from supervisor.policy.events import (
    AdoptStarted,
    Blocked,
    Deadline,
    FenceLow,
    HelloSeen,
    Launched,
    LaunchFailed,
    OldRunDead,
    PauseDone,
    ReadySeen,
    Recorded,
    RecordFailed,
    ResumeDone,
    Unblocked,
    WaitingFor,
)
from supervisor.policy.instructions import Instruction, Launch, Note, RecordEnd, SendFence, SendSignal
from supervisor.policy.restart import backoff, seconds
from supervisor.policy.states import Bot, Cause, State, StopMode, Wanted, counted
from supervisor.policy.steps import (
    InvalidTransition,
    Step,
    ask,
    begin_start,
    begin_stop,
    hold_back,
    leads,
    rest,
    steer,
    timed,
    wait,
)

_DEPENDENCY: Final = "dependency"


@leads(State.STOPPED)
def launch(bot: Bot, event: Recorded, now: float, rng: Random) -> Step:
    """The intent is on disk: fence the new epoch in, and launch it."""
    if bot.run != "recording":
        raise InvalidTransition(bot, event, "no intent was under way")
    if bot.epoch < bot.floor:
        # The gateway told of a higher epoch meanwhile: this one could never trade.
        end = RecordEnd(bot.bot_id, bot.epoch, -1, Cause.DEPENDENCY, "the gateway knows a higher epoch")
        return begin_start(bot, "starting with a higher epoch", end)
    if bot.held == "stop":
        end = RecordEnd(bot.bot_id, bot.epoch, -1, Cause.HOST, "held before it was launched")
        return hold_back(bot, end)
    instructions: list[Instruction] = []
    if bot.kind == "bot":
        instructions.append(SendFence(bot.bot_id, bot.epoch, alive=True))
    instructions.append(Launch(bot.bot_id, bot.epoch, bot.priority))
    return replace(bot, run="launching"), instructions


@leads(State.BACKOFF)
def retry_record(bot: Bot, event: RecordFailed, now: float, rng: Random) -> Step:
    """The disk refused: nothing was launched, no budget is burned, and it is tried again later."""
    if bot.run != "recording":
        raise InvalidTransition(bot, event, "no intent was under way")
    delay = backoff(bot.limits, bot.waits + 1, rng)
    reason = f"start NOT recorded: {event.reason}; retrying in {seconds(delay)}"
    return wait(replace(bot, waits=bot.waits + 1), now + delay, reason, run_over=False, cause=Cause.UNKNOWN)


@leads(State.BACKOFF)
def blocked(bot: Bot, event: Blocked, now: float, rng: Random) -> Step:
    """What it must wait for is not running: it waits without a deadline, and burns nothing."""
    if bot.run != "recording":
        raise InvalidTransition(bot, event, "no intent was under way")
    bot = replace(bot, counts=counted(bot, Cause.DEPENDENCY))
    waiting, instructions = wait(bot, now, f"{_DEPENDENCY}: {event.reason}", run_over=False, cause=Cause.DEPENDENCY)
    return replace(waiting, deadline=None), instructions


@leads(State.STARTING, State.STOPPED)
def unblocked(bot: Bot, event: Unblocked, now: float, rng: Random) -> Step:
    """What it waited for is running: start."""
    return begin_start(bot, "starting") if bot.deadline is None else (bot, [])


@leads()
def launched(bot: Bot, event: Launched, now: float, rng: Random) -> Step:
    """The process lives: it has `start_timeout` to say Hello."""
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not asked for")
    if bot.run == "alive":  # its Hello was faster than the launcher's answer
        return bot, []
    return replace(bot, run="alive", deadline=now + bot.limits.start_timeout), []


@leads(State.BACKOFF, State.FAILED)
def launch_failed(bot: Bot, event: LaunchFailed, now: float, rng: Random) -> Step:
    """No process: retried with backoff, however often; a strategy that cannot be loaded is quarantined."""
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not asked for")
    if bot.run == "alive":  # it said Hello, so it was launched, whatever became of the launcher's answer
        return bot, []
    return no_process(bot, event, now, rng)


def no_process(bot: Bot, event: LaunchFailed, now: float, rng: Random) -> Step:
    """A launch that failed: the machine's trouble, so no budget is burned, but it is told and counted."""
    if event.cause is Cause.STRATEGY:
        bot = replace(bot, counts=counted(bot, event.cause), cause=event.cause, waits=bot.waits + 1)
        end = RecordEnd(bot.bot_id, bot.epoch, -1, event.cause, event.reason)
        return rest(bot, State.FAILED, event.reason, end, run_over=False)
    return launch_refused(bot, now, rng, reason=event.reason, cause=event.cause)


def launch_refused(
    bot: Bot,
    now: float,
    rng: Random,
    *,
    reason: str,
    cause: Cause = Cause.LAUNCH,
    status: int = -1,
    run_over: bool = False,
) -> Step:
    """Try again with backoff, however often; the first time that it is more than `intensity` is an alert."""
    bot = replace(bot, counts=counted(bot, cause), cause=cause, waits=bot.waits + 1)
    delay = backoff(bot.limits, bot.waits, rng)
    nth, allowed = bot.waits, bot.limits.intensity
    text = f"launch failed: {reason}; retrying in {seconds(delay)} ({nth} of {allowed})"
    instructions: list[Instruction] = []
    if nth > allowed:
        text = f"launch failed: {reason}; retrying in {seconds(delay)} (failed {nth} times in a row)"
        if nth == allowed + 1:
            instructions.append(Note(bot.bot_id, "alert", f"{bot.name}: {text}", {"epoch": bot.epoch}))
    end = RecordEnd(bot.bot_id, bot.epoch, status, cause, text)
    return wait(bot, now + delay, text, end, *instructions, run_over=run_over, cause=cause)


@leads(State.RUNNING, State.PAUSED)
def hello_starting(bot: Bot, event: HelloSeen, now: float, rng: Random) -> Step:
    """It speaks: from now on heartbeats watch it. One that was Ready before (a reconnection) is so again."""
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not launched")
    bot = replace(bot, run="alive", hello=True, deadline=None)
    return _arrive(bot, now, paused=event.paused) if event.ready else (bot, [])


@leads(State.RUNNING)
def ready(bot: Bot, event: ReadySeen, now: float, rng: Random) -> Step:
    """Ready: RUNNING; paused next where that is wanted."""
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not launched")
    return _arrive(replace(bot, run="alive", hello=True), now, paused=False)


@leads(State.STARTING, State.RUNNING, State.PAUSED)
def hello_adopting(bot: Bot, event: HelloSeen, now: float, rng: Random) -> Step:
    """The adopted run answers: it is taken over as it is, and its fence is confirmed."""
    bot = replace(bot, hello=True, deadline=None)
    # The supervisor before may have died between its launch and its fence.
    fence: list[Instruction] = [SendFence(bot.bot_id, bot.epoch, alive=True)] if bot.kind == "bot" else []
    if not event.ready:
        return replace(bot, state=State.STARTING, reason="adopted while it was starting"), fence
    bot, asked = _arrive(bot, now, paused=event.paused)
    return bot, fence + asked


def _arrive(bot: Bot, now: float, *, paused: bool) -> Step:
    state = State.PAUSED if paused else State.RUNNING
    return steer(replace(bot, state=state, reason="", running_since=now, waits=0), now)


@leads(State.RUNNING, State.PAUSED)
def hello_again(bot: Bot, event: HelloSeen, now: float, rng: Random) -> Step:
    """A reconnection: requests may have been lost, so what is and what is wanted are compared anew."""
    state = State.PAUSED if event.paused else State.RUNNING
    return steer(replace(bot, state=state, hello=True), now)


@leads()
def waiting(bot: Bot, event: WaitingFor, now: float, rng: Random) -> Step:
    """Alive and not ready: the reason is shown, and burns nothing."""
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not launched")
    reason = f"{event.reason}: {event.detail}" if event.detail else event.reason
    if event.reason == _DEPENDENCY and not bot.reason.startswith(_DEPENDENCY):
        note = Note(bot.bot_id, "info", reason, {"epoch": bot.epoch})
        return replace(bot, reason=reason, counts=counted(bot, Cause.DEPENDENCY)), [note]
    return replace(bot, reason=reason), []


@leads()
def ready_again(bot: Bot, event: ReadySeen, now: float, rng: Random) -> Step:
    """What it waited for is back."""
    return replace(bot, reason=""), []


@leads(State.PAUSED)
def pause_done(bot: Bot, event: PauseDone, now: float, rng: Random) -> Step:
    """PAUSED, unless a resume was asked for meanwhile, whose answer follows."""
    if bot.aim is not Wanted.PAUSED:
        return bot, []
    reason = bot.held_for if bot.held else ""
    return timed(replace(bot, state=State.PAUSED, reason=reason, answer_by=None)), []


@leads(State.RUNNING)
def resume_done(bot: Bot, event: ResumeDone, now: float, rng: Random) -> Step:
    """RUNNING, unless a pause was asked for meanwhile, whose answer follows."""
    if bot.aim is not Wanted.RUNNING:
        return bot, []
    return timed(replace(bot, state=State.RUNNING, reason="", answer_by=None)), []


@leads()
def answered(bot: Bot, event: PauseDone | ResumeDone, now: float, rng: Random) -> Step:
    """It is what it says; where that is also wanted, no answer is owed any more."""
    owed = bot.aim is not (Wanted.PAUSED if isinstance(event, PauseDone) else Wanted.RUNNING)
    return (bot if owed else timed(replace(bot, answer_by=None))), []


@leads()
def running_deadline(bot: Bot, event: Deadline, now: float, rng: Random) -> Step:
    """Stable: the backoff begins anew. Or an answer is overdue: a pause or resume is asked for again."""
    since = bot.running_since
    if since is not None and now >= since + bot.limits.stable_after:
        bot = replace(bot, attempts=0)  # the failures stay in the window
    if bot.answer_by is not None and now >= bot.answer_by:
        return ask(bot, now)
    return timed(bot), []


@leads(State.STARTING, State.STOPPED)
def try_again(bot: Bot, event: Deadline, now: float, rng: Random) -> Step:
    """The wait is over: start."""
    return begin_start(bot, "starting again")


@leads(State.STARTING, State.STOPPED)
def lock_free(bot: Bot, event: OldRunDead, now: float, rng: Random) -> Step:
    """The holder of the lock is dead: start at once, if that was what it waited for."""
    return begin_start(bot, "starting again") if bot.cause is Cause.LOCK else (bot, [])


@leads(State.ADOPTING, State.STOPPING)
def adopt(bot: Bot, event: AdoptStarted, now: float, rng: Random) -> Step:
    """Take over a living run of an earlier supervisor; stop it where it is no longer wanted, or held."""
    if event.epoch < bot.epoch:
        note = Note(bot.bot_id, "info", f"run {event.epoch} outlived run {bot.epoch}; killed", {"epoch": event.epoch})
        return bot, [SendSignal(bot.bot_id, event.epoch, "KILL", group=True), note]
    bot = replace(
        bot, epoch=event.epoch, floor=max(bot.floor, event.epoch), run="alive", hello=False, cause=None, queued=False
    )
    if bot.wanted is Wanted.STOPPED:
        bot = replace(bot, state=State.ADOPTING)
        return begin_stop(bot, now, "stopping what was left running", purpose="stop", cause=Cause.OPERATOR)
    if bot.held == "stop":
        bot = replace(bot, state=State.ADOPTING)
        return begin_stop(bot, now, bot.held_for, purpose="hold", cause=Cause.HOST)
    return replace(bot, state=State.ADOPTING, reason="waiting for its Hello", deadline=now + event.patience), []


@leads(State.STOPPING)
def fence_low(bot: Bot, event: FenceLow, now: float, rng: Random) -> Step:
    """The gateway knows a higher epoch: this run can never trade, so one above it takes its place."""
    bot = replace(bot, floor=max(bot.floor, event.highest))
    if bot.run == "recording":
        return bot, []
    mode: StopMode = "kill" if bot.state is State.STARTING else "keep"
    text = f"the gateway knows epoch {event.highest}, above {bot.epoch}; starting again above it"
    return begin_stop(bot, now, text, purpose="restart", cause=Cause.DEPENDENCY, mode=mode, trouble=text)


@leads()
def learn_epoch(bot: Bot, event: FenceLow, now: float, rng: Random) -> Step:
    """Remember the higher epoch for the next start."""
    return replace(bot, floor=max(bot.floor, event.highest)), []


@leads()
def fence_higher(bot: Bot, event: FenceLow, now: float, rng: Random) -> Step:
    """Remember the higher epoch, and shut that one out as well."""
    bot = replace(bot, floor=max(bot.floor, event.highest))
    return bot, [SendFence(bot.bot_id, event.highest, alive=False)] if event.highest > bot.epoch else []
