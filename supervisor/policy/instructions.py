"""What the runtime shall do. The result of each comes back as an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from supervisor.policy.states import Cause, StopMode

Signal = Literal["TERM", "KILL", "ABRT"]
NoteType = Literal["state", "alert", "info"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """Base. `cause_id` is copied from the event."""

    bot_id: int
    cause_id: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class RecordIntent(Instruction):
    """Commit the intent to launch `epoch`; answer `Recorded` or `RecordFailed`. Higher priority first."""

    epoch: int
    priority: int = 5


@dataclass(frozen=True, slots=True)
class Launch(Instruction):
    """Make the process; answer `Launched` or `LaunchFailed`. Higher priority first."""

    epoch: int
    priority: int = 5


@dataclass(frozen=True, slots=True)
class SendFence(Instruction):
    """Tell the gateway that only `epoch` may trade (`alive`), or none; answer `FenceAcked` or `FenceLow`."""

    epoch: int
    alive: bool


@dataclass(frozen=True, slots=True)
class SendStop(Instruction):
    """Ask the run to stop; its answer is its end."""

    epoch: int
    mode: StopMode


@dataclass(frozen=True, slots=True)
class SendAbort(Instruction):
    """Tell a run that hangs to write where, and to end; its answer is its end. One that was stopped goes on for it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SendPause(Instruction):
    """Ask the run to pause; answer `PauseDone`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SendResume(Instruction):
    """Ask the run to trade again; answer `ResumeDone`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SendSignal(Instruction):
    """Signal the process, or its whole group. A process that is gone is no error: its end is told apart."""

    epoch: int
    signal: Signal
    group: bool


@dataclass(frozen=True, slots=True)
class ConfirmDead(Instruction):
    """Make sure that the old run `pid` is dead; answer `OldRunDead`."""

    pid: int


@dataclass(frozen=True, slots=True)
class RecordEnd(Instruction):
    """Commit how the run ended: waitpid's status (-1 unknown), the cause, and words."""

    epoch: int
    status: int
    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Note(Instruction):
    """A line of the journal. Each change of state or epoch gives exactly one of type `state`."""

    type: NoteType
    text: str
    data: dict[str, Any] = field(default_factory=dict)
