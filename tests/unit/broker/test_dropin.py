"""The package `broker.paper` in the place of MetaTrader5: its whole API, as a script uses it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker import api
from broker import paper as mt5
from broker.paper.core import login_of
from broker.paper.session import SESSION
from protocol.locks import FileLock
from tests.papermarket import MONDAY, flat, write_csv

ROOT = Path(__file__).resolve().parents[3]
LOCKSTEP = """
feed = "replay"
path = "."
symbols = ["EURUSD", "USDJPY"]
bars_per_second = "max"
"""
BUY: dict[str, Any] = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": mt5.ORDER_TYPE_BUY,
                       "type_filling": mt5.ORDER_FILLING_IOC}  # fmt: skip
NO_CONNECTION = (-10004, "No IPC connection")
INVALID = (-2, "Invalid arguments")


@pytest.fixture(autouse=True)
def left() -> Iterator[None]:
    yield
    mt5.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An account in a folder, whose market waits."""
    (tmp_path / "paper.toml").write_text(LOCKSTEP)
    write_csv(tmp_path, "EURUSD", flat(1.1, range(50)))
    write_csv(tmp_path, "USDJPY", flat(150.0, range(50)))
    return tmp_path


def facts() -> dict[str, Any]:
    path = Path(os.environ.get("STABLEHAND_MT5_FACTS", ROOT.parent / "shared" / "mt5" / "api.json"))
    if not path.is_file():
        pytest.skip(f"no {path}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


#: Each function with arguments that succeed, and the type of its answer.
CALLS: dict[str, tuple[Callable[[], object], type]] = {
    "version": (lambda: mt5.version(), tuple),
    "last_error": (lambda: mt5.last_error(), tuple),
    "terminal_info": (lambda: mt5.terminal_info(), api.TerminalInfo),
    "account_info": (lambda: mt5.account_info(), api.AccountInfo),
    "symbols_total": (lambda: mt5.symbols_total(), int),
    "symbols_get": (lambda: mt5.symbols_get(group="*,!USD*"), tuple),
    "symbol_info": (lambda: mt5.symbol_info("EURUSD"), api.SymbolInfo),
    "symbol_info_tick": (lambda: mt5.symbol_info_tick("EURUSD"), api.Tick),
    "symbol_select": (lambda: mt5.symbol_select("EURUSD", True), bool),
    "copy_rates_from": (
        lambda: mt5.copy_rates_from("EURUSD", mt5.TIMEFRAME_H1, dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), 3),
        np.ndarray,
    ),
    "copy_rates_from_pos": (lambda: mt5.copy_rates_from_pos("EURUSD", mt5.TIMEFRAME_H4, 0, 3), np.ndarray),
    "copy_rates_range": (
        lambda: mt5.copy_rates_range("EURUSD", mt5.TIMEFRAME_D1, MONDAY, MONDAY + 86400),
        np.ndarray,
    ),
    "copy_ticks_from": (lambda: mt5.copy_ticks_from("EURUSD", MONDAY, 3, mt5.COPY_TICKS_ALL), np.ndarray),
    "copy_ticks_range": (
        lambda: mt5.copy_ticks_range("EURUSD", MONDAY, MONDAY + 86400, mt5.COPY_TICKS_INFO),
        np.ndarray,
    ),
    "orders_total": (lambda: mt5.orders_total(), int),
    "orders_get": (lambda: mt5.orders_get(symbol="EURUSD"), tuple),
    "order_calc_margin": (lambda: mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, "EURUSD", 1.0, 1.1), float),
    "order_calc_profit": (lambda: mt5.order_calc_profit(mt5.ORDER_TYPE_SELL, "EURUSD", 1.0, 1.1, 1.0), float),
    "order_check": (lambda: mt5.order_check(BUY), api.OrderCheckResult),
    "order_send": (lambda: mt5.order_send(BUY), api.OrderSendResult),
    "positions_total": (lambda: mt5.positions_total(), int),
    "positions_get": (lambda: mt5.positions_get(group="*USD*"), tuple),
    "history_orders_total": (lambda: mt5.history_orders_total(0, MONDAY * 2), int),
    "history_orders_get": (lambda: mt5.history_orders_get(0, MONDAY * 2, group="*"), tuple),
    "history_deals_total": (lambda: mt5.history_deals_total(0, MONDAY * 2), int),
    "history_deals_get": (lambda: mt5.history_deals_get(0, MONDAY * 2, group="*"), tuple),
}
#: No market depth here: these fail, as for a symbol without depth.
NO_DEPTH: dict[str, tuple[Callable[[], object], object]] = {
    "market_book_add": (lambda: mt5.market_book_add("EURUSD"), False),
    "market_book_get": (lambda: mt5.market_book_get("EURUSD"), None),
    "market_book_release": (lambda: mt5.market_book_release("EURUSD"), False),
}
#: What a function answers without a connection, where that is not None.
WITHOUT = {"symbols_total": 0, "symbol_select": False, "market_book_add": False, "market_book_release": False}
CONNECTION = {"initialize", "login", "shutdown", "last_error"}


