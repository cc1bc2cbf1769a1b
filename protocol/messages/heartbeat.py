"""The heartbeat: a compact array, since it comes by the ten thousand."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


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
