"""The 32 functions of the MetaTrader5 package, and the arrays that they give."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from broker.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
)

#: One bar: `time` is its opening in server seconds, `spread` in points.
RATES_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("tick_volume", "<u8"),
        ("spread", "<i4"),
        ("real_volume", "<u8"),
    ]
)
#: One quote.
TICKS_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("last", "<f8"),
        ("volume", "<u8"),
        ("time_msc", "<i8"),
        ("flags", "<u4"),
        ("volume_real", "<f8"),
    ]
)

Rates = npt.NDArray[np.void]
Ticks = npt.NDArray[np.void]
#: A moment as the functions take it: server seconds, or a datetime (a naive one is local time).
When = datetime | int | float

#: The functions that a bot may call: they read and change nothing.
READS: Final = frozenset(
    {
        "account_info",
        "copy_rates_from",
        "copy_rates_from_pos",
        "copy_rates_range",
        "copy_ticks_from",
        "copy_ticks_range",
        "history_deals_get",
        "history_deals_total",
        "history_orders_get",
        "history_orders_total",
        "last_error",
        "market_book_get",
        "order_calc_margin",
        "order_calc_profit",
        "order_check",
        "orders_get",
        "orders_total",
        "positions_get",
        "positions_total",
        "symbol_info",
        "symbol_info_tick",
        "symbols_get",
        "symbols_total",
        "terminal_info",
        "version",
    }
)


class Terminal(Protocol):
    """The 32 functions. Meanings and arguments are those of the MetaTrader5 package's documentation."""

    def initialize(self, *args: Any, **kwargs: Any) -> bool: ...
    def login(self, *args: Any, **kwargs: Any) -> bool: ...
    def shutdown(self) -> None: ...
    def version(self) -> tuple[int, int, str] | None: ...
    def last_error(self) -> tuple[int, str]: ...
    def terminal_info(self) -> TerminalInfo | None: ...
    def account_info(self) -> AccountInfo | None: ...
    def symbols_total(self) -> int: ...
    def symbols_get(self, group: str = ...) -> tuple[SymbolInfo, ...] | None: ...
    def symbol_info(self, symbol: str) -> SymbolInfo | None: ...
    def symbol_info_tick(self, symbol: str) -> Tick | None: ...
    def symbol_select(self, symbol: str, enable: bool = True) -> bool: ...
    def market_book_add(self, symbol: str) -> bool: ...
    def market_book_get(self, symbol: str) -> tuple[BookInfo, ...] | None: ...
    def market_book_release(self, symbol: str) -> bool: ...
    def copy_rates_from(self, symbol: str, timeframe: int, date_from: When, count: int) -> Rates | None: ...
    def copy_rates_from_pos(self, symbol: str, timeframe: int, start_pos: int, count: int) -> Rates | None: ...
    def copy_rates_range(self, symbol: str, timeframe: int, date_from: When, date_to: When) -> Rates | None: ...
    def copy_ticks_from(self, symbol: str, date_from: When, count: int, flags: int) -> Ticks | None: ...
    def copy_ticks_range(self, symbol: str, date_from: When, date_to: When, flags: int) -> Ticks | None: ...
    def orders_total(self) -> int | None: ...
    def orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...] | None: ...
    def order_calc_margin(self, action: int, symbol: str, volume: float, price: float) -> float | None: ...
    def order_calc_profit(
        self, action: int, symbol: str, volume: float, price_open: float, price_close: float
    ) -> float | None: ...
    def order_check(self, request: Mapping[str, Any]) -> OrderCheckResult | None: ...
    def order_send(self, request: Mapping[str, Any]) -> OrderSendResult | None: ...
    def positions_total(self) -> int | None: ...
    def positions_get(self, *args: Any, **kwargs: Any) -> tuple[TradePosition, ...] | None: ...
    def history_orders_total(self, date_from: When, date_to: When) -> int | None: ...
    def history_orders_get(self, *args: Any, **kwargs: Any) -> tuple[TradeOrder, ...] | None: ...
    def history_deals_total(self, date_from: When, date_to: When) -> int | None: ...
    def history_deals_get(self, *args: Any, **kwargs: Any) -> tuple[TradeDeal, ...] | None: ...


def in_group(symbol: str, group: str) -> bool:
    """Whether a group like `*,!EUR*` has the symbol: some mask fits, and none that begins with `!` does."""
    masks = [mask.strip() for mask in group.split(",") if mask.strip()]
    if any(fnmatchcase(symbol, mask[1:]) for mask in masks if mask.startswith("!")):
        return False
    return any(fnmatchcase(symbol, mask) for mask in masks if not mask.startswith("!"))
