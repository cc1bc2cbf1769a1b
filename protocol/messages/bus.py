"""What a child (bot, program, gateway, analysis) and the supervisor say to each other, over the bus."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import WIRE, Message


class Hello(Message):
    """First word of a child on each (re)connection: who it is. The socket's identity says nothing."""

    t: Literal["hello"] = "hello"
    wire: int = WIRE
    kind: Literal["bot", "program", "gateway", "analysis"]
    bot_id: int
    epoch: int
    token: str
    name: str
    pid: int
    start_ticks: int
    boot_id: str
    code_hash: str = ""
    gateway_boot: str = ""  # gateways only
    ready: bool = False  # whether it was already Ready (a reconnection, an adoption)
    paused: bool = False
    history_from: int = 0  # lowest history sequence that it still keeps
    voice: bool = False  # a minder's: its program beats over the bus itself, see Voice


class Welcome(Message):
    """The Hello is accepted."""

    t: Literal["welcome"] = "welcome"
    wire: int = WIRE
    supervisor_boot: str
    heartbeat_interval: float  # seconds


class Unwelcome(Message):
    """The Hello is refused: an old epoch, an unknown token. The child exits with code 76 (EX_PROTOCOL)."""

    t: Literal["unwelcome"] = "unwelcome"
    reason: str


class Voice(Message):
    """A program introduces itself beside its minder, on a connection of its own; then it says heartbeats alone.

    Answered as a Hello is. `token` is the program's own, made from its run's (see `protocol.voice`).
    """

    t: Literal["voice"] = "voice"
    wire: int = WIRE
    token: str
    pid: int


class Ready(Message):
    """Lock held, Hello accepted, strategy built, fence confirmed, position known, lookback received."""

    t: Literal["ready"] = "ready"
    token: str
    position: dict[str, Any] | None = None
    detail: str = ""


class Waiting(Message):
    """Still starting, and why: `dependency` (the gateway does not answer), `warmup` (too few bars yet).

    `status` is what a program says of itself, while it starts or later.
    """

    t: Literal["waiting"] = "waiting"
    token: str
    reason: Literal["dependency", "warmup", "status"]
    detail: str


class Command(Message):
    """Supervisor to child. `stop`, `pause`, `resume`, `pace` (args: factor), `analyse`, `abort`.

    `abort` is for a run whose main thread hangs, and is obeyed by the link's: it writes the stacks of all threads and
    ends the process by SIGABRT.
    """

    t: Literal["command"] = "command"
    id: str
    verb: Literal["stop", "pause", "resume", "pace", "analyse", "abort"]
    args: dict[str, Any] = Field(default_factory=dict)
    cause_id: str = ""


class CommandDone(Message):
    """Child's answer to a Command, by id."""

    t: Literal["command_done"] = "command_done"
    id: str
    ok: bool
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""


class HistoryRow(Message):
    """One line of a bot's history: START STOP OPEN_BUY OPEN_SELL CLOSE_BUY CLOSE_SELL ERROR WARNING INFO ..."""

    t: Literal["history_row"] = "history_row"
    seq: int  # rises by one within a run
    at: float = Field(allow_inf_nan=False)
    action: str
    text: str
    data: dict[str, Any] = Field(default_factory=dict)


class History(Message):
    """Rows that the child keeps, and sends again after each Hello, until HistoryAck covers them."""

    t: Literal["history"] = "history"
    token: str
    rows: list[HistoryRow]


class HistoryAck(Message):
    """All rows up to `seq` are committed in the journal."""

    t: Literal["history_ack"] = "history_ack"
    seq: int


class Bye(Message):
    """Last word of a child that ends by itself or on command."""

    t: Literal["bye"] = "bye"
    token: str
    reason: str
