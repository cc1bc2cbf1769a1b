"""The API beside the facts of the MetaTrader5 package, written down as they stand in its wheel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from broker import api
from tests.papermarket import MONDAY, flat, paper, send

_NAMES = """
initialize login shutdown version last_error terminal_info account_info symbols_total symbols_get symbol_info
symbol_info_tick symbol_select market_book_add market_book_get market_book_release copy_rates_from
copy_rates_from_pos copy_rates_range copy_ticks_from copy_ticks_range orders_total orders_get order_calc_margin
order_calc_profit order_check order_send positions_total positions_get history_orders_total history_orders_get
history_deals_total history_deals_get
"""
FUNCTIONS = _NAMES.split()

FIELDS = {
    "Tick": "time bid ask last volume time_msc flags volume_real",
    "TradePosition": "ticket time time_msc time_update time_update_msc type magic identifier reason volume"
    " price_open sl tp price_current swap profit symbol comment external_id",
    "TradeDeal": "ticket order time time_msc type entry magic position_id reason volume price commission swap"
    " profit fee symbol comment external_id",
    "TradeRequest": "action magic order symbol volume price stoplimit sl tp deviation type type_filling type_time"
    " expiration comment position position_by",
    "OrderSendResult": "retcode deal order volume price bid ask comment request_id retcode_external request",
    "OrderCheckResult": "retcode balance equity profit margin margin_free margin_level comment request",
}


def facts() -> dict[str, Any]:
    """The machine-readable facts, where they lie beside the checkout."""
    path = Path(os.environ.get("STABLEHAND_MT5_FACTS", Path(__file__).parents[4] / "shared" / "mt5" / "api.json"))
    if not path.is_file():
        pytest.skip(f"no {path}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_fields_stand_in_the_order_of_the_package() -> None:
    for name, fields in FIELDS.items():
        assert getattr(api, name)._fields == tuple(fields.split()), name
    assert len(api.SymbolInfo._fields) == 96
    assert len(api.AccountInfo._fields) == 28
    assert len(api.TerminalInfo._fields) == 22
    assert len(api.TradeOrder._fields) == 24


@pytest.mark.market
def test_everything_agrees_with_the_wheel() -> None:
    known = facts()
    assert known["functions"] == FUNCTIONS
    for name, value in known["constants"].items():
        assert getattr(api, name) == value, name
    for name, fields in known["structs"].items():
        assert list(getattr(api, name)._fields) == fields, name
    for name, dtype in (("rates", api.RATES_DTYPE), ("ticks", api.TICKS_DTYPE)):
        assert dtype == np.dtype([tuple(column) for column in known["dtypes"][name]])


def test_terminal_has_all_functions_and_answers_with_the_types(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(9))})
    accepted: api.Terminal = terminal
    assert all(callable(getattr(accepted, name)) for name in FUNCTIONS)
    assert set(FUNCTIONS) >= api.READS
    assert not {"order_send", "login", "shutdown", "initialize", "symbol_select"} & api.READS
    result = send(terminal, "EURUSD", "buy", 0.1)
    position = terminal.positions_get()
    answers: list[Any] = [
        terminal.account_info(), terminal.terminal_info(), terminal.symbol_info("EURUSD"),
        terminal.symbol_info_tick("EURUSD"), result, result.request, *(position or ()),
        *(terminal.history_deals_get(0, MONDAY * 2) or ()), *(terminal.history_orders_get(0, MONDAY * 2) or ()),
        terminal.order_check(result.request._asdict()),
    ]  # fmt: skip
    assert len(answers) == 11
    for answer in answers:
        for field, kind in get_type_hints(type(answer)).items():
            assert type(getattr(answer, field)) is kind, (type(answer).__name__, field)
        assert tuple(answer._asdict()) == type(answer)._fields
    rates = terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_H1, 0, 5)
    ticks = terminal.copy_ticks_from("EURUSD", 0, 5, api.COPY_TICKS_ALL)
    assert rates is not None and rates.dtype == api.RATES_DTYPE
    assert ticks is not None and ticks.dtype == api.TICKS_DTYPE


def test_failures_are_none_with_a_reason_and_never_an_exception(tmp_path: Path) -> None:
    terminal: Any = paper(tmp_path, {"EURUSD": flat(1.1, range(9))})
    invalid, missing = api.RES_E_INVALID_PARAMS, api.RES_E_NOT_FOUND
    failures: list[tuple[Callable[[], object], int, str]] = [
        (lambda: terminal.positions_get("EURUSD"), invalid, "Unnamed arguments not allowed"),
        (lambda: terminal.orders_get(5), invalid, "Unnamed arguments not allowed"),
        (lambda: terminal.symbol_info("GOLD"), missing, "Terminal: Not found"),
        (lambda: terminal.symbol_info_tick(7), invalid, 'Invalid "symbol" argument'),
        (lambda: terminal.copy_rates_from_pos("EURUSD", 999, 0, 5), invalid, 'Invalid "timeframe" argument'),
        (lambda: terminal.copy_rates_from_pos("EURUSD", api.TIMEFRAME_H1, 0, 0), invalid, "Terminal: Invalid params"),
        (lambda: terminal.copy_rates_from("EURUSD", api.TIMEFRAME_H1, "x", 5), invalid, 'Invalid "date_from" argument'),
        (lambda: terminal.history_deals_get(), invalid, "Terminal: Invalid params"),
        (lambda: terminal.order_calc_profit(7, "EURUSD", 1.0, 1.0, 1.0), invalid, 'Invalid "action" argument'),
        (lambda: terminal.order_calc_margin(0, "EURUSD", -1.0, 1.0), invalid, 'Invalid "volume" argument'),
        (lambda: terminal.order_send({"volume": "1"}), invalid, 'Invalid "volume" argument'),
        (lambda: terminal.order_send({"volume": float("nan")}), invalid, 'Invalid "volume" argument'),
        (lambda: terminal.order_send({"comment": 5}), invalid, 'Invalid "comment" argument'),
        (lambda: terminal.order_send({"comment": "x" * 32}), invalid, 'Invalid "comment" argument'),
        (lambda: terminal.order_send({"magic": -1}), invalid, 'Invalid "magic" argument'),
        (lambda: terminal.order_send({"magic": 1 << 64}), invalid, 'Invalid "magic" argument'),
        (lambda: terminal.order_check(None), invalid, "Invalid arguments"),
        (lambda: terminal.market_book_get("EURUSD"), api.RES_E_UNSUPPORTED, "Terminal: Unsupported"),
    ]
    for call, code, text in failures:
        assert call() is None
        assert terminal.last_error() == (code, text)
    for refused in (terminal.market_book_add("EURUSD"), terminal.symbol_select("GOLD"), terminal.login(1)):
        assert refused is False
    assert terminal.symbol_select("EURUSD", True) is True
    assert terminal.last_error() == (api.RES_S_OK, "Success")
    assert terminal.positions_get() == () and terminal.orders_get() == () and terminal.orders_total() == 0

    terminal.shutdown()
    assert terminal.positions_get() is None and terminal.last_error() == (-10004, "No IPC connection")
    assert terminal.initialize() is True and terminal.positions_get() == ()
    assert terminal.initialize(login=terminal.account_info().login) is True