@pytest.mark.market
def test_the_module_has_all_that_the_package_has(folder: Path) -> None:
    known = facts()
    assert set(known["functions"]) == CALLS.keys() | NO_DEPTH.keys() | CONNECTION
    for name, value in known["constants"].items():
        assert getattr(mt5, name) == value and name in mt5.__all__, name
    mine = {name for name in mt5.__all__ if name.isupper()}
    assert mine == set(known["constants"])
    for name, fields in known["structs"].items():
        assert list(getattr(mt5, name)._fields) == fields, name
    for name in known["functions"]:
        assert callable(getattr(mt5, name)) and name in mt5.__all__ and getattr(mt5, name).__doc__, name
    assert mt5.initialize(str(folder))
    for name, call in (("rates", CALLS["copy_rates_from"][0]), ("ticks", CALLS["copy_ticks_from"][0])):
        array = call()
        assert isinstance(array, np.ndarray) and len(array)
        assert array.dtype == np.dtype([tuple(column) for column in known["dtypes"][name]])


def test_each_function_answers_in_its_type_and_not_at_all_without_a_connection(folder: Path) -> None:
    for name in CALLS.keys() - CONNECTION:
        assert CALLS[name][0]() == WITHOUT.get(name), name
        assert mt5.last_error() == NO_CONNECTION, name
    assert mt5.initialize(str(folder)) is True and mt5.last_error() == (1, "Success")
    for name, (call, kind) in CALLS.items():
        value = call()
        assert type(value) is kind, name
        assert mt5.last_error() == (1, "Success"), name
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            assert tuple(value._asdict().values()) == tuple(value), name
    for name, (call, failed) in NO_DEPTH.items():
        assert call() is failed and mt5.last_error()[0] == mt5.RES_E_UNSUPPORTED, name
    assert mt5.positions_get(symbol="USDJPY") == () and mt5.last_error()[0] == mt5.RES_S_OK
    for _ in range(2):
        mt5.shutdown()
        assert mt5.account_info() is None and mt5.last_error() == NO_CONNECTION
    assert mt5.initialize(str(folder)) and mt5.positions_total() == 1


