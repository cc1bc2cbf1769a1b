"""What a bot and its account's gateway say to each other: the orders socket, and the bars of the market socket."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import WIRE, Message


class Attach(Message):
    """A run asks for its account. Answered once the fence for this epoch stands."""

    t: Literal["attach"] = "attach"
    wire: int = WIRE
    installation: str
    bot_id: int
    epoch: int
    token: str
    name: str
    symbol: str
    timeframe: str
    lookback: int
    magic: int
    read_only: bool = False  # an analysis on demand: no fence needed, no order allowed
    order_ttl: float = 30.0  # seconds: this run's decisions older than that are refused


class Attached(Message):
    """The account is open to the run. `bars` are closed bars, oldest first, as bytes of the rates dtype."""

    t: Literal["attached"] = "attached"
    gateway_boot: str
    symbol: str  # as resolved
    info: dict[str, Any]  # SymbolInfo
    account: dict[str, Any]  # AccountInfo
    position: dict[str, Any] | None
    bars: bytes
    bar_seq: int  # number of the last bar published on this topic; the next has bar_seq + 1
    lockstep: bool = False
    time: float
    clock: float = 0.0  # the gateway's CLOCK_MONOTONIC seconds when it said this


class AttachRefused(Message):
    """Not now (`retry`) or not at all: old epoch, unknown symbol or timeframe, symbol taken on netting."""

    t: Literal["attach_refused"] = "attach_refused"
    reason: str
    retry: bool


class Detach(Message):
    """The run ends or pauses: lockstep no longer waits for it."""

    t: Literal["detach"] = "detach"
    bot_id: int
    epoch: int


class BarDone(Message):
    """Lockstep: the bar `bar_time` is answered; no (further) order comes of it."""

    t: Literal["bar_done"] = "bar_done"
    bot_id: int
    epoch: int
    bar_seq: int
    bar_time: int


class Order(Message):
    """One order: open a position, close it, or move its stops. `id` names it for ever."""

    t: Literal["order"] = "order"
    installation: str
    bot_id: int
    epoch: int
    seq: int  # rises by one within a run
    gateway_boot: str
    decision: str  # symbol|timeframe|bar_time: with bot_id the decision key
    bar_time: int  # open time of the bar decided on, server seconds
    decided_at: float  # wall clock, shown; judged only of runs that do not know the gateway's clock
    decided_mono: float  # CLOCK_MONOTONIC seconds on this machine; judged only where boot ids agree
    boot_id: str = ""  # kernel boot id under which decided_mono was read
    decided_clock: float = 0.0  # when it was decided by the gateway's own monotonic clock, at the earliest
    action: Literal["open", "close", "modify"]
    symbol: str
    side: Literal["buy", "sell"] = "buy"  # open: side of the position; close: side of the position closed
    volume: float = 0.0
    sl: float = 0.0
    tp: float = 0.0
    position: int = 0  # ticket, for close and modify
    deviation: int = 20
    magic: int
    comment: str = ""
    cause_id: str = ""

    @property
    def id(self) -> str:
        """`installation:bot:epoch:seq`."""
        return f"{self.installation}:{self.bot_id}:{self.epoch}:{self.seq}"


class OrderResult(Message):
    """What became of an order. `unknown`: sent, no answer yet; ask again by id, never send anew."""

    t: Literal["order_result"] = "order_result"
    id: str
    status: Literal["done", "refused", "unknown"]
    retcode: int = 0  # MetaTrader's, 0 when the gateway itself refused
    reason: str = ""
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    position: dict[str, Any] | None = None  # the bot's position afterwards, as the terminal tells it


class OrderQuery(Message):
    """What became of order `id`? An id never seen is answered `refused`, and stays refused if it comes late."""

    t: Literal["order_query"] = "order_query"
    id: str
    bot_id: int
    epoch: int


class Call(Message):
    """A read of the terminal by name (see `broker.api.READS`)."""

    t: Literal["call"] = "call"
    id: int
    fn: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


class CallResult(Message):
    """`value` is None where the terminal answered None; then `error` holds its last_error()."""

    t: Literal["call_result"] = "call_result"
    id: int
    value: Any = None
    error: list[Any] | None = None
    clock: float = 0.0  # the gateway's CLOCK_MONOTONIC seconds when it said this


class Bar(Message):
    """A closed bar, published under `topics.bar`. `row` is one record of the rates dtype."""

    t: Literal["bar"] = "bar"
    gateway_boot: str
    symbol: str
    timeframe: str
    seq: int  # rises by one per topic: a gap means a lost frame, and the bot attaches again
    row: bytes
    bid: float
    ask: float
    time: float  # the terminal's clock
    published_mono: float = 0.0
