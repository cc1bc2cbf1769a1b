"""Every message of the bus, the order path and the gateway: one frozen class each, one tagged union.

The tag is the field `t`. Receivers ignore unknown fields, so that wire version N speaks with N-1.
Heartbeats are the exception: they come by the ten thousand, so they are a compact array (`Heartbeat`).
Times named `*_at` are wall-clock UTC seconds, to show; nothing is timed by them. Feed times (`time`,
`bar_time`) are seconds of the terminal's server clock, as MetaTrader gives them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from protocol.halts import HaltState

#: Version of the wire, said in every Hello; a receiver speaks WIRE and WIRE - 1.
WIRE: Final = 1


class Message(BaseModel):
    """Base of all messages: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# --- child (bot, gateway, analysis) <-> supervisor, over the bus --------------------------------------


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
    """Supervisor to child. `stop`, `pause`, `resume`, `pace` (args: factor), `analyse`, `roster`."""

    t: Literal["command"] = "command"
    id: str
    verb: Literal["stop", "pause", "resume", "pace", "analyse"]
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
    at: float
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


# --- supervisor <-> gateway, over the bus -------------------------------------------------------------


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


# --- bot <-> gateway: orders socket -------------------------------------------------------------------


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


# --- heartbeat: compact -------------------------------------------------------------------------------


class Phase(IntEnum):
    """Where the main loop of a child is."""

    BOOT = 0
    ATTACH = 1  # waiting for the gateway
    WARMUP = 2  # waiting for bars
    IDLE = 3  # waiting for the next bar
    ANALYSE = 4
    TRADE = 5  # an order is under way
    PAUSED = 6
    STOPPING = 7
    NOT_READY = 8  # a program that has not said READY=1 yet
    WATCHED = 9  # a program that must say WATCHDOG=1


class SignalCode(IntEnum):
    """Last signal of a bot."""

    NONE = 0
    BUY = 1
    SELL = 2
    HOLD = 3
    ERROR = 4
    EXIT = 5


class Heartbeat(NamedTuple):
    """Progress of the main loop, said by a thread beside it. Ages are milliseconds at the time of sending."""

    seq: int
    phase: int  # Phase
    cycles: int  # cycles done
    progress_age_ms: int  # since the main loop last moved: what a hang is judged by
    lag_ms: int  # how late the heartbeat thread itself woke: the machine's fault, not the bot's
    volume: float  # the bot's own view of its position, signed lots
    last_signal: int  # SignalCode
    errors: int  # analyses that raised
    limit_ms: int  # how long this phase may last before it is a hang
    bar_time: int = 0  # of the last published bar that was decided on (server seconds); 0: none yet
    published_us: int = 0  # when that was, on the monotonic clock of the machine
    received_us: int = 0  # from its publication until the receiving thread had it
    decided_us: int = 0  # from its publication until the strategy had decided
