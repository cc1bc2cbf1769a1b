"""What happens to a bot: commands of operators, answers to instructions, news of its process.

An event of a run carries the run's epoch; where that is not the bot's current one, it is stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from supervisor.policy.states import Cause, StopMode

#: A fresh run asked for politely, or at once, or an end without a successor.
LimitStep = Literal["restart", "kill", "quarantine"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base. `cause_id` names the operator command that it goes back to."""

    bot_id: int
    cause_id: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class RunEvent(Event):
    """Base of what is said of one run."""

    epoch: int


# --- operators ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WantRunning(Event):
    """The operator wants it running."""


@dataclass(frozen=True, slots=True)
class WantPaused(Event):
    """The operator wants it alive, watching the market, but not trading."""


@dataclass(frozen=True, slots=True)
class WantStopped(Event):
    """The operator wants it stopped: `keep` asks first, `kill` does not."""

    mode: StopMode = "keep"


@dataclass(frozen=True, slots=True)
class Restart(Event):
    """The operator wants a fresh run."""


@dataclass(frozen=True, slots=True)
class Reconfigured(Event):
    """Its configuration has changed: a run that is wanted shall be a fresh one. It changes nothing that is wanted."""


@dataclass(frozen=True, slots=True)
class GroupRestart(Event):
    """A member of its group has failed, and the group's strategy wants a fresh run of this one too."""

    because: str


@dataclass(frozen=True, slots=True)
class StandDown(Event):
    """The supervisor leaves and stops its bots; `wanted` stays, so that the next one starts them again."""

    mode: StopMode = "keep"


# --- the host ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostPause(Event):
    """The host cannot bear its work now: alive, without new entries. What is wanted stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class HostStop(Event):
    """The host cannot bear its process now, or others go first: stopped until it is released."""

    reason: str


@dataclass(frozen=True, slots=True)
class HostRelease(Event):
    """The host bears it again."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class LimitHit(RunEvent):
    """It uses more than its limits allow, and warning did not help: `detail` has the figures."""

    detail: str
    step: LimitStep = "restart"


# --- answers to instructions -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded(RunEvent):
    """The intent to launch is on disk."""


@dataclass(frozen=True, slots=True)
class RecordFailed(RunEvent):
    """The disk refused the intent; nothing was launched."""

    reason: str


@dataclass(frozen=True, slots=True)
class Blocked(RunEvent):
    """What it must wait for is not running: nothing was recorded or launched; `Unblocked` follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unblocked(Event):
    """All that it had to wait for is running."""


@dataclass(frozen=True, slots=True)
class Launched(RunEvent):
    """The process exists."""

    pid: int


@dataclass(frozen=True, slots=True)
class LaunchFailed(RunEvent):
    """The launcher could not make the process."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class FenceAcked(RunEvent):
    """The gateway made the fence durable."""


@dataclass(frozen=True, slots=True)
class FenceLow(RunEvent):
    """The gateway already knows epoch `highest` of this bot; a new run must exceed it."""

    highest: int


@dataclass(frozen=True, slots=True)
class PauseDone(RunEvent):
    """The bot paused."""


@dataclass(frozen=True, slots=True)
class ResumeDone(RunEvent):
    """The bot trades again."""


@dataclass(frozen=True, slots=True)
class OldRunDead(Event):
    """The process that held the lock is confirmed dead."""


# --- news of the process -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HelloSeen(RunEvent):
    """The run said Hello: the first time, after a reconnection, or to a new supervisor."""

    ready: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True)
class WaitingFor(RunEvent):
    """Alive, not ready, and why: `dependency` or `warmup`."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadySeen(RunEvent):
    """Ready to trade."""


@dataclass(frozen=True, slots=True)
class Exited(RunEvent):
    """The process ended: waitpid's status, exit code or -1, signal or 0. All unknown: status -1."""

    status: int
    code: int
    signal: int
    detail: str = ""
    oom: bool = False


@dataclass(frozen=True, slots=True)
class Gone(RunEvent):
    """The process is no more, and nobody knows how it ended."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class ExecFailed(RunEvent):
    """The system would not execute the program's file; the process that tried has ended."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class LockHeld(RunEvent):
    """The run ended at once (exit code 75) because process `pid` still holds the bot's lock."""

    pid: int


@dataclass(frozen=True, slots=True)
class Hung(RunEvent):
    """Alive, and it does not move; `detail` says how that was seen."""

    detail: str


@dataclass(frozen=True, slots=True)
class AdoptStarted(RunEvent):
    """A run of an earlier supervisor is alive; its Hello is expected within `patience` seconds."""

    patience: float = 10.0


@dataclass(frozen=True, slots=True)
class Deadline(Event):
    """The bot's deadline has passed."""


EVENTS: Final[tuple[type[Event], ...]] = (
    WantRunning,
    WantPaused,
    WantStopped,
    Restart,
    Reconfigured,
    GroupRestart,
    StandDown,
    HostPause,
    HostStop,
    HostRelease,
    LimitHit,
    Recorded,
    RecordFailed,
    Blocked,
    Unblocked,
    Launched,
    LaunchFailed,
    HelloSeen,
    WaitingFor,
    ReadySeen,
    PauseDone,
    ResumeDone,
    Exited,
    Gone,
    ExecFailed,
    LockHeld,
    OldRunDead,
    Hung,
    AdoptStarted,
    FenceAcked,
    FenceLow,
    Deadline,
)
