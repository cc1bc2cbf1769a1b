"""The words of the lifecycle, and what the policy knows of one bot."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

Kind = Literal["bot", "program", "gateway"]
RestartPolicy = Literal["permanent", "transient", "temporary"]
StopMode = Literal["keep", "kill"]
StopStep = Literal["", "abort", "message", "term", "kill"]
#: `hold`: stopped for the host's sake, started again when it is released; `quarantine`: ended for good.
Purpose = Literal["", "stop", "restart", "hang", "hold", "quarantine"]
#: What the host (throttle, `max_running`) keeps a bot from, beside what the operator wants.
Hold = Literal["", "pause", "stop"]
#: What is known of the current run's process. `none`: there never was one (or its launch failed);
#: `recording`: the intent is on its way to the disk; `launching`: asked for, no answer yet, may already live;
#: `alive`: it lives until its end is told; `ended`: its end was told.
Run = Literal["none", "recording", "launching", "alive", "ended"]

STORY_LENGTH: Final = 12


class State(StrEnum):
    """What is."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"
    ADOPTING = "adopting"


class Wanted(StrEnum):
    """What the operator asked for; only operator commands change it."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Cause(StrEnum):
    """Why a run ended, or could not begin. Counted apart."""

    CRASH = "crash"
    HANG = "hang"
    OOM = "oom"
    LAUNCH = "launch"
    DEPENDENCY = "dependency"
    STRATEGY = "strategy"
    LOCK = "lock"
    CLEAN = "clean"
    OPERATOR = "operator"
    HOST = "host"
    LIMIT = "limit"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Limits:
    """How a bot is restarted and how long things may take; all times in seconds (see `BotConfig`)."""

    restart: RestartPolicy = "permanent"
    intensity: int = 5
    period: float = 60.0
    backoff_initial: float = 1.0
    backoff_max: float = 60.0
    stable_after: float = 10.0
    start_timeout: float = 30.0
    stop_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Bot:
    """One bot, program or gateway as the policy sees it. Times are monotonic seconds, as given to `decide`.

    `epoch` is the current or last run's; `floor` the highest epoch that is known or reserved anywhere, so a
    new run gets `max(epoch, floor) + 1`. `deadline` is the moment at which a `Deadline` event is due.
    """

    bot_id: int
    name: str
    kind: Kind = "bot"
    limits: Limits = field(default_factory=Limits)
    priority: int = 5  # 9 is started first
    wanted: Wanted = Wanted.STOPPED
    held: Hold = ""
    held_for: str = ""  # why, with figures
    queued: bool = False  # STOPPED only because it is held: a release starts it
    state: State = State.STOPPED
    reason: str = ""
    epoch: int = 0
    floor: int = 0
    run: Run = "none"
    hello: bool = False  # this run said Hello: messages reach it, heartbeats watch it
    running_since: float | None = None
    deadline: float | None = None
    answer_by: float | None = None  # until when a pause or resume should be answered, before it is asked again
    stop_step: StopStep = ""
    stop_mode: StopMode = "keep"
    purpose: Purpose = ""
    cause: Cause | None = None  # why the run ends or ended
    trouble: str = ""  # the cause in words, e.g. "hung (no heartbeat for 6 s)"
    failures: tuple[float, ...] = ()  # moments of the failures in the window
    attempts: int = 0  # failures in a row without becoming stable: the backoff's exponent
    waits: int = 0  # starts in a row that came to nothing without a failure of the bot (launch, disk, lock)
    counts: tuple[tuple[Cause, int], ...] = ()
    restarts: int = 0  # restarts after an end that nobody asked for
    story: tuple[str, ...] = ()
    cause_id: str = ""  # the operator command that began what is under way

    @property
    def next_epoch(self) -> int:
        """The epoch that the next run would get."""
        return max(self.epoch, self.floor) + 1

    @property
    def aim(self) -> Wanted:
        """What it is brought to: what is wanted, as far as the host lets it."""
        if self.wanted is Wanted.STOPPED or self.held == "stop":
            return Wanted.STOPPED
        return Wanted.PAUSED if self.held == "pause" else self.wanted

    def count(self, cause: Cause) -> int:
        """How often this cause was met."""
        return next((number for known, number in self.counts if known is cause), 0)


def counted(bot: Bot, cause: Cause) -> tuple[tuple[Cause, int], ...]:
    """The bot's counts with one more of `cause`."""
    rest = tuple(pair for pair in bot.counts if pair[0] is not cause)
    return (*rest, (cause, bot.count(cause) + 1))
