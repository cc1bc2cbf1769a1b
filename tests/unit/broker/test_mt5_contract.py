"""The contract of a terminal, twice: the paper terminal itself, and the MetaTrader 5 adapter with it as the package.

Both hold an account of their own over one market and are told the same; every answer and every error must be the same.
Once the broker's names are the bots' names, and once gold has another one at the broker.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from broker import api
from broker import paper as package
from broker.mt5.terminal import FUNCTIONS, Mt5Terminal
from broker.paper import places
from broker.paper.terminal import PaperTerminal
from protocol.botconfig import AccountConfig
from tests import mt5module
from tests.papermarket import MONDAY, Bar, write_csv

LOGIN, SERVER = 424242, "Paper-Demo"
MARKET = """
feed = "replay"
path = "."
symbols = ["EURUSD", "XAUUSD"]
bars_per_second = "max"
commission_per_lot = 3.5
"""
#: The four that make, end and tell of a connection; the adapter's connection is made by `tend`.
CONNECTION = {"initialize", "login", "shutdown", "last_error"}
AT = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
LATE = 1 << 40


def walk(seed: int, price: float, size: float) -> list[Bar]:
    random = np.random.default_rng(seed)
    rows: list[Bar] = []
    for hour in range(90):
        after = round(price + random.normal(0, size), 5)
        rows.append((hour, price, max(price, after) + size, min(price, after) - size, after, 12))
        price = after
    return rows


class Pair:
    """The two, side by side."""

    def __init__(self, folder: Path, module: ModuleType) -> None:
        (folder / "paper.toml").write_text(MARKET)
        write_csv(folder, "EURUSD", walk(1, 1.1, 0.001))
        write_csv(folder, "XAUUSD", walk(2, 2000.0, 2.0))
        place = places.find(str(folder), LOGIN, SERVER, portable=False)
        self.direct = PaperTerminal(
            place.config, name=place.name, database=folder / "direct.db", base_dir=folder, login=LOGIN, server=SERVER
        )
        account = config(str(folder))
        self.told: list[str] = []
        self.adapter = Mt5Terminal(
            module, account, file=folder / "symbols.json", base_dir=folder,
            tell=lambda line, _bad: self.told.append(line),
        )  # fmt: skip
        assert self.adapter.tend() and not self.adapter.held(), self.told
        for _ in range(40):
            self.step()

    def step(self) -> None:
        """The next moment on both sides."""
        assert self.direct.step() is not None
        assert package.step()

    def same(self, call: Callable[[Any], Any]) -> Any:
        """The answer, which both give, as both give the reason in `last_error`."""
        found = [(plain(call(one)), one.last_error()) for one in (self.direct, self.adapter)]
        (value, error), (theirs, their_error) = found
        assert theirs == value
        assert their_error[0] == error[0]
        # Of a symbol that is not there the adapter says which, and what that means at this broker.
        assert their_error[1] == error[1] or (error[0] == api.RES_E_NOT_FOUND and "has no symbol" in their_error[1])
        return value

    def done(self, **request: Any) -> Any:
        """An order that both execute."""
        result = self.same(lambda one: one.order_send(order(**request)))
        assert result["retcode"] in (api.TRADE_RETCODE_DONE, api.TRADE_RETCODE_PLACED), result
        return result

    def close(self) -> None:
        self.adapter.close()
        self.direct.close()


def plain(value: Any) -> Any:
    """As plain values, arrays with their types."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.tobytes()
    if hasattr(value, "_asdict"):
        return {"": type(value).__name__, **{name: plain(field) for name, field in value._asdict().items()}}
    return tuple(plain(one) for one in value) if isinstance(value, tuple) else value


def config(path: str) -> AccountConfig:
    keys = {"kind": "mt5", "path": path, "login": LOGIN, "server": SERVER, "password_env": "STABLEHAND_CONTRACT"}
    return AccountConfig.model_validate(keys)


