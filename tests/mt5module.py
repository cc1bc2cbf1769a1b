"""Stands for the package MetaTrader5 in tests: the paper terminal's module, with failures that a test orders.

The test writes what is wrong to the file that STABLEHAND_MT5_FAULTS names, as JSON; it is read before each call:

    {"fail": {"copy_rates_from_pos": [-1, "Terminal: Call failed"], "*": [-10004, "No IPC connection"]},
     "account": {"login": 1}, "terminal": {"trade_allowed": false}, "symbol": {..}, "retcode": 10027,
     "lose_answers": true, "ahead": 7200, "names": {"GOLD": "XAUUSD"}}

`fail` of `*` means every function that asks the terminal. `lose_answers`: orders are executed and answered None.
`retcode`: orders are answered with it, and not executed. `ahead`: the server's clock, in seconds before UTC.
`names`: what the broker calls symbols that the paper market knows under another name.
A gateway that finds STABLEHAND_MT5_TAKEOVER waits so many seconds for an account that has become free.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from broker import paper
from broker.functions import in_group
from broker.mt5 import takeover

_FILE: Final = "STABLEHAND_MT5_FAULTS"
_ANSWERS_FALSE: Final = frozenset({"initialize", "login", "symbol_select"})
if "STABLEHAND_MT5_TAKEOVER" in os.environ:
    takeover.SECONDS = float(os.environ["STABLEHAND_MT5_TAKEOVER"])
_error: list[tuple[int, str]] = []
_shift: list[int] = []


def _faults() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(os.environ[_FILE]).read_text("utf-8"))
    except (KeyError, OSError, ValueError):
        return {}
    return found


def last_error() -> tuple[int, str]:
    """Of the failure that was ordered, else the terminal's own."""
    return _error[-1] if _error else paper.last_error()


def shutdown() -> None:
    """A real one goes on when its client leaves: the market does not stand still."""


def __getattr__(name: str) -> Any:
    function = getattr(paper, name)
    return function if not callable(function) else lambda *args, **kwargs: _call(name, function, args, kwargs)


def _call(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    faults = _faults()
    _error.clear()
    failure = faults.get("fail", {}).get(name) or faults.get("fail", {}).get("*")
    if failure:
        _error.append((int(failure[0]), str(failure[1])))
        return False if name in _ANSWERS_FALSE else None
    names: dict[str, str] = faults.get("names", {})
    back = {own: theirs for theirs, own in names.items()}
    args = tuple(names.get(one, one) if isinstance(one, str) else one for one in args)
    args = tuple({**one, "symbol": names.get(one["symbol"], one["symbol"])} if _names(one) else one for one in args)
    kwargs = {key: names.get(one, one) if key == "symbol" else one for key, one in kwargs.items()}
    masked = name != "symbols_get" and isinstance(kwargs.get("group"), str)
    group = kwargs.pop("group") if masked else "*"  # of the broker's names
    value = _order(args, faults, function) if name == "order_send" else function(*args, **kwargs)
    if value is None:
        return None
    value = _changed(name, value, faults, back)
    return value if group == "*" else tuple(one for one in value if in_group(one.symbol, group))


def _names(value: Any) -> bool:
    """Whether it is a request that names a symbol."""
    return isinstance(value, dict) and "symbol" in value


def _order(args: tuple[Any, ...], faults: dict[str, Any], function: Any) -> Any:
    if faults.get("retcode"):
        request = args[0]
        checked = {name: request.get(name, 0) for name in paper.TradeRequest._fields}
        told = paper.TradeRequest(**checked)
        return paper.OrderSendResult(int(faults["retcode"]), 0, 0, 0.0, 0.0, 0.0, 0.0, "ordered", 0, 0, told)
    value = function(*args)
    if faults.get("lose_answers"):
        _error.append((-10002, "IPC recv failed"))
        return None
    return value


def _changed(name: str, value: Any, faults: dict[str, Any], names: dict[str, str]) -> Any:
    if name == "account_info":
        return value._replace(**faults.get("account", {}))
    if name == "terminal_info":
        return value._replace(**faults.get("terminal", {}))
    if name == "symbols_get":
        return tuple(one._replace(name=names.get(one.name, one.name)) for one in value)
    if name == "symbol_info":
        return value._replace(name=names.get(value.name, value.name))
    if name in ("order_send", "order_check"):
        request = value.request
        return value._replace(request=request._replace(symbol=names.get(request.symbol, request.symbol)))
    if name in ("positions_get", "orders_get", "history_deals_get", "history_orders_get"):
        return tuple(one._replace(symbol=names.get(one.symbol, one.symbol)) for one in value)
    if name == "symbol_info_tick" and "ahead" in faults:
        if not _shift:
            _shift.append(int(time.time()) + int(faults["ahead"]) - value.time)
        return value._replace(time=value.time + _shift[0], time_msc=value.time_msc + _shift[0] * 1000)
    if name == "copy_rates_from_pos" and _shift:
        value = value.copy()
        value["time"] += _shift[0] // 60 * 60
    return value
