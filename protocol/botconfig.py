"""What a bot is: the configuration that an operator writes, in the file or at run time.

The strategy's own parameters are checked where the strategy is known (the launcher's catalogue); here
they are a table of plain values.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
SymbolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._#&/-]{1,32}$")]
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

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Supervised(Frozen):
    """What bots and programs have in common: how they are started, stopped and started again."""

    name: Name
    """Its name: letters, digits, dot, dash and underscore; at most 64. Bots and programs share them."""
    wanted: Wanted = "running"
    """First value of what is wanted; afterwards the operator's last word holds."""
    restart: RestartPolicy = "permanent"
    """`permanent`: restarted after any end; `transient`: after a failure; `temporary`: never."""
    priority: int = Field(5, ge=0, le=9)
    """Importance: 9 is started first and throttled last."""
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


class BotConfig(Supervised):
    """One bot, complete: defaults filled in, account resolved."""

    account: Name = ""
    """Account it trades on: a table `[accounts.NAME]`. Not needed where there is one."""
    market: SymbolName
    """Symbol to trade, as the account's terminal names it."""
    timeframe: Timeframe = "H1"
    """Timeframe of the bars that it decides on."""
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
    close_timeout_seconds: float = Field(30.0, gt=0, le=300)
    """How long `stop --mode close` waits for the broker to close the bot's positions."""
    cycle_timeout_seconds: float = Field(30.0, gt=0, le=3600)
    """A cycle that takes longer is a hang."""
    order_ttl_seconds: float = Field(30.0, gt=0, le=3600)
    """A decision older than this is no longer sent or executed."""
    on_orphan: Literal["continue", "drain", "close"] = "continue"
    """Without a supervisor for `orphan_after_seconds`: trade on, only close, or close and end."""

    @field_validator("params")
    @classmethod
    def _plain_params(cls, params: dict[str, Any]) -> dict[str, Any]:
        for name, value in params.items():
            if not _is_plain(value):
                raise ValueError(
                    f"{name} = {str(value)[:60]} is no plain value: text, number, true, false, list or table"
                )
        return params


class AccountConfig(Frozen):
    """One trading account, and the terminal that holds it."""

    kind: Literal["paper"] = "paper"
    """`paper`: the embedded terminal, with MetaTrader 5's API."""
    terminal: Literal["embedded", "process"] = "embedded"
    """Where the paper terminal lives: in the gateway, or in a process of its own, which outlives the gateway."""
    terminal_timeout_seconds: float = Field(10.0, gt=0, le=120)
    """`process`: a call without an answer in so many seconds has failed. A lost order counts as never executed
    only half as long again after that."""
    feed: Literal["synthetic", "replay"] = "synthetic"
    """Where prices come from: the embedded market, or MetaTrader CSV exports."""
    seed: int = Field(7, ge=0, le=2**63 - 1)
    """Seed of the embedded market: the same seed gives the same prices."""
    bars_per_second: float | Literal["max"] = 2.0
    """Speed of the feed in bars per second of each symbol; `"max"`: in lockstep, as fast as the bots answer."""
    symbols: tuple[SymbolName, ...] = Field(
        ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD", "BTCUSD", "US500"),
        strict=False,  # a list is what TOML and JSON have
    )
    """Symbols of the account."""
    timeframe: Timeframe = "H1"
    """Timeframe of the feed's bars."""
    path: str | None = None
    """Replay: folder with SYMBOL_TIMEFRAME.csv for each symbol, relative to the configuration file."""
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
