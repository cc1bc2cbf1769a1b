"""What a bot is: the configuration that an operator writes, in the file or at run time.

The strategy's own parameters are checked where the strategy is known (the launcher's catalogue); here
they are a table of plain values.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from protocol.guardlimits import GuardLimits
from protocol.mt5config import PASSWORD_KEYS, Mt5Keys

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
SymbolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._#&/-]{1,32}$")]
#: A symbol, or `*` for every one.
TermsName = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9._#&/-]{1,32})$")]
Wanted = Literal["running", "paused", "stopped"]
RestartPolicy = Literal["permanent", "transient", "temporary"]
Timeframe = Literal[
    "M1", "M2", "M3", "M4", "M5", "M6", "M10", "M12", "M15", "M20", "M30",
    "H1", "H2", "H3", "H4", "H6", "H8", "H12", "D1", "W1", "MN1",
]  # fmt: skip

#: Seconds of each timeframe (MN1: 30 days, for spacing only).
TIMEFRAME_SECONDS: Final[dict[str, int]] = {
    **{f"M{n}": n * 60 for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": n * 3600 for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": 86_400,
    "W1": 604_800,
    "MN1": 2_592_000,
}


class Frozen(BaseModel):
    """A configuration: frozen, an unknown key is an error, and so is "5" where a number is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Supervised(Frozen):
    """What bots and programs have in common: how they are started, stopped and started again."""

    name: Name
    """Its name: letters, digits, dot, dash and underscore; at most 64. Bots and programs share them."""
    wanted: Wanted = "running"
    """First value of what is wanted; afterwards the operator's last word holds."""
    restart: RestartPolicy = "permanent"
    """`permanent`: restarted after any end; `transient`: after a failure; `temporary`: never."""
    priority: int = Field(5, ge=0, le=9)
    """Importance: 9 is started first and, unless `spare_priority` says otherwise, never throttled."""
    intensity: int = Field(5, ge=0, le=1000)
    """Failures allowed in `period_seconds`; one more is quarantine (state `failed`)."""
    period_seconds: float = Field(60.0, gt=0, le=86_400)
    """Length of the sliding window in which failures count."""
    backoff_initial_seconds: float = Field(1.0, gt=0, le=3600)
    """Wait before the second restart in the window; the first is immediate."""
    backoff_max_seconds: float = Field(60.0, gt=0, le=86_400)
    """The longest wait between two restarts."""
    stable_after_seconds: float = Field(10.0, gt=0, le=86_400)
    """After running so long the wait starts again from the beginning (failures still count in the window)."""
    start_timeout_seconds: float = Field(30.0, gt=0, le=3600)
    """How long a new process may take to say Hello."""
    stop_timeout_seconds: float = Field(10.0, gt=0, le=3600)
    """How long a stop may take before it is enforced: half for the message, half for SIGTERM."""
    after: tuple[Name, ...] = Field((), strict=False)
    """Names of bots and programs that must be running before this one is started."""
    group: Name | None = None
    """Group whose members are restarted together: a table `[groups.NAME]`."""
    log_max_bytes: int = Field(10_000_000, ge=10_000)
    """Size at which a log file is rotated, in bytes; the raw output has a file of its own."""
    log_backups: int = Field(3, ge=0, le=100)
    """Rotated log files kept."""