def test_arguments_by_position_and_by_name(folder: Path) -> None:
    assert mt5.initialize(str(folder))
    wrong: list[tuple[Callable[[], object], tuple[int, str]]] = [
        (lambda: mt5.positions_get("EURUSD"), (-2, "Unnamed arguments not allowed")),
        (lambda: mt5.orders_get(5), (-2, "Unnamed arguments not allowed")),
        (lambda: mt5.symbol_info(), INVALID),  # type: ignore[call-arg]
        (lambda: mt5.symbol_info(symbol="EURUSD"), INVALID),  # type: ignore[call-arg]
        (lambda: mt5.copy_rates_from_pos("EURUSD", 1), INVALID),  # type: ignore[call-arg]
        (lambda: mt5.copy_rates_from_pos("EURUSD", 16385, 0, 1, 2), INVALID),  # type: ignore[call-arg]
        (lambda: mt5.order_send(**BUY), INVALID),  # type: ignore[call-arg]
        (lambda: mt5.order_send({"volume": "1"}), (-2, 'Invalid "volume" argument')),
        (lambda: mt5.order_send({"comment": "x" * 32}), (-2, 'Invalid "comment" argument')),
        (lambda: mt5.history_deals_get(0), INVALID),
        (lambda: mt5.symbol_info("GOLD"), (-4, "Terminal: Not found")),
    ]
    for number, (call, error) in enumerate(wrong):
        assert call() is None and mt5.last_error() == error, number
    assert mt5.positions_get(symbol="EURUSD", nonsense=1) == ()


#: How the package takes its arguments, by function: those that go by position (the first `least` of them must be
#: given), and names that are taken besides.
BY_POSITION: dict[str, tuple[int, tuple[object, ...], tuple[str, ...]]] = {
    "version": (0, (), ()), "terminal_info": (0, (), ()), "account_info": (0, (), ()), "symbols_total": (0, (), ()),
    "orders_total": (0, (), ()), "positions_total": (0, (), ()),
    "symbols_get": (0, ("*",), ("group",)),
    "symbol_info": (1, ("EURUSD",), ()), "symbol_info_tick": (1, ("EURUSD",), ()),
    "symbol_select": (1, ("EURUSD", True), ()),
    "market_book_add": (1, ("EURUSD",), ()), "market_book_get": (1, ("EURUSD",), ()),
    "market_book_release": (1, ("EURUSD",), ()),
    "copy_rates_from": (4, ("EURUSD", 16385, MONDAY, 1), ()),
    "copy_rates_from_pos": (4, ("EURUSD", 16385, 0, 1), ()),
    "copy_rates_range": (4, ("EURUSD", 16385, MONDAY, MONDAY), ()),
    "copy_ticks_from": (4, ("EURUSD", MONDAY, 1, -1), ()), "copy_ticks_range": (4, ("EURUSD", MONDAY, MONDAY, -1), ()),
    "order_calc_margin": (4, (0, "EURUSD", 0.1, 1.1), ()), "order_calc_profit": (5, (0, "EURUSD", 0.1, 1.1, 1.2), ()),
    "order_check": (1, (BUY,), ()), "order_send": (1, (BUY,), ()),
    "positions_get": (0, (), ("symbol", "ticket", "group")), "orders_get": (0, (), ("symbol", "ticket", "group")),
    "history_orders_total": (2, (0, MONDAY), ()), "history_deals_total": (2, (0, MONDAY), ()),
    "history_orders_get": (2, (0, MONDAY), ("group", "ticket", "position")),
    "history_deals_get": (2, (0, MONDAY), ("group", "ticket", "position")),
}  # fmt: skip
VALUES: dict[str, object] = {"symbol": "EURUSD", "ticket": 1, "position": 1, "group": "*"}


def test_each_function_takes_its_arguments_as_the_package_does(folder: Path) -> None:
    assert BY_POSITION.keys() == (CALLS.keys() | NO_DEPTH.keys()) - CONNECTION  # which the facts are compared with
    assert mt5.initialize(str(folder))
    for name, (least, args, names) in BY_POSITION.items():
        function, failed = getattr(mt5, name), (*WITHOUT.values(), None)
        for count in range(least, len(args) + 1):
            if name not in NO_DEPTH:
                assert function(*args[:count]) is not None and mt5.last_error()[0] == 1, (name, count)
        for count in range(least):  # too few
            assert function(*args[:count]) in failed and mt5.last_error()[0] == -2, (name, count)
        assert function(*args, 1, 2, 3) in failed and mt5.last_error()[0] == -2, name  # too many
        if not names:
            assert function(*args[:-1], **{"symbol" if args else "nonsense": 1}) in failed, name  # by name
            assert mt5.last_error()[0] == -2, name
        for keyword in names:
            given = args if keyword == "group" and name.startswith("history") else ()
            assert function(*given, **{keyword: VALUES[keyword]}) is not None, (name, keyword)
            assert mt5.last_error()[0] == 1, (name, keyword)


