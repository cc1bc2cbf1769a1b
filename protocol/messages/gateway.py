"""What the supervisor and a gateway say to each other, over the bus."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.halts import HaltState
from protocol.messages.base import Message


class Fence(Message):
    """From now on only `epoch` of this bot may trade. Acknowledged by Fenced once it is durable.

    `alive=False` fences at the end of a run (stop, kill, quarantine, remove): no epoch may trade until the
    next Fence. `key` is the run's public CURVE key (empty on ipc); `guards` are the limits of the bot that are set.
    """

    t: Literal["fence"] = "fence"
    id: str
    bot_id: int
    name: str
    epoch: int
    alive: bool = True
    magic: int = 0
    key: str = ""
    guards: dict[str, Any] = Field(default_factory=dict)
    cause_id: str = ""


class Fenced(Message):
    """Queued orders of older epochs are dropped, the one in flight has ended, the fence is in the ledger."""

    t: Literal["fenced"] = "fenced"
    id: str
    bot_id: int
    epoch: int
    ok: bool
    remembered: bool = True
    highest_epoch: int  # the gateway's own last epoch for this bot: a new one must exceed it
    reason: str = ""


class Admit(Message):
    """A reader's key is good, or (`alive=False`) no longer: an analysis on demand, which has no fence.

    Not acknowledged: a handshake waits at the gateway until its key is known.
    """

    t: Literal["admit"] = "admit"
    bot_id: int
    key: str
    alive: bool = True


class RosterEntry(Message):
    """One bot that is expected to trade on the gateway's account."""

    t: Literal["roster_entry"] = "roster_entry"
    bot_id: int
    name: str
    symbol: str
    timeframe: str
    magic: int
    running: bool = True  # False: known by magic (for figures), not waited for in lockstep


class Roster(Message):
    """All bots of the account: names and magics for attribution, and whom lockstep waits for.

    `guards` are the limits of the account itself that are set; None: those that the gateway was started with.
    """

    t: Literal["roster"] = "roster"
    bots: list[RosterEntry]
    guards: dict[str, Any] | None = None


class Query(Message):
    """A question to the gateway: `positions`, `deals`, `account`, `symbols`, `close` (args: magic), `ping`.

    `halt` (args: scope, reason, who, flatten) and `lift` (args: scope, who) are answered ahead of the queue.
    """

    t: Literal["query"] = "query"
    id: str
    what: str
    args: dict[str, Any] = Field(default_factory=dict)
    cause_id: str = ""


class QueryResult(Message):
    """The gateway's answer, by id."""

    t: Literal["query_result"] = "query_result"
    id: str
    ok: bool
    result: Any = None
    error: str = ""


class Halts(Message):
    """Every halt that a gateway enforces; said at each Welcome, and whenever one of them changed."""

    t: Literal["halts"] = "halts"
    halts: list[HaltState]


class BotFigures(Message):
    """What the terminal knows of one bot: signed volume (lots, + long), open price, money in account currency."""

    t: Literal["bot_figures"] = "bot_figures"
    bot_id: int
    volume: float
    price: float
    floating: float
    realised: float


class Figures(Message):
    """Published by a gateway when they changed, at most once a second."""

    t: Literal["figures"] = "figures"
    account: dict[str, Any]
    bots: list[BotFigures]
    time: float  # the terminal's clock
    connected: bool = True
    detail: str = ""
    refused_keys: int = 0  # connections to the gateway whose key nobody made known (tcp)
    trouble: str = ""  # what is wrong with the terminal, in one line; `account` may be empty then
