"""Whether and when a bot that ended is started again: sliding window, backoff, quarantine.

The window is OTP's (`supervisor.erl`): every failure is remembered for `period` seconds, and more than
`intensity` of them is quarantine, however long the bot ran between them. The wait doubles with each failure
in a row and begins again once a run was stable; the first failure of a quiet time is not waited for at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from supervisor.policy.states import Bot, Cause, Limits

JITTER: Final = 0.2
_LARGEST_EXPONENT: Final = 40


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a failure, with the window as it is now. `delay` in seconds."""

    kind: Literal["immediate", "delay", "quarantine", "rest"]
    delay: float
    failures: tuple[float, ...]
    attempts: int
    text: str  # what happens next, for people
    beyond: bool = False  # more failures than `intensity` allows, yet it is tried again (gateways)


def on_failure(bot: Bot, cause: Cause, now: float, rng: Random) -> Decision:
    """Decide about a run that ended without being asked to. `cause` CLEAN means exit code 0."""
    limits = bot.limits
    if limits.restart == "temporary" or (limits.restart == "transient" and cause is Cause.CLEAN):
        return Decision("rest", 0.0, bot.failures, bot.attempts, f"not restarted ({limits.restart})")
    recent = tuple(moment for moment in bot.failures if moment > now - limits.period)
    failures = (*recent, now)[-(limits.intensity + 1) :]
    count, attempts = len(failures), bot.attempts + 1
    of = f"({count} of {limits.intensity})"
    if count > limits.intensity:
        allowed = f"{count} failures in {seconds(limits.period)}, {limits.intensity} allowed"
        if bot.kind != "gateway":
            return Decision("quarantine", 0.0, failures, attempts, f"given up ({allowed})")
        delay = jittered(limits.backoff_max, rng)
        text = f"restarting in {seconds(delay)} ({allowed})"
        return Decision("delay", delay, failures, attempts, text, beyond=True)
    if count == 1 and bot.attempts == 0:
        return Decision("immediate", 0.0, failures, attempts, f"restarting at once {of}")
    delay = backoff(limits, max(bot.attempts, 1), rng)
    return Decision("delay", delay, failures, attempts, f"restarting in {seconds(delay)} {of}")


def backoff(limits: Limits, nth: int, rng: Random) -> float:
    """Seconds to wait the nth time in a row: initial * 2^(nth-1), at most `backoff_max`, +-20 %."""
    exponent = min(nth - 1, _LARGEST_EXPONENT)
    return jittered(min(limits.backoff_max, limits.backoff_initial * 2.0**exponent), rng)


def jittered(delay: float, rng: Random) -> float:
    """The delay, up to 20 % shorter or longer, so that bots that fell together do not rise together."""
    return delay * rng.uniform(1 - JITTER, 1 + JITTER)


def seconds(value: float) -> str:
    """A duration for people: `4 s`, `0.5 s`, `61 s`."""
    return f"{value:.0f} s" if value >= 10 else f"{round(value, 1):g} s"
