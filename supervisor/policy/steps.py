"""The moves that handlers are made of: begin a start, begin a stop, come to rest, retry later.

A handler takes `(bot, event, now, rng)` and gives the bot as it is afterwards with the instructions to
perform. THE rule: `begin_start` is only called when no process of the bot can be alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final, TypeVar

from supervisor.policy.events import Event
from supervisor.policy.instructions import (
    Instruction,
    Note,
    RecordEnd,
    RecordIntent,
    SendAbort,
    SendFence,
    SendPause,
    SendResume,
    SendSignal,
    SendStop,
)
from supervisor.policy.restart import on_failure
from supervisor.policy.states import Bot, Cause, Purpose, State, StopMode, Wanted, counted

Step = tuple[Bot, list[Instruction]]
Handler = Callable[[Bot, Any, float, Random], Step]
H = TypeVar("H", bound=Handler)

#: Seconds between asking for a core dump, its signal, and SIGKILL; and between one SIGKILL and the next.
ABORT_GRACE: Final = 1.0
KILL_AGAIN: Final = 2.0

#: Where each handler may lead; a test holds the handlers to it, and the picture is drawn from it.
TARGETS: Final[dict[Handler, tuple[State, ...]]] = {}


class InvalidTransition(Exception):
    """An event that cannot happen in this state: a bug in who sent it. Tells the bot's recent story."""

    def __init__(self, bot: Bot, event: Event, why: str) -> None:
        self.bot = bot
        self.event = event
        story = "; ".join(bot.story) or "nothing yet"
        what = f"{type(event).__name__} in state {bot.state} (epoch {bot.epoch}, run {bot.run})"
        super().__init__(f"{bot.name}: {what}: {why}; story: {story}")


def leads(*targets: State) -> Callable[[H], H]:
    """Declare the states that a handler may lead to (staying where it is needs no word)."""

    def declare(handler: H) -> H:
        TARGETS[handler] = targets
        return handler

    return declare


def begin_start(bot: Bot, reason: str, *before: Instruction) -> Step:
    """STARTING with a new epoch, whose intent goes to the disk first; a bot that the host holds waits instead."""
    if bot.held == "stop":
        return hold_back(bot, *before)
    epoch = bot.next_epoch
    started = replace(
        bot,
        state=State.STARTING,
        reason=reason,
        queued=False,
        epoch=epoch,
        floor=max(bot.floor, epoch),
        run="recording",
        hello=False,
        running_since=None,
        deadline=None,
        answer_by=None,
        stop_step="",
        purpose="",
        cause=None,
        trouble="",
    )
    return started, [*before, RecordIntent(bot.bot_id, epoch, bot.priority)]


def hold_back(bot: Bot, *before: Instruction) -> Step:
    """STOPPED for the host's sake: wanted, and started as soon as the host releases it."""
    if bot.state is State.STOPPED:
        return replace(bot, queued=True, reason=bot.held_for), list(before)
    over = bot.run in ("launching", "alive", "ended")
    held, instructions = rest(bot, State.STOPPED, bot.held_for, *before, run_over=over)
    return replace(held, queued=True), instructions


def fresh(bot: Bot) -> Bot:
    """Without a memory of failures: an operator acted."""
    return replace(bot, failures=(), attempts=0, waits=0)


def begin_stop(
    bot: Bot, now: float, reason: str, *, purpose: Purpose, cause: Cause, mode: StopMode = "keep", trouble: str = ""
) -> Step:
    """STOPPING: ask, or where nobody would hear it, signal; a process that is not there yet is awaited."""
    stopping = replace(
        bot,
        state=State.STOPPING,
        reason=reason,
        deadline=None,
        answer_by=None,
        stop_step="",
        stop_mode=mode,
        purpose=purpose,
        cause=cause,
        trouble=trouble,
    )
    if bot.run != "alive":
        return stopping, []
    # An adopted run may hear us already; what it misses is sent again at its Hello.
    return press(stopping, now, reachable=bot.hello or bot.state is State.ADOPTING)


def press(bot: Bot, now: float, *, reachable: bool) -> Step:
    """First pressure on a living process: message, TERM where no message reaches it, KILL where asked."""
    if bot.stop_mode == "kill":
        return kill(bot, now)
    if not reachable:
        return term(bot, now)
    asked = replace(bot, stop_step="message", deadline=now + bot.limits.stop_timeout / 2)
    return asked, [SendStop(bot.bot_id, bot.epoch, bot.stop_mode)]


def term(bot: Bot, now: float) -> Step:
    """SIGTERM to the group, with half of the stop's time."""
    termed = replace(bot, stop_step="term", deadline=now + bot.limits.stop_timeout / 2)
    return termed, [SendSignal(bot.bot_id, bot.epoch, "TERM", group=True)]


