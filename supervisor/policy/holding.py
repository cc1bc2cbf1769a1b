"""Handlers of what the host asks: to pause, to stop, to go on; and of limits that a bot exceeds.

The host never changes `wanted`. What it holds stands beside it (`Bot.held`), and ends with a release.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from supervisor.policy.events import HostPause, HostRelease, HostStop, LimitHit
from supervisor.policy.states import Bot, Cause, Hold, State
from supervisor.policy.steps import Step, ask, begin_start, begin_stop, leads

Ask = HostPause | HostStop | HostRelease


def _held(bot: Bot, event: Ask) -> Bot:
    """The bot with the new hold. Only bots are held: without a gateway all its bots would stand still, and a
    program can neither pause nor tell that it is at rest."""
    if bot.kind != "bot":
        return bot
    hold: Hold = "pause" if isinstance(event, HostPause) else "stop" if isinstance(event, HostStop) else ""
    return replace(bot, held=hold, held_for=event.reason if hold else "")


@leads(State.STARTING)
def hold_stopped(bot: Bot, event: Ask, now: float, rng: Random) -> Step:
    """Remember the hold; one that is stopped for the host's sake alone starts when it may."""
    bot = _held(bot, event)
    if not bot.queued:
        return bot, []
    return begin_start(bot, "starting: the host has room again")


@leads(State.STOPPING)
def hold_starting(bot: Bot, event: Ask, now: float, rng: Random) -> Step:
    """End a start that the host cannot bear; a pause is asked for when the run is Ready."""
    bot = _held(bot, event)
    if bot.held != "stop" or bot.run == "recording":  # an intent under way is not launched
        return bot, []
    return begin_stop(bot, now, bot.held_for, purpose="hold", cause=Cause.HOST)


@leads(State.STOPPING)
def hold_running(bot: Bot, event: Ask, now: float, rng: Random) -> Step:
    """Pause, resume or stop the run, as the host asks and as far as that differs from what is wanted anyway."""
    before, bot = bot.aim, _held(bot, event)
    if bot.held == "stop":
        return begin_stop(bot, now, bot.held_for, purpose="hold", cause=Cause.HOST)
    return (bot, []) if bot.aim is before else ask(bot, now)


@leads()
def hold_later(bot: Bot, event: Ask, now: float, rng: Random) -> Step:
    """Remember the hold; it is looked at before anything is started."""
    return _held(bot, event), []


@leads(State.STOPPING)
def limit_hit(bot: Bot, event: LimitHit, now: float, rng: Random) -> Step:
    """End the run that uses too much; a fresh one follows, unless that did not help often enough."""
    return begin_stop(
        bot,
        now,
        event.detail,
        purpose="quarantine" if event.step == "quarantine" else "restart",
        cause=Cause.LIMIT,
        mode="kill" if event.step == "kill" else "keep",
        trouble=event.detail,
    )
