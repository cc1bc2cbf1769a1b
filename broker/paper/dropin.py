"""The functions of the MetaTrader5 package at module level, over one paper terminal of the process.

Arguments before a `/` go by position and those behind a `*` by name, as the package's documentation has them;
what breaks that fails with (-2, "Invalid arguments"). Each function answers as the package does: None (False for
those that say yes or no) and a reason in `last_error()` for a failure, an empty tuple for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.api import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    Rates,
    SymbolInfo,
    TerminalInfo,
    Tick,
    Ticks,
    TradeDeal,
    TradeOrder,
    TradePosition,
    When,
)
from broker.paper.session import SESSION, asks


@asks(None)
def version() -> tuple[int, int, str] | None:
    """Terminal version, build, and its day."""
    return SESSION.terminal.version()


@asks(None)
def terminal_info() -> TerminalInfo | None:
    """The terminal itself."""
    return SESSION.terminal.terminal_info()


@asks(None)
def account_info() -> AccountInfo | None:
    """The account at the present quotes."""
    return SESSION.terminal.account_info()


# --- symbols -----------------------------------------------------------------------------------------


@asks(0)
def symbols_total() -> int:
    """How many symbols there are."""
    return SESSION.terminal.symbols_total()


@asks(None)
def symbols_get(group: str = "*") -> tuple[SymbolInfo, ...] | None:
    """Symbols, all or those of a group like `*,!EUR*`."""
    return SESSION.terminal.symbols_get(group)


@asks(None)
def symbol_info(symbol: str, /) -> SymbolInfo | None:
    """A symbol's terms and prices."""
    return SESSION.terminal.symbol_info(symbol)


@asks(None)
def symbol_info_tick(symbol: str, /) -> Tick | None:
    """A symbol's last quote."""
    return SESSION.terminal.symbol_info_tick(symbol)


@asks(False)
def symbol_select(symbol: str, enable: bool = True, /) -> bool:
    """Show a symbol in the market watch. Those of a paper account always are."""
    return SESSION.terminal.symbol_select(symbol, enable)


@asks(False)
def market_book_add(symbol: str, /) -> bool:
    """There is no market depth: False."""
    return SESSION.terminal.market_book_add(symbol)


@asks(None)
def market_book_get(symbol: str, /) -> tuple[BookInfo, ...] | None:
    """There is no market depth: None."""
    return SESSION.terminal.market_book_get(symbol)


@asks(False)
def market_book_release(symbol: str, /) -> bool:
    """There is no market depth: False."""
    return SESSION.terminal.market_book_release(symbol)


# --- bars and ticks ----------------------------------------------------------------------------------


@asks(None)
def copy_rates_from(symbol: str, timeframe: int, date_from: When, count: int, /) -> Rates | None:
    """`count` bars, the newest of which opened at `date_from` or before."""
    return SESSION.terminal.copy_rates_from(symbol, timeframe, date_from, count)


@asks(None)
def copy_rates_from_pos(symbol: str, timeframe: int, start_pos: int, count: int, /) -> Rates | None:
    """`count` bars back from position `start_pos`; 0 is the bar that forms."""
    return SESSION.terminal.copy_rates_from_pos(symbol, timeframe, start_pos, count)


@asks(None)
def copy_rates_range(symbol: str, timeframe: int, date_from: When, date_to: When, /) -> Rates | None:
    """Bars that opened from `date_from` to `date_to`."""
    return SESSION.terminal.copy_rates_range(symbol, timeframe, date_from, date_to)


@asks(None)
def copy_ticks_from(symbol: str, date_from: When, count: int, flags: int, /) -> Ticks | None:
    """`count` ticks from `date_from` on."""
    return SESSION.terminal.copy_ticks_from(symbol, date_from, count, flags)


@asks(None)
def copy_ticks_range(symbol: str, date_from: When, date_to: When, flags: int, /) -> Ticks | None:
    """Ticks from `date_from` to `date_to`."""
    return SESSION.terminal.copy_ticks_range(symbol, date_from, date_to, flags)


# --- orders, positions, history ------------------------------------------------------------------------


@asks(None)
def orders_total() -> int | None:
    """How many orders wait."""
    return SESSION.terminal.orders_total()


@asks(None)
def orders_get(*args: Any, **kwargs: Any) -> tuple[TradeOrder, ...] | None:
    """Orders that wait: all, or by `symbol=`, `ticket=` or `group=`."""
    return SESSION.terminal.orders_get(*args, **_known(kwargs, "symbol", "ticket", "group"))


@asks(None)
def order_calc_margin(action: int, symbol: str, volume: float, price: float, /) -> float | None:
    """Margin of an order in the account's currency."""
    return SESSION.terminal.order_calc_margin(action, symbol, volume, price)


@asks(None)
def order_calc_profit(
    action: int, symbol: str, volume: float, price_open: float, price_close: float, /
) -> float | None:  # fmt: skip
    """Profit between two prices in the account's currency."""
    return SESSION.terminal.order_calc_profit(action, symbol, volume, price_open, price_close)


@asks(None)
def order_check(request: Mapping[str, Any], /) -> OrderCheckResult | None:
    """What a request would do to the account; nothing is done."""
    return SESSION.terminal.order_check(request)


@asks(None)
def order_send(request: Mapping[str, Any], /) -> OrderSendResult | None:
    """Send a request."""
    return SESSION.terminal.order_send(request)


@asks(None)
def positions_total() -> int | None:
    """How many positions are open."""
    return SESSION.terminal.positions_total()


@asks(None)
def positions_get(*args: Any, **kwargs: Any) -> tuple[TradePosition, ...] | None:
    """Open positions: all, or by `symbol=`, `ticket=` or `group=`."""
    return SESSION.terminal.positions_get(*args, **_known(kwargs, "symbol", "ticket", "group"))


@asks(None)
def history_orders_total(date_from: When, date_to: When, /) -> int | None:
    """How many orders were done from `date_from` to `date_to`."""
    return SESSION.terminal.history_orders_total(date_from, date_to)


@asks(None)
def history_orders_get(*args: Any, **kwargs: Any) -> tuple[TradeOrder, ...] | None:
    """Orders that are done: `(from, to[, group=])`, `ticket=` or `position=`."""
    return SESSION.terminal.history_orders_get(*args, **_known(kwargs, *_HISTORY))


@asks(None)
def history_deals_total(date_from: When, date_to: When, /) -> int | None:
    """How many deals there were from `date_from` to `date_to`."""
    return SESSION.terminal.history_deals_total(date_from, date_to)


@asks(None)
def history_deals_get(*args: Any, **kwargs: Any) -> tuple[TradeDeal, ...] | None:
    """Deals: `(from, to[, group=])`, `ticket=` of their order, or `position=`."""
    return SESSION.terminal.history_deals_get(*args, **_known(kwargs, *_HISTORY))


_HISTORY = ("group", "ticket", "position", "date_from", "date_to")


def _known(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    """The filters that the function knows; the package passes over the others."""
    return {name: value for name, value in kwargs.items() if name in names}