class BotConfig(GuardLimits, Supervised):
    """One bot, complete: defaults filled in, account resolved."""

    account: Name = ""
    """Account it trades on: a table `[accounts.NAME]`. Not needed where there is one."""
    market: SymbolName
    """Symbol to trade, as the account's terminal names it."""
    timeframe: Timeframe = "H1"
    """Timeframe of the bars that it decides on: the feed's, or one that is put together from the feed's bars."""
    strategy: str = Field(min_length=1, max_length=200)
    """Strategy: an id (`stablehand strategies` lists them), or `module:Class` of your own."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The strategy's parameters; what is left out has the strategy's default."""
    risk_percent: float = Field(1.0, gt=0, le=100)
    """Share of the balance that one trade may lose at its stop, in percent."""
    sl_atr_multiplier: float = Field(2.0, gt=0, le=100)
    """Distance of the stop loss, in multiples of ATR(14)."""
    tp_atr_multiplier: float = Field(4.0, ge=0, le=100)
    """Distance of the take profit, in multiples of ATR(14); 0: none."""
    min_lot: Literal["refuse", "accept"] = "refuse"
    """Where the risk allows less than the symbol's smallest volume: refuse the entry, or accept that volume."""
    deviation: int = Field(20, ge=0, le=10_000)
    """Largest slippage accepted, in points."""
    check_interval_seconds: float = Field(60.0, ge=0.1, le=86_400)
    """The longest that a bot waits between two cycles, in seconds; a newly closed bar wakes it at once."""
    throttle_group: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9._-]*$")
    """Bots with the same one are paused and stopped for the machine's sake only together."""
    throttle: bool = True
    """Whether the bot may be paced, paused or stopped for the machine's sake."""
    pace_max: float = Field(100.0, ge=1, le=100)
    """The longest that its pace may be stretched."""
    throttle_most: Literal["pace", "priority", "pause", "stop"] = "stop"
    """The most that may be done to it for the machine's sake: a slower pace, a lower priority at the operating system,
    a pause, or a stop (when flat)."""
    memory_limit_mb: float = Field(0.0, ge=0, le=1_000_000)
    """Memory of its own (USS) that it may use, in megabytes; 0: no limit."""
    memory_limit_seconds: float = Field(30.0, ge=0.5, le=86_400)
    """Over it for so long: a warning; twice as long: a fresh run when flat; four times: at once."""
    cpu_limit_percent: float = Field(0.0, ge=0, le=10_000)
    """Share of one core that it may use, in percent; 0: no limit."""
    cpu_limit_seconds: float = Field(60.0, ge=0.5, le=86_400)
    """Over it for so long: it is paced; twice as long: a fresh run when flat."""
    open_files: int = Field(0, ge=0, le=1_000_000)
    """Descriptors that it may have open (the kernel enforces it; at least 64 are needed); 0: no limit."""
    limit_restarts: int = Field(3, ge=0, le=1000)
    """Fresh runs because of a limit in an hour; one more is quarantine."""
    close_timeout_seconds: float = Field(30.0, gt=0, le=300)
    """How long `stop --mode close` waits for the broker to close the bot's positions."""
    cycle_timeout_seconds: float = Field(30.0, gt=0, le=3600)
    """A cycle that takes longer is a hang."""
    order_ttl_seconds: float = Field(30.0, gt=0, le=3600)
    """A decision older than this is no longer sent or executed."""
    on_orphan: Literal["continue", "drain", "close"] = "continue"
    """Without a supervisor for `orphan_after_seconds`: trade on, only close, or close and end once flat."""

    @field_validator("params")
    @classmethod
    def _plain_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        for name, value in params.items():
            if not _is_plain(value):
                raise ValueError(
                    f"{name} = {str(value)[:60]} is no plain value: text, number, true, false, list or table"
                )
        return params


