"""Handlers of the way down: ends that nobody asked for, hangs, held locks, and the steps of a stop."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from supervisor.policy.events import (
    Blocked,
    Deadline,
    Event,
    ExecFailed,
    Exited,
    Gone,
    HelloSeen,
    Hung,
    Launched,
    LaunchFailed,
    LockHeld,
    ReadySeen,
    Recorded,
    RecordFailed,
)
from supervisor.policy.instructions import ConfirmDead, Note, RecordEnd, SendStop
from supervisor.policy.restart import seconds
from supervisor.policy.starting import launch_refused, no_process
from supervisor.policy.states import Bot, Cause, State, counted
from supervisor.policy.steps import (
    InvalidTransition,
    Step,
    abort,
    abort_hard,
    after_failure,
    begin_start,
    begin_stop,
    kill,
    leads,
    press,
    rest,
    term,
    wait,
)

EXIT_STRATEGY: Final = 65
EXIT_LOCK_HELD: Final = 75
EXIT_CONFIG: Final = 78
LOCK_WAIT: Final = 0.5
LOCK_WAIT_MAX: Final = 5.0

_Over = Exited | Gone
_ENDED_FOR: Final = {"restart": "restarted", "hold": "stopped for the host's sake"}


def _launch_asked(bot: Bot, event: Event) -> None:
    if bot.run == "recording":
        raise InvalidTransition(bot, event, "it was not launched")


def _end_of(event: _Over) -> tuple[int, Cause, str]:
    """Status, cause, and words for an end that nobody asked for."""
    if isinstance(event, Gone) or (event.code < 0 and event.signal == 0):
        detail = f": {event.detail}" if event.detail else ""
        return -1, Cause.UNKNOWN, f"gone, nobody saw how{detail}; counted as a crash"
    detail = f": {event.detail}" if event.detail else ""
    if event.oom:
        return event.status, Cause.OOM, f"out of memory (signal {event.signal}{detail})"
    if event.signal:
        return event.status, Cause.CRASH, f"crashed (signal {event.signal}{detail})"
    if event.code:
        return event.status, Cause.CRASH, f"crashed (exit code {event.code}{detail})"
    return event.status, Cause.CLEAN, f"ended by itself (exit code 0{detail})"


@leads(State.STARTING, State.BACKOFF, State.FAILED, State.STOPPED)
def ended(bot: Bot, event: _Over, now: float, rng: Random) -> Step:
    """An end that nobody asked for: the restart policy decides."""
    _launch_asked(bot, event)
    status, cause, what = _end_of(event)
    if bot.kind != "program" and isinstance(event, Exited) and event.code in (EXIT_STRATEGY, EXIT_CONFIG):
        # No restart helps before somebody changes something.
        cause = Cause.STRATEGY if event.code == EXIT_STRATEGY else Cause.CRASH
        fallback = "the strategy cannot be built" if event.code == EXIT_STRATEGY else "the account cannot be used"
        reason = event.detail or fallback
        bot = replace(bot, counts=counted(bot, cause), cause=cause)
        return rest(bot, State.FAILED, reason, RecordEnd(bot.bot_id, bot.epoch, status, cause, reason))
    return after_failure(bot, now, rng, cause=cause, status=status, what=what)


@leads(State.STOPPED, State.STARTING, State.BACKOFF, State.FAILED)
def ended_stopping(bot: Bot, event: _Over, now: float, rng: Random) -> Step:
    """The end that was asked for: rest, start again, or, after a hang, let the restart policy decide."""
    _launch_asked(bot, event)
    status = event.status if isinstance(event, Exited) else -1
    return _over(bot, now, rng, status)


def _over(bot: Bot, now: float, rng: Random, status: int) -> Step:
    cause = bot.cause or Cause.OPERATOR
    if bot.purpose == "hang":
        return after_failure(bot, now, rng, cause=Cause.HANG, status=status, what=bot.trouble)
    text = bot.trouble or _ENDED_FOR.get(bot.purpose, "stopped")
    bot = replace(bot, counts=counted(bot, cause))
    end = RecordEnd(bot.bot_id, bot.epoch, status, cause, text)
    if bot.purpose == "quarantine":
        return rest(bot, State.FAILED, bot.trouble, end)
    if bot.purpose in ("restart", "hold"):
        return begin_start(bot, f"{bot.trouble}; starting again" if bot.trouble else "starting again", end)
    return rest(bot, State.STOPPED, "stopped" if not bot.trouble else f"stopped; before: {bot.trouble}", end)


@leads(State.BACKOFF)
def lock_held(bot: Bot, event: LockHeld, now: float, rng: Random) -> Step:
    """An older run still holds the lock: confirm its death first; no budget is burned."""
    _launch_asked(bot, event)
    delay = min(LOCK_WAIT_MAX, LOCK_WAIT * 2.0 ** min(bot.waits, 10))
    bot = replace(bot, counts=counted(bot, Cause.LOCK), waits=bot.waits + 1)
    reason = f"lock held by pid {event.pid}; retrying in {seconds(delay)}, or as soon as that is dead"
    end = RecordEnd(bot.bot_id, bot.epoch, EXIT_LOCK_HELD << 8, Cause.LOCK, f"lock held by pid {event.pid}")
    confirm = ConfirmDead(bot.bot_id, event.pid)
    return wait(bot, now + delay, reason, end, confirm, run_over=True, cause=Cause.LOCK)


@leads(State.BACKOFF)
def exec_failed(bot: Bot, event: ExecFailed, now: float, rng: Random) -> Step:
    """Its file cannot be executed: a launch that failed, retried with backoff; no budget is burned."""
    _launch_asked(bot, event)
    return launch_refused(bot, now, rng, reason=event.reason, status=event.status, run_over=True)


@leads(State.STOPPED, State.STARTING, State.BACKOFF, State.FAILED)
def exec_failed_stopping(bot: Bot, event: ExecFailed, now: float, rng: Random) -> Step:
    """The run is over, which is all that a stop asks."""
    _launch_asked(bot, event)
    return _over(bot, now, rng, event.status)


@leads(State.STARTING, State.BACKOFF, State.FAILED, State.STOPPED)
def lock_code(bot: Bot, event: LockHeld, now: float, rng: Random) -> Step:
    """A run that was Ready held its lock: exit code 75 came from somewhere else, and is a crash."""
    what = f"crashed (exit code {EXIT_LOCK_HELD})"
    return after_failure(bot, now, rng, cause=Cause.CRASH, status=EXIT_LOCK_HELD << 8, what=what)


@leads(State.STOPPED, State.STARTING, State.BACKOFF, State.FAILED)
def lock_held_stopping(bot: Bot, event: LockHeld, now: float, rng: Random) -> Step:
    """The run is over, which is all that a stop asks."""
    _launch_asked(bot, event)
    return _over(bot, now, rng, EXIT_LOCK_HELD << 8)


@leads(State.STOPPING)
def hung(bot: Bot, event: Hung, now: float, rng: Random) -> Step:
    """It lives and does not move: have it write where, then kill it and its children."""
    if bot.run != "alive":
        raise InvalidTransition(bot, event, "there is no process to judge")
    return abort(bot, now, f"hung ({event.detail})")


@leads(State.STOPPING)
def no_hello(bot: Bot, event: Deadline, now: float, rng: Random) -> Step:
    """No Hello within `start_timeout`: a hang."""
    return abort(bot, now, f"hung (no Hello within {seconds(bot.limits.start_timeout)})")


@leads(State.STOPPING)
def adopt_timeout(bot: Bot, event: Deadline, now: float, rng: Random) -> Step:
    """Alive and silent: treated as hung."""
    return abort(bot, now, "hung (left over from before, and silent)")


@leads()
def harder(bot: Bot, event: Deadline, now: float, rng: Random) -> Step:
    """The next step of a stop: SIGABRT of one that hangs, SIGTERM, SIGKILL, SIGKILL again."""
    if bot.stop_step == "abort":
        return abort_hard(bot, now)
    if bot.stop_step == "message":
        return term(bot, now)
    again = bot.stop_step == "kill"
    bot, instructions = kill(bot, now)
    text = "still there after SIGKILL; killing it again"
    if again and bot.reason != text:
        instructions.append(Note(bot.bot_id, "alert", f"{bot.name}: {text}", {"epoch": bot.epoch}))
        bot = replace(bot, reason=text)
    return bot, instructions


@leads(State.STOPPED)
def recorded_stopping(bot: Bot, event: Recorded, now: float, rng: Random) -> Step:
    """No longer wanted: the intent is closed without a launch."""
    if bot.run != "recording":
        raise InvalidTransition(bot, event, "no intent was under way")
    end = RecordEnd(bot.bot_id, bot.epoch, -1, Cause.OPERATOR, "stopped before it was launched")
    return rest(bot, State.STOPPED, "stopped", end, run_over=False)


@leads(State.STOPPED)
def unrecorded_stopping(bot: Bot, event: RecordFailed | Blocked, now: float, rng: Random) -> Step:
    """No longer wanted, and never recorded: nothing is left to do."""
    if bot.run != "recording":
        raise InvalidTransition(bot, event, "no intent was under way")
    return rest(bot, State.STOPPED, "stopped", run_over=False)


@leads()
def launched_stopping(bot: Bot, event: Launched, now: float, rng: Random) -> Step:
    """It arrives and is not wanted: end it."""
    _launch_asked(bot, event)
    return press(replace(bot, run="alive"), now, reachable=False) if bot.run == "launching" else (bot, [])


@leads(State.STOPPED, State.BACKOFF, State.FAILED)
def unlaunched_stopping(bot: Bot, event: LaunchFailed, now: float, rng: Random) -> Step:
    """It never arrived: stopped; where a restart was asked for, tried again with backoff."""
    _launch_asked(bot, event)
    if bot.run == "alive":
        return bot, []
    if bot.purpose in ("restart", "hold"):
        return no_process(bot, event, now, rng)
    end = RecordEnd(bot.bot_id, bot.epoch, -1, event.cause, f"launch failed: {event.reason}")
    return rest(bot, State.STOPPED, "stopped", end, run_over=False)


@leads()
def hello_stopping(bot: Bot, event: HelloSeen | ReadySeen, now: float, rng: Random) -> Step:
    """It speaks while it is being stopped: ask it to stop, if asking is what is being tried."""
    _launch_asked(bot, event)
    arrived = bot.run == "launching"
    bot = replace(bot, run="alive", hello=True)
    if arrived:
        return press(bot, now, reachable=True)
    if bot.stop_step == "message" and isinstance(event, HelloSeen):
        return bot, [SendStop(bot.bot_id, bot.epoch, bot.stop_mode)]
    return bot, []


@leads(State.STOPPING)
def alive_after_all(bot: Bot, event: Launched | HelloSeen | ReadySeen, now: float, rng: Random) -> Step:
    """A process whose launch had been called failed: it is killed before anything else is started."""
    if bot.run == "ended":  # late news of a run whose end is known
        return bot, []
    again = bot.state is State.BACKOFF
    text = "alive although its launch had failed; killing it"
    bot = replace(bot, run="alive")
    return begin_stop(
        bot, now, text, purpose="restart" if again else "stop", cause=Cause.LAUNCH, mode="kill", trouble=text
    )