def kill(bot: Bot, now: float) -> Step:
    """SIGKILL to the group, repeated until the end is told."""
    killed = replace(bot, stop_step="kill", deadline=now + KILL_AGAIN)
    return killed, [SendSignal(bot.bot_id, bot.epoch, "KILL", group=True)]


def abort(bot: Bot, now: float, trouble: str) -> Step:
    """A hang: the run is told to write where, then SIGABRT to the process, then SIGKILL to the group."""
    stopping = replace(
        bot,
        state=State.STOPPING,
        reason=f"{trouble}; killing it",
        deadline=now + ABORT_GRACE,
        answer_by=None,
        stop_step="abort",
        stop_mode="keep",
        purpose="hang",
        cause=Cause.HANG,
        trouble=trouble,
    )
    if bot.hello and bot.kind != "program":  # whose minder would be what aborts
        return stopping, [SendAbort(bot.bot_id, bot.epoch)]
    return abort_hard(stopping, now)


def abort_hard(bot: Bot, now: float) -> Step:
    """SIGABRT, which needs nobody's help to have the stacks written, and may write them while they change."""
    termed = replace(bot, stop_step="term", deadline=now + ABORT_GRACE)
    return termed, [SendSignal(bot.bot_id, bot.epoch, "ABRT", group=False)]


def rest(bot: Bot, state: State, reason: str, *before: Instruction, run_over: bool = True) -> Step:
    """STOPPED or FAILED: no process, and no epoch of it may trade."""
    resting = replace(
        bot,
        state=state,
        reason=reason,
        queued=False,
        run="ended" if run_over else "none",
        hello=False,
        running_since=None,
        deadline=None,
        answer_by=None,
        stop_step="",
        purpose="",
    )
    instructions = list(before)
    if bot.kind == "bot" and bot.epoch > 0:
        instructions.append(SendFence(bot.bot_id, bot.epoch, alive=False))
    if state is State.FAILED:
        instructions.append(Note(bot.bot_id, "alert", f"{bot.name} failed: {reason}", {"epoch": bot.epoch}))
    return resting, instructions


def wait(bot: Bot, until: float, reason: str, *before: Instruction, run_over: bool, cause: Cause) -> Step:
    """BACKOFF: no process, and a moment at which it is tried again."""
    waiting = replace(
        bot,
        state=State.BACKOFF,
        reason=reason,
        run="ended" if run_over else "none",
        hello=False,
        running_since=None,
        deadline=until,
        answer_by=None,
        stop_step="",
        purpose="",
        cause=cause,
    )
    return waiting, list(before)


def after_failure(bot: Bot, now: float, rng: Random, *, cause: Cause, status: int, what: str) -> Step:
    """A run ended without being asked to: record it, and let the restart policy speak."""
    decision = on_failure(bot, cause, now, rng)
    reason = f"{what}; {decision.text}"
    bot = replace(
        bot,
        failures=decision.failures,
        attempts=decision.attempts,
        counts=counted(bot, cause),
        restarts=bot.restarts + (decision.kind in ("immediate", "delay")),
        cause=cause,
    )
    end = RecordEnd(bot.bot_id, bot.epoch, status, cause, reason)
    if decision.kind == "rest":
        return rest(bot, State.STOPPED, reason, end)
    if decision.kind == "quarantine":
        return rest(bot, State.FAILED, reason, end)
    if decision.kind == "immediate":
        return begin_start(bot, reason, end)
    alert = [Note(bot.bot_id, "alert", f"{bot.name}: {reason}", {"epoch": bot.epoch})] if decision.beyond else []
    return wait(bot, now + decision.delay, reason, end, *alert, run_over=True, cause=cause)


def steer(bot: Bot, now: float) -> Step:
    """A living, ready run: bring it from what it is (RUNNING or PAUSED) to what is wanted, and set its deadline."""
    if (bot.state is State.PAUSED) == (bot.aim is Wanted.PAUSED):
        return timed(replace(bot, answer_by=None)), []
    return ask(bot, now)


def ask(bot: Bot, now: float) -> Step:
    """Ask the run for what is wanted; asked again when no answer comes within `stop_timeout`."""
    pause = bot.aim is Wanted.PAUSED
    request = SendPause(bot.bot_id, bot.epoch) if pause else SendResume(bot.bot_id, bot.epoch)
    return timed(replace(bot, answer_by=now + bot.limits.stop_timeout)), [request]


def timed(bot: Bot) -> Bot:
    """The deadline of a RUNNING or PAUSED bot: an answer that is due, or the moment it counts as stable."""
    due = [] if bot.answer_by is None else [bot.answer_by]
    if bot.running_since is not None and bot.attempts:
        due.append(bot.running_since + bot.limits.stable_after)
    return replace(bot, deadline=min(due) if due else None)