class SymbolTerms(Frozen):
    """What differs from a symbol's usual terms on the paper terminal; what is left out stays as it is."""

    execution: Literal["request", "instant", "market", "exchange"] | None = None
    """How market orders are executed. `instant` and `request` look at the order's price and deviation."""
    filling: tuple[Literal["fok", "ioc", "boc"], ...] | None = Field(None, strict=False)
    """Filling modes besides `return`, which market execution never has and the others always have."""
    trade_mode: Literal["disabled", "long-only", "short-only", "close-only", "full"] | None = None
    """What may be traded."""
    order_types: (
        tuple[Literal["market", "limit", "stop", "stop-limit", "sl", "tp", "close-by"], ...] | None
    ) = Field(None, strict=False)  # fmt: skip
    """Order types that are allowed."""
    expiration: tuple[Literal["gtc", "day", "specified", "specified-day"], ...] | None = Field(None, strict=False)
    """Expirations that pending orders may have."""
    calc_mode: (
        Literal[
            "forex", "forex-no-leverage", "futures", "cfd", "cfd-index", "cfd-leverage",
            "exchange-stocks", "exchange-futures",
        ] | None
    ) = None  # fmt: skip
    """How margin and profit are computed."""
    contract: float | None = Field(None, gt=0, le=1e12)
    """Contract size: units in a lot."""
    tick_size: float | None = Field(None, gt=0, le=1e9)
    """Smallest change of the price (futures, cfd-index); else a point."""
    tick_value: float | None = Field(None, gt=0, le=1e9)
    """What a change by `tick_size` is worth a lot, in the currency of the profit (futures, cfd-index)."""
    margin_initial: float | None = Field(None, ge=0, le=1e12)
    """Initial margin of a lot (futures)."""
    volume_min: float | None = Field(None, gt=0, le=1e9)
    """Smallest volume, in lots."""
    volume_max: float | None = Field(None, gt=0, le=1e9)
    """Largest volume of one order, in lots."""
    volume_step: float | None = Field(None, gt=0, le=1e9)
    """Step of the volume, in lots."""
    volume_limit: float | None = Field(None, ge=0, le=1e9)
    """Most lots of one direction, pending orders included; 0: no limit."""
    stops_level: int | None = Field(None, ge=0, le=1_000_000)
    """Least distance of stops and pending orders from the price, in points."""
    freeze_level: int | None = Field(None, ge=0, le=1_000_000)
    """Nearer to the price than this, orders and stops cannot be changed, in points."""
    swap_mode: (
        Literal[
            "disabled", "points", "symbol-currency", "margin-currency", "deposit-currency",
            "interest-current", "interest-open", "reopen-current", "reopen-bid",
        ] | None
    ) = None  # fmt: skip
    """What `swap_long` and `swap_short` count in: points, money a lot, percent a year, or a reopening in points."""
    swap_long: float | None = Field(None, ge=-1e9, le=1e9)
    """Swap of a long position a night; negative: paid."""
    swap_short: float | None = Field(None, ge=-1e9, le=1e9)
    """Swap of a short position a night; negative: paid."""
    triple_day: int | None = Field(None, ge=0, le=6)
    """Day whose night pays threefold; Sunday is 0."""
    liquidity: float | None = Field(None, ge=0, le=1e9)
    """Lots that one price has; 0: any number. Larger orders are filled in part, or not, by their filling mode."""
    only_real: bool | None = None
    """Tradable on real accounts only."""
    session: Literal["fx", "metal", "index", "always", "us-exchange", "xetra"] | None = None
    """When it trades: a calendar with daylight saving time."""