def order(**request: Any) -> dict[str, Any]:
    return {
        "action": api.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.2, "type": api.ORDER_TYPE_BUY,
        "type_filling": api.ORDER_FILLING_IOC, "magic": 7, "comment": "contract", **request,
    }  # fmt: skip


@pytest.fixture(scope="module", params=["its names", "the broker's names"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both, with open and closed positions in two symbols, and orders that wait, are filled and are removed."""
    folder = tmp_path_factory.mktemp("contract")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STABLEHAND_CONTRACT", "s3cret")
        patch.setenv("STABLEHAND_MT5_FAULTS", str(folder / "faults.json"))
        (folder / "faults.json").write_text(json.dumps({"names": {"GOLD": "XAUUSD"}}))
        package.shutdown()
        module = package if request.param == "its names" else mt5module
        made = Pair(folder, module)
        try:
            trade(made)
            assert made.told == ([] if module is package else [f"XAUUSD is GOLD at {SERVER}"])
            yield made
        finally:
            made.close()
            package.shutdown()


def trade(pair: Pair) -> None:
    """Every action of a request, each done on both sides with the same result."""
    bid = pair.same(lambda one: one.symbol_info_tick("EURUSD"))["bid"]
    gold = pair.same(lambda one: one.symbol_info_tick("XAUUSD"))["bid"]
    first = pair.done(sl=round(bid - 0.05, 5), tp=round(bid + 0.05, 5))["order"]
    pair.done(type=api.ORDER_TYPE_SELL)
    last = pair.same(lambda one: one.positions_get())[-1]["ticket"]
    pair.done(symbol="XAUUSD", volume=0.05, magic=8)
    far = pair.done(action=api.TRADE_ACTION_PENDING, type=api.ORDER_TYPE_BUY_LIMIT, price=round(bid - 0.09, 5))["order"]
    near = {"action": api.TRADE_ACTION_PENDING, "symbol": "XAUUSD", "volume": 0.03}
    pair.done(**near, type=api.ORDER_TYPE_SELL_STOP, price=round(gold - 0.5, 2))
    pair.done(**near, type=api.ORDER_TYPE_BUY_LIMIT, price=round(gold - 300.0, 2))
    pair.done(action=api.TRADE_ACTION_MODIFY, order=far, price=round(bid - 0.08, 5))
    pair.done(action=api.TRADE_ACTION_SLTP, position=first, sl=round(bid - 0.06, 5), tp=round(bid + 0.06, 5))
    pair.step()
    pair.done(volume=0.1, type=api.ORDER_TYPE_SELL, position=first)
    pair.done(action=api.TRADE_ACTION_CLOSE_BY, position=first, position_by=last)
    pair.done(action=api.TRADE_ACTION_PENDING, type=api.ORDER_TYPE_SELL_LIMIT, price=round(bid + 0.09, 5))
    pair.done(action=api.TRADE_ACTION_REMOVE, order=far)
    for _ in range(10):
        pair.step()


def ticket(terminal: Any) -> int:
    return int(terminal.positions_get()[0].ticket)


Call = Callable[[Any], Any]
H1, H4 = api.TIMEFRAME_H1, api.TIMEFRAME_H4
#: Each function, with arguments that succeed, that find nothing, and that are wrong.
CALLS: dict[str, list[Call]] = {
    "version": [lambda t: t.version()],
    "terminal_info": [lambda t: t.terminal_info()],
    "account_info": [lambda t: t.account_info()],
    "symbols_total": [lambda t: t.symbols_total()],
    "symbols_get": [lambda t: t.symbols_get("EUR*"), lambda t: t.symbols_get(group="Z*"), lambda t: t.symbols_get(5)],
    "symbol_info": [
        lambda t: t.symbol_info("EURUSD"), lambda t: t.symbol_info("XAUUSD"), lambda t: t.symbol_info("NOSUCH"),
    ],
    "symbol_info_tick": [lambda t: t.symbol_info_tick("XAUUSD"), lambda t: t.symbol_info_tick("NOSUCH")],
    "symbol_select": [lambda t: t.symbol_select("XAUUSD", True), lambda t: t.symbol_select("NOSUCH", True)],
    "market_book_add": [lambda t: t.market_book_add("EURUSD")],
    "market_book_get": [lambda t: t.market_book_get("XAUUSD")],
    "market_book_release": [lambda t: t.market_book_release("EURUSD")],
    "copy_rates_from": [
        lambda t: t.copy_rates_from("XAUUSD", H1, AT, 9), lambda t: t.copy_rates_from("EURUSD", H1, MONDAY - 5, 9),
        lambda t: t.copy_rates_from("EURUSD", H1, "x", 9),
    ],
    "copy_rates_from_pos": [
        lambda t: t.copy_rates_from_pos("XAUUSD", H4, 0, 5), lambda t: t.copy_rates_from_pos("EURUSD", H1, 3, 4),
        lambda t: t.copy_rates_from_pos("EURUSD", 999, 0, 5), lambda t: t.copy_rates_from_pos("NOSUCH", H1, 0, 5),
        lambda t: t.copy_rates_from_pos("EURUSD", H1, 0, 0), lambda t: t.copy_rates_from_pos("EURUSD", H1, 9000, 5),
    ],
    "copy_rates_range": [
        lambda t: t.copy_rates_range("XAUUSD", H1, MONDAY, AT), lambda t: t.copy_rates_range("EURUSD", H1, AT, MONDAY),
    ],
    "copy_ticks_from": [
        lambda t: t.copy_ticks_from("XAUUSD", AT, 9, api.COPY_TICKS_ALL),
        lambda t: t.copy_ticks_from("EURUSD", AT, 9, 77),
    ],
    "copy_ticks_range": [lambda t: t.copy_ticks_range("XAUUSD", MONDAY, AT, api.COPY_TICKS_INFO)],
    "orders_total": [lambda t: t.orders_total()],
    "orders_get": [
        lambda t: t.orders_get(), lambda t: t.orders_get(symbol="XAUUSD"), lambda t: t.orders_get(group="*,!EUR*"),
        lambda t: t.orders_get(group="*XAU*"), lambda t: t.orders_get(ticket=1), lambda t: t.orders_get(5),
        lambda t: t.orders_get(group=5),
    ],
    "order_calc_margin": [
        lambda t: t.order_calc_margin(api.ORDER_TYPE_BUY, "XAUUSD", 1.0, 2000.0),
        lambda t: t.order_calc_margin(api.ORDER_TYPE_BUY, "EURUSD", -1.0, 1.1),
    ],
    "order_calc_profit": [
        lambda t: t.order_calc_profit(api.ORDER_TYPE_SELL, "XAUUSD", 1.0, 2000.0, 1990.0),
        lambda t: t.order_calc_profit(9, "EURUSD", 1.0, 1.1, 1.2),
    ],
    "order_check": [
        lambda t: t.order_check(order()), lambda t: t.order_check(order(symbol="XAUUSD", volume=0.05)),
        lambda t: t.order_check(order(volume=0.123)), lambda t: t.order_check(order(volume=5000.0)),
        lambda t: t.order_check(order(symbol="NOSUCH")), lambda t: t.order_check(order(volume="1")),
        lambda t: t.order_check(5),
    ],
    "order_send": [
        lambda t: t.order_send(order(symbol="XAUUSD", volume=0.02)), lambda t: t.order_send(order(volume=0.0)),
        lambda t: t.order_send(order(type_filling=api.ORDER_FILLING_BOC)), lambda t: t.order_send(order(sl=99.0)),
        lambda t: t.order_send(order(comment="x" * 40)), lambda t: t.order_send(order(position=5)),
        lambda t: t.order_send({}), lambda t: t.order_send({**order(), "magic": -1}),
        lambda t: t.order_send(order(type=api.ORDER_TYPE_SELL, volume=0.01, position=ticket(t))),
    ],
    "positions_total": [lambda t: t.positions_total()],
    "positions_get": [
        lambda t: t.positions_get(), lambda t: t.positions_get(symbol="XAUUSD"),
        lambda t: t.positions_get(symbol="EURUSD"),
        lambda t: t.positions_get(group="*XAU*"), lambda t: t.positions_get(group="*,!XAU*"),
        lambda t: t.positions_get(ticket=ticket(t)), lambda t: t.positions_get(ticket=1),
        lambda t: t.positions_get("EURUSD"),
    ],
    "history_orders_total": [lambda t: t.history_orders_total(0, LATE), lambda t: t.history_orders_total(0, 5)],
    "history_orders_get": [
        lambda t: t.history_orders_get(0, LATE), lambda t: t.history_orders_get(MONDAY, AT, group="*XAU*"),
        lambda t: t.history_orders_get(0, LATE, group="*XAU*"), lambda t: t.history_orders_get(position=ticket(t)),
        lambda t: t.history_orders_get(ticket=1), lambda t: t.history_orders_get(),
    ],
    "history_deals_total": [lambda t: t.history_deals_total(0, LATE), lambda t: t.history_deals_total("x", LATE)],
    "history_deals_get": [
        lambda t: t.history_deals_get(0, LATE), lambda t: t.history_deals_get(0, LATE, group="*,!XAU*"),
        lambda t: t.history_deals_get(0, LATE, group="XAUUSD"), lambda t: t.history_deals_get(position=ticket(t)),
        lambda t: t.history_deals_get(ticket=1), lambda t: t.history_deals_get(date_from=MONDAY, date_to=AT),
    ],
}  # fmt: skip


def test_every_function_of_the_contract_is_here() -> None:
    functions = {name for name in vars(api.Terminal) if not name.startswith("_")}
    assert len(functions) == 32
    assert functions == CALLS.keys() | CONNECTION
    assert CALLS.keys() | {"last_error"} == FUNCTIONS


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, calls in CALLS.items() for number in range(len(calls))]
)
def test_the_adapter_answers_as_the_terminal_does(pair: Pair, name: str, number: int) -> None:
    pair.same(CALLS[name][number])


def test_what_was_traded_is_there_to_be_compared(pair: Pair) -> None:
    symbols = {"EURUSD", "XAUUSD"}
    assert {one["symbol"] for one in pair.same(lambda t: t.history_deals_get(0, LATE, group="*USD*"))} == symbols
    assert {one["symbol"] for one in pair.same(lambda t: t.history_orders_get(0, LATE))} == symbols
    assert {one["symbol"] for one in pair.same(lambda t: t.orders_get())} == symbols
    assert [one["symbol"] for one in pair.same(lambda t: t.positions_get(group="*XAU*"))][:1] == ["XAUUSD"]
    entries = {one["entry"] for one in pair.same(lambda t: t.history_deals_get(0, LATE))}
    assert entries == {api.DEAL_ENTRY_IN, api.DEAL_ENTRY_OUT, api.DEAL_ENTRY_OUT_BY}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_without_a_connection_each_function_fails_with_the_reason(name: str, tmp_path: Path) -> None:
    away = Mt5Terminal(
        package, config("absent"), file=tmp_path / "s.json", base_dir=tmp_path, tell=lambda _line, _bad: None
    )
    away.tend()
    for call in CALLS[name]:
        if "ticket" in call.__code__.co_names:
            continue
        # Zero symbols would be an answer; that there is none is safer than the package's own 0.
        assert call(away) is (False if name in ("symbol_select", "market_book_add", "market_book_release") else None)
        assert away.last_error() == (-10004, away.held())
