"""Verdicts about what lives: does it hang, and may that be judged while the machine itself is starved?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from supervisor.policy.restart import seconds
from supervisor.policy.states import Bot, State


def judge(
    beat_age: float,
    progress_age: float,
    limit: float,
    phase: str,
    heartbeat_interval: float,
    heartbeat_timeout: float,
    lag: float = 0.0,
) -> str | None:
    """Why a run is judged hung, or None. All times in seconds.

    `beat_age` is the time since its last heartbeat, `progress_age` what that heartbeat said of the main loop,
    `limit` how long its phase may last (0: for ever), `lag` how late its heartbeat thread itself woke, which
    is the machine's fault and not counted against it. A `heartbeat_timeout` below three intervals is raised
    to that: two lost heartbeats are no hang.
    """
    patience = max(heartbeat_timeout, 3 * heartbeat_interval)
    if beat_age > patience:
        return f"no heartbeat for {seconds(beat_age)}"
    # The phase may have moved since the heartbeat was sent, so only what it said itself is held against it.
    if limit > 0 and progress_age > limit + lag:
        return f"{phase} for {seconds(progress_age)}, {seconds(limit)} allowed"
    return None


def stretched(limit: float, progress_age: float, cap: float, uncapped_for: float | None) -> float:
    """How long a phase may last that may use only `cap` percent of a core (0: all it gets); all times in seconds.

    `uncapped_for` is the time since the cap was lifted (None: it holds): a phase that began before that is not judged
    as if it had always had the processor.
    """
    if cap <= 0 or cap >= 100 or (uncapped_for is not None and progress_age < uncapped_for):
        return limit
    return limit * 100 / cap


def judge_voice(
    heard: float | None,
    since: float,
    progress_age: float,
    limit: float,
    heartbeat_interval: float,
    heartbeat_timeout: float,
    start_timeout: float,
) -> str | None:
    """Why a program that beats over the bus itself is judged hung, or None. All times in seconds.

    `heard` is the time since its last heartbeat (None: not one yet), `since` that since its minder's Hello, from
    which a new or an adopted one has `start_timeout` to be heard; the others as with `judge`.
    """
    if heard is None:
        verdict = judge(since, 0.0, 0.0, "", heartbeat_interval, max(start_timeout, heartbeat_timeout))
    else:
        verdict = judge(heard, progress_age, limit, "no progress", heartbeat_interval, heartbeat_timeout)
    return verdict and f"on the bus: {verdict}"


def deadline_is_a_verdict(bot: Bot) -> bool:
    """Whether the bot's deadline, once applied, calls it hung: a living process that has not said Hello in time.

    Such a deadline waits as other verdicts do while the host is starved or the supervisor's own loop lagged.
    """
    return bot.state is State.ADOPTING or (bot.state is State.STARTING and bot.run == "alive" and not bot.hello)


@dataclass(frozen=True, slots=True)
class Suspension:
    """Whether hang verdicts are suspended, because the host is starved or the supervisor's own loop lags.

    At most `longest` seconds at a stretch; then verdicts are due although it is still bad, and no new
    suspension begins before it was calm for `calm` seconds.
    """

    longest: float
    calm: float = 5.0
    since: float | None = None  # it is bad since then
    good_since: float | None = None

    def observe(self, starved: bool, now: float) -> Suspension:
        """The suspension after a look at the machine."""
        if starved:
            return replace(self, since=now if self.since is None else self.since, good_since=None)
        if self.since is None:
            return self
        if self.good_since is None:
            return replace(self, good_since=now)
        return replace(self, since=None, good_since=None) if now - self.good_since >= self.calm else self

    def active(self, now: float) -> bool:
        """Whether verdicts wait. For `calm` seconds after the trouble too: heartbeats have to catch up."""
        return self.since is not None and now - self.since < self.longest

    def exhausted(self, now: float) -> bool:
        """Whether it was suspended as long as it may be, and the trouble is not over."""
        return self.since is not None and now - self.since >= self.longest

    def victims_wait(self, now: float) -> bool:
        """Whether those wait on who did not even get the processor: as long again as all others did."""
        return self.since is not None and now - self.since < 2 * self.longest


@dataclass(frozen=True, slots=True)
class Suspect:
    """A run that did not move while verdicts were suspended, with the CPU seconds that it used meanwhile."""

    bot_id: int
    cpu_seconds: float
    detail: str


def after_suspension(suspects: Iterable[Suspect], *, least_cpu: float = 1.0) -> list[Suspect]:
    """Whom to judge when the suspension is exhausted: who used CPU without moving, the heaviest first.

    Who used less than `least_cpu` seconds did not get the processor, and is a victim rather than the cause.
    """
    guilty = [suspect for suspect in suspects if suspect.cpu_seconds >= least_cpu]
    return sorted(guilty, key=lambda suspect: (-suspect.cpu_seconds, suspect.bot_id))