class AccountConfig(Mt5Keys, GuardLimits, Frozen):
    """One trading account, and the terminal that holds it."""

    kind: Literal["paper", "mt5", "mt5-remote"] = "paper"
    """`paper`: the embedded terminal, with MetaTrader 5's API. `mt5`: a MetaTrader 5 terminal on this machine
    (Windows). `mt5-remote`: one on another machine, with a gateway beside it. See [MetaTrader 5](metatrader5.md)."""
    terminal: Literal["embedded", "process"] = "embedded"
    """Where the paper terminal lives: in the gateway, or in a process of its own, which outlives the gateway."""
    terminal_timeout_seconds: float = Field(10.0, gt=0, le=120)
    """`process` and `mt5`: a call without an answer in so many seconds has failed. A lost order counts as never
    executed only half as long again after that."""
    feed: Literal["synthetic", "replay"] = "synthetic"
    """Where prices come from: the embedded market, or MetaTrader CSV exports."""
    seed: int = Field(7, ge=0, le=2**63 - 1)
    """Seed of the embedded market: the same seed gives the same prices."""
    bars_per_second: float | Literal["max"] = 2.0
    """Speed of the feed in bars per second of each symbol; `"max"`: in lockstep, as fast as the bots answer."""
    candle_spread_ms: int = Field(500, ge=0, le=500)
    """Most milliseconds over which the bots spread their analyses of a closed bar, one for each bot; 0 below 50 bots,
    and in lockstep. The bar itself is received at once."""
    symbols: tuple[SymbolName, ...] = Field(
        ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500"),
        strict=False,  # a list is what TOML and JSON have
    )
    """Symbols of the account."""
    timeframe: Timeframe = "H1"
    """Timeframe of the feed's bars."""
    path: str | None = None
    """Replay: folder with SYMBOL_TIMEFRAME.csv for each symbol, relative to the configuration file. `mt5`: the
    terminal's program, as `C:/MT5-live/terminal64.exe`."""
    start: str | None = None
    """Replay: first day, as 2020-01-01; earlier bars of the file serve as history."""
    end: str | None = None
    """Replay: the day before which it ends."""
    balance: float = Field(10_000.0, gt=0, le=1e12)
    """First deposit, in the account's currency (booked as a BALANCE deal)."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency of the account."""
    leverage: int = Field(100, ge=1, le=5000)
    """Leverage, 1:N."""
    margin_mode: Literal["hedging", "netting"] = "hedging"
    """`hedging`: each entry its own position; `netting`: one position per symbol, so one bot per symbol."""
    spread_points: int | None = Field(None, ge=0, le=1_000_000)
    """Spread in points, where the file has none or instead of the symbol's usual one."""
    commission_per_lot: float = Field(0.0, ge=0, le=1e6)
    """Commission per lot and side, in the account's currency."""
    fee_per_lot: float = Field(0.0, ge=0, le=1e6)
    """Fee per lot and side, in the account's currency; booked beside the commission."""
    price_model: Literal["pessimistic", "ohlc"] = "pessimistic"
    """Way of the price inside a bar. `pessimistic`: for each position and order the one that is worst for it, so that
    of SL and TP in one bar it is the SL; `ohlc`: open, low, high, close in a rising bar, open, high, low, close in a
    falling one."""
    ticks_per_bar: int = Field(1, ge=1, le=600)
    """Prices that a bar shows while it forms. 1: its open; from 3 on they follow the way of `price_model = "ohlc"`."""
    slippage_points: int = Field(0, ge=0, le=100_000)
    """Most points by which market orders, stop orders and stop losses are filled worse; drawn from the seed."""
    latency_ms: int = Field(0, ge=0, le=3_600_000)
    """Milliseconds until an order is at the market, which moves on meanwhile."""
    latency_jitter_ms: int = Field(0, ge=0, le=3_600_000)
    """Most milliseconds on top; drawn from the seed."""
    order_timeout_ms: int = Field(60_000, ge=1, le=3_600_000)
    """An order that takes longer is answered 10012 and not executed."""
    comment_policy: Literal["keep", "cut16", "replace", "drop"] = "keep"
    """What the broker does to orders' comments: nothing, cut after 16 characters, write its own, or none at all."""
    sessions: Literal["data", "calendar"] = "data"
    """When orders are taken: while a bar forms, or only when the symbol's calendar is open as well."""
    server_timezone: str = Field("UTC", min_length=1, max_length=64)
    """Time zone of the bars' times, for the calendar: a name like Europe/Athens."""
    resample_from: Timeframe | None = None
    """Replay: timeframe of the files, where `timeframe` is to be put together from smaller bars."""
    autotrading: bool = True
    """The terminal's AutoTrading button; off: orders are answered 10027."""
    experts_allowed: bool = True
    """Whether the server takes orders of programs; if not: 10026."""
    trade_allowed: bool = True
    """Whether the account may trade; false is an investor's login: 10017."""
    trade_mode: Literal["demo", "contest", "real"] = "demo"
    """Kind of account that the terminal shows."""
    limit_orders: int = Field(200, ge=0, le=1_000_000)
    """Most pending orders; 0: no limit."""
    limit_positions: int = Field(0, ge=0, le=1_000_000)
    """Most open positions; 0: no limit."""
    requests_per_second: int = Field(0, ge=0, le=1_000_000)
    """Most requests in one second of the feed's clock, the rest are answered 10024; 0: no limit."""
    fifo_close: bool = False
    """Whether the older of two positions must be closed first."""
    margin_call_level: float = Field(50.0, ge=0, le=1e12)
    """Margin call, in percent of the margin or in money (`stop_out_mode`)."""
    stop_out_level: float = Field(30.0, ge=0, le=1e12)
    """Below it positions are closed, the worst first."""
    stop_out_mode: Literal["percent", "money"] = "percent"
    """Whether the two levels are equity in percent of the margin, or equity in the account's currency."""
    terms: dict[TermsName, SymbolTerms] = Field(default_factory=dict)
    """Terms of symbols that differ from the usual: `[accounts.NAME.terms.EURUSD]`, or `"*"` for all."""

    @property
    def passwords(self) -> tuple[str, ...]:
        """The keys that say where the password lies, as far as they are given."""
        return tuple(key for key in PASSWORD_KEYS if getattr(self, key))


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value can travel and be kept as it is: JSON's kinds, numbers of 64 bits, no NaN, not too deep."""
    if isinstance(value, bool | str) or value is None:
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if depth >= 4:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each, depth + 1) for key, each in value.items())
    return isinstance(value, list) and all(_is_plain(each, depth + 1) for each in value)
