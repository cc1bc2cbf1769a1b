"""Every message of the bus, the order path and the gateway: one frozen class each, one tagged union.

The tag is the field `t`. Receivers ignore unknown fields, so that wire version N speaks with N-1.
Heartbeats are the exception: they come by the ten thousand, so they are a compact array (`Heartbeat`).
Times named `*_at` are wall-clock UTC seconds, to show; nothing is timed by them. Feed times (`time`,
`bar_time`) are seconds of the terminal's server clock, as MetaTrader gives them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocol.messages.base import WIRE, Message
from protocol.messages.bus import (
    Bye,
    Command,
    CommandDone,
    Hello,
    History,
    HistoryAck,
    HistoryRow,
    Ready,
    Unwelcome,
    Voice,
    Waiting,
    Welcome,
)
from protocol.messages.gateway import (
    Admit,
    BotFigures,
    Fence,
    Fenced,
    Figures,
    Halts,
    Query,
    QueryResult,
    Roster,
    RosterEntry,
)
from protocol.messages.heartbeat import Heartbeat, Phase, SignalCode
from protocol.messages.orders import (
    Attach,
    Attached,
    AttachRefused,
    Bar,
    BarDone,
    Call,
    CallResult,
    Detach,
    Order,
    OrderQuery,
    OrderResult,
)

__all__ = [
    "WIRE",
    "Admit",
    "AnyMessage",
    "Attach",
    "AttachRefused",
    "Attached",
    "Bar",
    "BarDone",
    "BotFigures",
    "Bye",
    "Call",
    "CallResult",
    "Command",
    "CommandDone",
    "Detach",
    "Fence",
    "Fenced",
    "Figures",
    "Halts",
    "Heartbeat",
    "Hello",
    "History",
    "HistoryAck",
    "HistoryRow",
    "Message",
    "Order",
    "OrderQuery",
    "OrderResult",
    "Phase",
    "Query",
    "QueryResult",
    "Ready",
    "Roster",
    "RosterEntry",
    "SignalCode",
    "Unwelcome",
    "Voice",
    "Waiting",
    "Welcome",
]

AnyMessage = Annotated[
    Hello
    | Welcome
    | Unwelcome
    | Voice
    | Ready
    | Waiting
    | Command
    | CommandDone
    | History
    | HistoryAck
    | Bye
    | Fence
    | Fenced
    | Admit
    | Roster
    | Query
    | QueryResult
    | Halts
    | Figures
    | Attach
    | Attached
    | AttachRefused
    | Detach
    | BarDone
    | Order
    | OrderResult
    | OrderQuery
    | Call
    | CallResult
    | Bar,
    Field(discriminator="t"),
]
