"""Handlers of what operators (and groups) ask. Operators change `wanted`, and nothing else changes it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from supervisor.policy.events import (
    Event,
    GroupRestart,
    Reconfigured,
    Restart,
    StandDown,
    WantPaused,
    WantRunning,
    WantStopped,
)
from supervisor.policy.states import Bot, Cause, State, Wanted
from supervisor.policy.steps import Step, ask, begin_start, begin_stop, fresh, kill, leads, rest

Want = WantRunning | WantPaused
Stop = WantStopped | StandDown
Fresh = Restart | Reconfigured


def _wanted(bot: Bot, event: Event) -> Bot:
    if isinstance(event, WantRunning):
        return replace(bot, wanted=Wanted.RUNNING)
    if isinstance(event, WantPaused):
        return replace(bot, wanted=Wanted.PAUSED)
    if isinstance(event, WantStopped):
        return replace(bot, wanted=Wanted.STOPPED)
    if isinstance(event, Restart) and bot.wanted is Wanted.STOPPED:
        return replace(bot, wanted=Wanted.RUNNING)
    return bot


@leads(State.STARTING, State.STOPPED)
def start(bot: Bot, event: Want | Fresh, now: float, rng: Random) -> Step:
    """Start it, with a clean slate: earlier failures no longer count. Where the host holds it, it waits."""
    return begin_start(fresh(_wanted(bot, event)), "starting")


@leads()
def keep_failed(bot: Bot, event: WantPaused, now: float, rng: Random) -> Step:
    """Remember the wish; a bot in quarantine is not started by a pause."""
    return _wanted(bot, event), []


@leads()
def remember(bot: Bot, event: Want, now: float, rng: Random) -> Step:
    """Remember the wish; it is on its way already, and what is wanted is looked at when it arrives."""
    return _wanted(bot, event), []


@leads()
def change_running(bot: Bot, event: Want, now: float, rng: Random) -> Step:
    """Ask for what is new: a pause, or the resume that takes back a pause not answered yet."""
    return _ask(bot, _wanted(bot, event), now)


@leads()
def change_paused(bot: Bot, event: Want, now: float, rng: Random) -> Step:
    """Ask for what is new: a resume, or the pause that takes back a resume not answered yet."""
    return _ask(bot, _wanted(bot, event), now)


def _ask(before: Bot, bot: Bot, now: float) -> Step:
    # Asked even where the state already agrees: an opposite request may be on its way to the bot.
    return (bot, []) if bot.aim is before.aim else ask(bot, now)


@leads(State.STARTING)
def want_again(bot: Bot, event: Want, now: float, rng: Random) -> Step:
    """Start again after the stop; where nothing was launched yet, simply go on starting."""
    bot = _wanted(bot, event)
    if bot.purpose != "stop":
        return bot, []
    if bot.run == "recording":
        return replace(bot, state=State.STARTING, reason="starting", purpose="", cause=None), []
    return replace(bot, purpose="restart", reason="stopping, then starting again"), []


@leads()
def stay_stopped(bot: Bot, event: Stop, now: float, rng: Random) -> Step:
    """Nothing to stop; remember the wish."""
    return replace(_wanted(bot, event), queued=False), []


@leads(State.STOPPED)
def give_up_failed(bot: Bot, event: WantStopped, now: float, rng: Random) -> Step:
    """No longer wanted: STOPPED, with the failure kept in the reason."""
    return rest(_wanted(bot, event), State.STOPPED, f"stopped; had failed: {bot.reason}", run_over=bot.run == "ended")


@leads(State.STOPPED)
def cancel_backoff(bot: Bot, event: Stop, now: float, rng: Random) -> Step:
    """No process to end: the restart is called off."""
    return rest(_wanted(bot, event), State.STOPPED, "stopped", run_over=bot.run == "ended")


@leads(State.STOPPING)
def stop(bot: Bot, event: Stop, now: float, rng: Random) -> Step:
    """End the run: message, SIGTERM, SIGKILL; a run that is only on its way is ended when it arrives."""
    return begin_stop(_wanted(bot, event), now, "stopping", purpose="stop", cause=Cause.OPERATOR, mode=event.mode)


@leads()
def stop_harder(bot: Bot, event: Stop, now: float, rng: Random) -> Step:
    """Being stopped already: stay stopped afterwards, and kill at once where that is asked."""
    bot = replace(_wanted(bot, event), purpose="stop")
    if event.mode == "keep" or bot.stop_step == "kill":
        return bot, []
    bot = replace(bot, stop_mode="kill")
    return kill(bot, now) if bot.run == "alive" else (bot, [])


@leads(State.STOPPING)
def bounce(bot: Bot, event: Fresh, now: float, rng: Random) -> Step:
    """End this run and start a fresh one; one that is not launched yet will be fresh anyway."""
    bot = fresh(_wanted(bot, event))
    if bot.run == "recording":
        return bot, []
    return begin_stop(bot, now, "restarting", purpose="restart", cause=Cause.OPERATOR)


@leads(State.STOPPING)
def renew(bot: Bot, event: Reconfigured, now: float, rng: Random) -> Step:
    """End this run and start a fresh one, unless it is wanted no longer."""
    return (bot, []) if bot.wanted is Wanted.STOPPED else bounce(bot, event, now, rng)


@leads(State.STARTING, State.STOPPED)
def renew_waiting(bot: Bot, event: Reconfigured, now: float, rng: Random) -> Step:
    """Try the new configuration at once, with a clean slate, unless it is wanted no longer."""
    return (bot, []) if bot.wanted is Wanted.STOPPED else start(bot, event, now, rng)


@leads(State.STOPPING)
def group_restart(bot: Bot, event: GroupRestart, now: float, rng: Random) -> Step:
    """End this run for the group's sake and start a fresh one; its own failures stay counted."""
    if bot.run == "recording":
        return bot, []
    trouble = f"restarted with its group: {event.because}"
    return begin_stop(bot, now, trouble, purpose="restart", cause=Cause.DEPENDENCY, trouble=trouble)


@leads(State.STARTING)
def bounce_stopping(bot: Bot, event: Restart, now: float, rng: Random) -> Step:
    """Being stopped already: start again afterwards, at once."""
    bot = fresh(_wanted(bot, event))
    if bot.run == "recording":
        return replace(bot, state=State.STARTING, reason="starting", purpose="", cause=None), []
    return replace(bot, purpose="restart", reason="stopping, then starting again"), []