def test_a_connection_may_be_asked_for_by_name_and_wrong_arguments_raise_nothing(folder: Path) -> None:
    assert mt5.initialize(path=str(folder), login=7, password="x", server="Demo", timeout=5000, portable=False)
    assert mt5.login(login=8, password="x", server="Demo") and mt5.login(9, password="x")
    account = mt5.account_info()
    assert account is not None and account.login == 9
    wrong: list[Callable[[], object]] = [
        lambda: mt5.initialize(str(folder), 7),  # type: ignore[call-arg]
        lambda: mt5.initialize(nonsense=1),  # type: ignore[call-arg]
        lambda: mt5.login(),  # type: ignore[call-arg]
        lambda: mt5.login(7, "x"),  # type: ignore[call-arg]
    ]
    for number, call in enumerate(wrong):
        assert call() is False and mt5.last_error() == INVALID, number
    assert mt5.account_info() is not None  # still there


def test_a_connection_that_is_not_made_says_why(folder: Path, tmp_path: Path) -> None:
    assert mt5.initialize(str(tmp_path / "no" / "where")) is False
    code, text = mt5.last_error()
    assert code == -10003 and text.startswith("IPC initialize failed, ") and "no such file or folder" in text
    for wrong in ({"login": "7"}, {"login": -1}, {"password": 5}, {"server": 5}, {"timeout": "x"}):
        assert mt5.initialize(str(folder), **wrong) is False
        assert mt5.last_error() == (-2, f'Invalid "{next(iter(wrong))}" argument')
    assert mt5.login(4711) is False and mt5.last_error() == NO_CONNECTION
    (folder / "paper.toml").write_text("balance = -5\n")
    assert mt5.initialize(str(folder)) is False and "balance" in mt5.last_error()[1]
    assert mt5.account_info() is None


def test_an_installations_account_and_its_lock(folder: Path) -> None:
    table = LOCKSTEP.replace("\n", "\n")
    (folder / "paper.toml").unlink()
    (folder / "supervisor.toml").write_text(
        f"[supervisor]\ndata_dir = 'data'\n[accounts.main]\n{table}\n[accounts.other]\n{table}\nstart = 2024-01-02\n"
    )
    assert mt5.initialize(str(folder)) is False
    assert "has 2 paper accounts" in mt5.last_error()[1] and f"main is {login_of('main')}" in mt5.last_error()[1]
    assert mt5.initialize(str(folder), login=4711) is False and mt5.last_error()[0] == mt5.RES_E_AUTH_FAILED
    assert mt5.initialize(str(folder / "supervisor.toml"), login=login_of("main"), server="Some-Demo")
    info = mt5.account_info()
    assert info is not None and (info.login, info.server, info.name) == (login_of("main"), "Some-Demo", "main")
    assert (folder / "data" / "paper-main.db").is_file()
    assert mt5.login(login_of("other")) is True
    info = mt5.account_info()
    assert info is not None and info.name == "other"
    mt5.shutdown()
    # What the account's gateway does while it runs:
    with FileLock(folder / "data" / "locks" / "account-main"):
        assert mt5.initialize(str(folder), login=login_of("main")) is False
        assert f"is locked by process {os.getpid()}" in mt5.last_error()[1]
    assert mt5.initialize(str(folder), login=login_of("main"))


