"""Every return code that a terminal can give, each provoked by a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from broker import api
from broker.paper.requests import TEXTS
from broker.paper.terminal import PaperTerminal
from store.errors import StoreError
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper, step

R = {name.removeprefix("TRADE_RETCODE_"): getattr(api, name) for name in dir(api) if name.startswith("TRADE_RETCODE_")}
DEAL: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
LIMIT: dict[str, Any] = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "type_filling": 2, "price": 1.09}
#: Bid 1.1, ask 1.1001; a market that falls by 100 points in each of its first hours.
CALM: list[Bar] = flat(1.1, [*range(5), *range(48, 60)])
FALLING: list[Bar] = [(hour, 1.1 - hour / 1000, 1.1 - hour / 1000, 1.099 - hour / 1000, 1.099 - hour / 1000, 10)
                      for hour in range(6)]  # fmt: skip

Prepare = Callable[[PaperTerminal], dict[str, Any]]


def bought(terminal: PaperTerminal, **request: Any) -> int:
    """The ticket of a position."""
    result = terminal.order_send(DEAL | request)
    assert result is not None and result.retcode in (10009, 10010), result
    return result.order


def placed(terminal: PaperTerminal, **request: Any) -> int:
    """The ticket of an order that waits."""
    result = terminal.order_send(LIMIT | request)
    assert result is not None and result.retcode in (10008, 10009), result
    return result.order


@dataclass
class Case:
    """The code, the request (or what prepares the terminal and gives it), and what the account is like."""

    code: str
    request: dict[str, Any] | Prepare
    terms: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=lambda: CALM)
    checked: bool = True  # order_check gives the same


def close_of(**request: Any) -> Prepare:
    return lambda terminal: DEAL | {"type": 1, "position": bought(terminal)} | request


def move(**request: Any) -> Prepare:
    return lambda terminal: {"action": 6, "symbol": "EURUSD", "position": bought(terminal, sl=1.05)} | request


def modified(**request: Any) -> Prepare:
    return lambda terminal: LIMIT | {"action": 7, "order": placed(terminal)} | request


def switched(**switches: bool) -> Prepare:
    def prepare(terminal: PaperTerminal) -> dict[str, Any]:
        for name, value in switches.items():
            setattr(terminal.switches, name, value)
        return DEAL

    return prepare


def after(steps: int, prepare: Prepare | dict[str, Any]) -> Prepare:
    def there(terminal: PaperTerminal) -> dict[str, Any]:
        request = prepare(terminal) if callable(prepare) else prepare
        for _ in range(steps):
            step(terminal)
        return request

    return there


def second_request(terminal: PaperTerminal) -> dict[str, Any]:
    bought(terminal)
    return DEAL


def cannot_commit(terminal: PaperTerminal) -> dict[str, Any]:
    def save() -> None:
        terminal.account.undo()
        raise StoreError("disk is full")

    terminal.save = save  # type: ignore[method-assign]
    return DEAL


def second_of_two(terminal: PaperTerminal) -> dict[str, Any]:
    bought(terminal)
    return DEAL | {"type": 1, "position": bought(terminal)}


def removed_twice(terminal: PaperTerminal) -> dict[str, Any]:
    request = {"action": 8, "order": placed(terminal)}
    result = terminal.order_send(request)
    assert result is not None and result.retcode == R["DONE"]
    return request


def rest_of_market_order(terminal: PaperTerminal) -> dict[str, Any]:
    return LIMIT | {"action": 7, "order": bought(terminal, volume=0.5, type_filling=2, price=1.1001)}


def close_twice(terminal: PaperTerminal) -> dict[str, Any]:
    ticket = bought(terminal, volume=0.2, type_filling=2, price=1.1001)
    for _ in range(2):
        terminal.step()
    request = DEAL | {"type": 1, "position": ticket, "volume": 0.3, "type_filling": 2, "price": 1.1, "deviation": 500}
    result = terminal.order_send(request | {"volume": 0.2})
    assert result is not None and result.retcode == R["DONE_PARTIAL"], result
    return request | {"volume": 0.1}


INSTANT = {"execution": "instant"}
THIN = {"liquidity": 0.1, "execution": "instant"}
EXCHANGE = {"execution": "exchange", "filling": ["fok", "ioc", "boc"]}
SLOW = {"latency_ms": 1_800_000, "latency_jitter_ms": 0, "order_timeout_ms": 3_600_000, "price_model": "ohlc"}

CASES = [
    Case("REQUOTE", DEAL | {"price": 1.1001, "deviation": 5}, INSTANT, SLOW, FALLING, checked=False),
    Case("REQUOTE", DEAL | {"price": 1.1011, "deviation": 99}, INSTANT),
    Case("DONE", DEAL | {"price": 1.1001, "deviation": 60}, INSTANT, SLOW, FALLING, checked=False),
    Case("REJECT", DEAL | {"type_filling": 0, "volume": 0.2}, {"liquidity": 0.1}),
    Case("CANCEL", LIMIT | {"type_filling": 3, "price": 1.101}, EXCHANGE),
    Case("CANCEL", DEAL | {"volume": 0.2}, {"liquidity": 0.05, "volume_min": 0.1, "volume_step": 0.1}),
    Case("PLACED", LIMIT, EXCHANGE, checked=False),
    Case("DONE", LIMIT, checked=False),
    Case("DONE_PARTIAL", DEAL | {"volume": 0.3}, {"liquidity": 0.1}, checked=False),
    Case("DONE_PARTIAL", DEAL | {"volume": 0.3, "type_filling": 2, "price": 1.1001}, THIN, checked=False),
    Case("ERROR", cannot_commit, checked=False),
    Case("TIMEOUT", DEAL, {}, {"latency_ms": 500, "order_timeout_ms": 400}, checked=False),
    Case("INVALID", DEAL | {"symbol": "GOLD"}),
    Case("INVALID", DEAL | {"action": 77}),
    Case("INVALID", {"action": 8, "order": 4711}),
    Case("INVALID", {"action": 10}),
    Case("INVALID_VOLUME", DEAL | {"volume": 0.105}),
    Case("INVALID_VOLUME", LIMIT | {"volume": 0.001}),
    Case("INVALID_PRICE", LIMIT | {"price": 1.10001}),
    Case("INVALID_PRICE", LIMIT | {"type": 4, "price": 1.1}),
    Case("INVALID_PRICE", LIMIT | {"type": 3, "price": 1.09}),
    Case("INVALID_PRICE", LIMIT | {"type": 5, "price": 1.11}),
    Case("INVALID_PRICE", LIMIT | {"type": 6, "price": 1.11, "stoplimit": 1.12}),
    Case("INVALID_PRICE", LIMIT | {"type": 7, "price": 1.09}),
    Case("INVALID_PRICE", DEAL, INSTANT),
    Case("INVALID_PRICE", modified(price=0.0)),
    Case("INVALID_STOPS", DEAL | {"sl": 1.2}),
    Case("INVALID_STOPS", LIMIT | {"sl": 1.0901}),
    Case("INVALID_STOPS", LIMIT | {"type": 6, "price": 1.11, "stoplimit": 1.105, "tp": 1.1}),
    Case("INVALID_STOPS", move(sl=1.0999), {"stops_level": 20}),
    Case("TRADE_DISABLED", DEAL, {"trade_mode": "disabled"}),
    Case("TRADE_DISABLED", DEAL, {}, {"trade_allowed": False}),
    Case("MARKET_CLOSED", after(5, DEAL)),
    Case("MARKET_CLOSED", after(5, LIMIT)),
    Case("MARKET_CLOSED", after(5, modified(price=1.08))),
    Case("MARKET_CLOSED", DEAL, {"session": "xetra"}, {"sessions": "calendar"}),
    Case("NO_MONEY", DEAL | {"volume": 50.0}),
    Case("PRICE_CHANGED", DEAL | {"price": 1.1001, "deviation": 5}, {"execution": "request"}, SLOW, FALLING,
         checked=False),
    Case("PRICE_OFF", DEAL, {}, {"currency": "NOK"}),
    Case("INVALID_EXPIRATION", LIMIT | {"type_time": 2, "expiration": MONDAY - 1}),
    Case("INVALID_EXPIRATION", LIMIT | {"type_time": 3}),
    Case("INVALID_EXPIRATION", LIMIT | {"type_time": 1}, {"expiration": ["gtc"]}),
    Case("INVALID_EXPIRATION", LIMIT | {"type_time": 9}),
    Case("ORDER_CHANGED", removed_twice),
    Case("TOO_MANY_REQUESTS", second_request, {}, {"requests_per_second": 1}, checked=False),
    Case("NO_CHANGES", move(sl=1.05)),
    Case("NO_CHANGES", modified()),
    Case("SERVER_DISABLES_AT", DEAL, {}, {"experts_allowed": False}),
    Case("CLIENT_DISABLES_AT", DEAL, {}, {"autotrading": False}),
    Case("CLIENT_DISABLES_AT", switched(autotrading=False)),
    Case("LOCKED", rest_of_market_order, THIN),
    Case("FROZEN", modified(price=1.08), {"freeze_level": 1500}),
    Case("FROZEN", lambda terminal: {"action": 8, "order": placed(terminal)}, {"freeze_level": 1500}),
    Case("FROZEN", move(sl=1.06), {"freeze_level": 6000}),
    Case("FROZEN", lambda terminal: DEAL | {"type": 1, "position": bought(terminal, sl=1.09)}, {"freeze_level": 1000}),
    Case("INVALID_FILL", DEAL | {"type_filling": 2}),
    Case("INVALID_FILL", DEAL | {"type_filling": 0}, {"filling": ["ioc"]}),
    Case("INVALID_FILL", LIMIT | {"type_filling": 3}),
    Case("INVALID_FILL", LIMIT | {"type_filling": 3, "type": 4, "price": 1.11}, EXCHANGE),
    Case("CONNECTION", switched(online=False)),
    Case("ONLY_REAL", DEAL, {"only_real": True}),
    Case("LIMIT_ORDERS", lambda terminal: LIMIT | {"magic": placed(terminal)}, {}, {"limit_orders": 1}),
    Case("LIMIT_VOLUME", lambda terminal: LIMIT | {"magic": bought(terminal)}, {"volume_limit": 0.15}),
    Case("LIMIT_VOLUME", lambda terminal: DEAL | {"magic": placed(terminal)}, {"volume_limit": 0.15}),
    Case("INVALID_ORDER", LIMIT, {"order_types": ["market", "sl", "tp"]}),
    Case("INVALID_ORDER", DEAL, {"order_types": ["limit"]}),
    Case("INVALID_ORDER", DEAL | {"sl": 1.05}, {"order_types": ["market"]}),
    Case("POSITION_CLOSED", DEAL | {"type": 1, "position": 4711}),
    Case("INVALID_CLOSE_VOLUME", close_of(volume=0.2)),
    Case("CLOSE_ORDER_EXIST", close_twice, THIN),
    Case("LIMIT_POSITIONS", second_request, {}, {"limit_positions": 1}),
    Case("REJECT_CANCEL", LIMIT | {"price": 1.101, "volume": 50.0}, EXCHANGE),
    Case("LONG_ONLY", DEAL | {"type": 1}, {"trade_mode": "long-only"}),
    Case("LONG_ONLY", LIMIT | {"type": 3, "price": 1.2}, {"trade_mode": "long-only"}),
    Case("SHORT_ONLY", DEAL, {"trade_mode": "short-only"}),
    Case("CLOSE_ONLY", DEAL, {"trade_mode": "close-only"}),
    Case("FIFO_CLOSE", second_of_two, {}, {"fifo_close": True}),
]  # fmt: skip


def named(case: Case) -> str:
    return case.code


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_code_is_given_and_a_refusal_changes_nothing(tmp_path: Path, case: Case) -> None:
    terminal = paper(tmp_path, {"EURUSD": case.bars}, terms={"EURUSD": case.terms}, **case.config)
    request = case.request(terminal) if callable(case.request) else case.request
    before = terminal.account_info(), terminal.positions_get(), terminal.orders_get(), len(terminal.account.orders)
    checked = terminal.order_check(request)
    result = terminal.order_send(request)
    assert result is not None and checked is not None
    assert result.retcode == R[case.code], (result, TEXTS.get(result.retcode))
    if case.code != "ERROR":
        assert result.comment == TEXTS[result.retcode]
    if case.checked:
        assert checked.retcode == result.retcode
    if result.retcode in (R["DONE"], R["DONE_PARTIAL"], R["PLACED"]):
        assert result.order and checked.retcode == 0
        return
    assert (result.deal, result.order, result.volume, result.price) == (0, 0, 0.0, 0.0)
    now = terminal.account_info(), terminal.positions_get(), terminal.orders_get(), len(terminal.account.orders)
    assert now == before


def test_every_code_has_a_case() -> None:
    assert {case.code for case in CASES} == set(R)
    assert {0, *R.values()} == set(TEXTS)


def test_trading_by_python_switched_off_is_no_answer_at_all(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": CALM})
    terminal.switches.api_disabled = True
    assert terminal.order_send(DEAL) is None
    assert terminal.last_error() == (-8, "Auto-Trading using Python API disabled in Terminal")
    info = terminal.terminal_info()
    assert info is not None and info.tradeapi_disabled


def test_closing_is_allowed_where_opening_is_not(tmp_path: Path) -> None:
    for mode in ("close-only", "long-only"):
        (tmp_path / mode).mkdir()
        terminal = paper(tmp_path / mode, {"EURUSD": CALM})
        ticket = bought(terminal)
        terminal.close()
        again = paper(tmp_path / mode, {"EURUSD": CALM}, terms={"*": {"trade_mode": mode}})
        result = again.order_send(DEAL | {"type": 1, "position": ticket})
        assert result is not None and result.retcode == R["DONE"]


def test_a_requote_tells_the_prices_that_were_there(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": FALLING}, terms={"*": INSTANT}, **SLOW)
    result = terminal.order_send(DEAL | {"price": 1.1001, "deviation": 5})
    # Half an hour of an hour in which the bid falls straight from 1.1 to 1.099.
    assert result is not None and (result.bid, result.ask) == (1.0995, 1.0996)
    again = terminal.order_send(DEAL | {"price": result.ask, "deviation": 0})
    assert again is not None and (again.retcode, again.price) == (R["DONE"], 1.0996)
    assert HOUR == 3600
