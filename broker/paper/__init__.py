"""The paper terminal: MetaTrader 5's API over an account of its own and a market that plays back or is made.

The package is itself a stand-in for the module MetaTrader5: its functions, constants, structs and helpers, over one
terminal of the process. A script runs on it after changing one line:

    from broker import paper as mt5          # was: import MetaTrader5 as mt5

    mt5.initialize()                         # a market of its own, one tick a second
    mt5.initialize("supervisor.toml")        # the account of an installation that is not running

`docs/paper-terminal.md` tells what it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from broker import api
from broker.api import (
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
    TradeRequest,
)

if TYPE_CHECKING:
    from broker.paper.connection import initialize, last_error, login, shutdown, step
    from broker.paper.dropin import (
        account_info,
        copy_rates_from,
        copy_rates_from_pos,
        copy_rates_range,
        copy_ticks_from,
        copy_ticks_range,
        history_deals_get,
        history_deals_total,
        history_orders_get,
        history_orders_total,
        market_book_add,
        market_book_get,
        market_book_release,
        order_calc_margin,
        order_calc_profit,
        order_check,
        order_send,
        orders_get,
        orders_total,
        positions_get,
        positions_total,
        symbol_info,
        symbol_info_tick,
        symbol_select,
        symbols_get,
        symbols_total,
        terminal_info,
        version,
    )
    from broker.paper.helpers import Buy, Close, Sell

__version__: Final = "5.0.6231"
__author__: Final = "Stablehand"

#: Names in `broker.api` that the package does not export.
_NOT_EXPORTED: Final = ("SYMBOL_FILLING_",)
_CONSTANTS: Final = {
    name: value
    for name, value in vars(api).items()
    if name.isupper() and isinstance(value, int) and not name.startswith(_NOT_EXPORTED)
}
globals().update(_CONSTANTS)

__all__ = [
    "AccountInfo",
    "BookInfo",
    "Buy",
    "Close",
    "OrderCheckResult",
    "OrderSendResult",
    "Sell",
    "SymbolInfo",
    "TerminalInfo",
    "Tick",
    "TradeDeal",
    "TradeOrder",
    "TradePosition",
    "TradeRequest",
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
    "initialize",
    "last_error",
    "login",
    "market_book_add",
    "market_book_get",
    "market_book_release",
    "order_calc_margin",
    "order_calc_profit",
    "order_check",
    "order_send",
    "orders_get",
    "orders_total",
    "positions_get",
    "positions_total",
    "shutdown",
    "step",
    "symbol_info",
    "symbol_info_tick",
    "symbol_select",
    "symbols_get",
    "symbols_total",
    "terminal_info",
    "version",
]
__all__ += list(_CONSTANTS)

#: In which module each function stands. They are loaded when first asked for: who wants no more than the feeds of
#: this package needs no database.
_WHERE: Final = {
    **dict.fromkeys(("initialize", "last_error", "login", "shutdown", "step"), "connection"),
    **dict.fromkeys(("Buy", "Close", "Sell"), "helpers"),
}


def __getattr__(name: str) -> Any:
    """A function of the terminal; the constants, which a type checker cannot see come, are there already."""
    if name.startswith("__") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE.get(name, 'dropin')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