def test_buy_sell_and_close(folder: Path) -> None:
    (folder / "paper.toml").write_text(LOCKSTEP + "latency_ms = 0\n[terms.EURUSD]\nexecution = 'instant'\n")
    assert mt5.Buy("EURUSD", 0.1) is None and mt5.Close("EURUSD") is None
    assert mt5.initialize(str(folder))
    assert mt5.Close("EURUSD") is False
    bought = mt5.Buy("EURUSD", 0.1, comment="mine")
    assert bought is not None and bought.retcode == mt5.TRADE_RETCODE_DONE and bought.request.deviation == 10
    assert mt5.Buy("EURUSD", 0.1, 1.2) is not None
    refused = mt5.Sell("EURUSD", 0.1, 1.2)
    assert refused is not None and refused.retcode == mt5.TRADE_RETCODE_REQUOTE
    sold = mt5.Sell("EURUSD", 0.2)
    assert sold is not None and sold.order
    part = mt5.Sell("EURUSD", 0.1, ticket=bought.order)
    assert part is not None and part.retcode == mt5.TRADE_RETCODE_DONE
    bought = mt5.Buy("EURUSD", 0.1)
    assert bought is not None and mt5.Close("EURUSD", ticket=bought.order) is True
    assert mt5.positions_total() == 1
    assert mt5.Close("EURUSD", comment="all") is True and mt5.positions_get() == ()
    assert mt5.Buy("EURUSD", 0.1) is not None and mt5.Buy("EURUSD", 0.1) is not None
    SESSION.terminal.account.positions = {
        ticket: one._replace(sl=1.0999) if number else one
        for number, (ticket, one) in enumerate(SESSION.terminal.account.positions.items())
    }
    SESSION.terminal.series["EURUSD"].spec = frozen_spec()
    assert mt5.Close("EURUSD") == "Partially"


def frozen_spec() -> Any:
    from dataclasses import replace

    return replace(SESSION.terminal.series["EURUSD"].spec, freeze_level=50)


def test_the_market_waits_for_step_or_goes_on_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("broker.paper.session.time.monotonic", lambda: clock[0])
    assert mt5.initialize(str(folder))

    def now() -> int:
        tick = mt5.symbol_info_tick("EURUSD")
        assert tick is not None
        return (tick.time - MONDAY) // 3600

    clock[0] += 50
    assert now() == 0 and mt5.step() is True and now() == 1
    mt5.shutdown()
    (folder / "paper.toml").write_text(LOCKSTEP.replace('"max"', "0.5"))
    assert mt5.initialize(str(folder)) and now() == 1
    clock[0] += 1.9
    assert now() == 1
    clock[0] += 10
    assert now() == 6
    clock[0] += 1e9
    assert now() == 49 and mt5.symbol_info("EURUSD") is not None


SCRIPT = """
from broker import paper as mt5
from broker.paper import *
if not mt5.initialize(r"C:\\Program Files\\MetaTrader 5\\terminal64.exe", login=25115284, password="x", server="Demo"):
    raise SystemExit(mt5.last_error())
account = mt5.account_info()._asdict()
rates = mt5.copy_rates_from_pos("EURUSD", TIMEFRAME_H1, 0, 250)
point, price = mt5.symbol_info("EURUSD").point, mt5.symbol_info_tick("EURUSD").ask
request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": mt5.ORDER_TYPE_BUY,
           "price": price, "sl": price - 100 * point, "tp": price + 100 * point, "deviation": 20, "magic": 234000,
           "comment": "python script open", "type_time": mt5.ORDER_TIME_GTC, "type_filling": mt5.ORDER_FILLING_FOK}
result = mt5.order_send(request)
print(account["login"], account["server"], len(rates), result.retcode, result.request.magic, mt5.positions_total())
mt5.shutdown()
"""


def test_a_script_for_metatrader_runs_after_changing_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "STABLEHAND_PAPER": str(tmp_path / "own")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["25115284", "Demo", "250", "10009", "234000", "1"], done.stderr
    assert (tmp_path / "own" / "paper-25115284.db").is_file()
