"""Orders: how they fill, what refuses them, hedging and netting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker import api
from broker.api import TradeDeal, TradePosition
from broker.paper.requests import volume_allowed
from broker.paper.terminal import PaperTerminal
from broker.symbols import SPECS
from tests.papermarket import Bar, flat, paper, send, step, total_of_deals


def positions(terminal: PaperTerminal) -> list[TradePosition]:
    found = terminal.positions_get()
    assert found is not None
    return list(found)


def deals(terminal: PaperTerminal) -> list[TradeDeal]:
    found = terminal.history_deals_get(0, 1 << 40)
    assert found is not None
    return list(found)[1:]


def moving(*closes: float) -> list[Bar]:
    """Bars that open where the one before closed; spread 20 points."""
    opens = (closes[0], *closes)
    return [
        (hour, start, max(start, end), min(start, end), end, 20)
        for hour, (start, end) in enumerate(zip(opens, closes, strict=False))
    ]


@pytest.fixture
def hedging(tmp_path: Path) -> PaperTerminal:
    return paper(tmp_path, {"EURUSD": moving(1.10, 1.11, 1.12, 1.13, 1.13)}, commission_per_lot=3.5)


@pytest.fixture
def netting(tmp_path: Path) -> PaperTerminal:
    return paper(tmp_path, {"EURUSD": moving(1.10, 1.11, 1.12, 1.13, 1.13)}, margin_mode="netting")


def test_buy_at_the_ask_closed_at_the_bid(hedging: PaperTerminal) -> None:
    opened = send(hedging, "EURUSD", "buy", 0.2, magic=2**64 - 1, comment="one", price=9.9, deviation=0)
    assert (opened.retcode, opened.comment, opened.price) == (10009, "Request executed", 1.10020)
    (position,) = positions(hedging)
    assert (position.ticket, position.identifier, position.magic) == (opened.order, opened.order, 2**64 - 1)
    assert (position.profit, position.price_current) == (-4.0, 1.1)  # the spread: 20 points of 0.2 a point
    info = hedging.account_info()
    assert info is not None and (info.balance, info.equity, info.margin) == (9999.3, 9995.3, 220.04)
    assert info.margin_level == pytest.approx(9995.3 / 220.04 * 100)
    step(hedging), step(hedging)  # 1.10 -> 1.11
    closed = send(hedging, "EURUSD", "sell", 0.2, position=position.ticket)
    assert closed.retcode == 10009 and closed.price == 1.11
    assert positions(hedging) == []
    into, out = deals(hedging)
    assert (into.entry, into.position_id, into.commission, into.profit) == (0, position.ticket, -0.7, 0.0)
    assert (out.entry, out.position_id, out.commission, out.profit) == (1, position.ticket, -0.7, 196.0)
    info = hedging.account_info()
    assert info is not None and info.balance == 10194.6 == total_of_deals(hedging)
    assert hedging.history_deals_get(ticket=closed.order) == (out,)
    assert hedging.history_deals_get(position=position.ticket) == (into, out)
    orders = hedging.history_orders_get(position=position.ticket)
    assert orders is not None and [(each.ticket, each.state) for each in orders] == [
        (opened.order, api.ORDER_STATE_FILLED),
        (closed.order, api.ORDER_STATE_FILLED),
    ]
    assert hedging.history_deals_total(into.time, into.time) == 2  # with the deposit
    assert hedging.history_deals_get(0, out.time, group="*,!EUR*") == (deals_of_deposit(hedging),)


def deals_of_deposit(terminal: PaperTerminal) -> TradeDeal:
    found = terminal.history_deals_get(0, 1 << 40)
    assert found is not None and found[0].type == api.DEAL_TYPE_BALANCE
    return found[0]


def test_hedging_opposite_without_ticket_is_a_second_position(hedging: PaperTerminal) -> None:
    send(hedging, "EURUSD", "buy", 0.1)
    send(hedging, "EURUSD", "sell", 0.1)
    assert [each.type for each in positions(hedging)] == [0, 1]
    first = positions(hedging)[0]
    send(hedging, "EURUSD", "sell", 0.04, position=first.ticket)
    assert [each.volume for each in positions(hedging)] == [0.06, 0.1]
    assert send(hedging, "EURUSD", "sell", 0.07, position=first.ticket).retcode == 10038
    assert send(hedging, "EURUSD", "buy", 0.01, position=first.ticket).retcode == 10013
    send(hedging, "EURUSD", "sell", 0.06, position=first.ticket)
    assert send(hedging, "EURUSD", "sell", 0.06, position=first.ticket).retcode == 10036
    assert [each.type for each in positions(hedging)] == [1]


def test_netting_adds_reduces_turns_and_closes(netting: PaperTerminal) -> None:
    first = send(netting, "EURUSD", "buy", 0.2, sl=1.05)
    step(netting), step(netting)  # 1.11
    send(netting, "EURUSD", "buy", 0.1)
    (position,) = positions(netting)
    assert (position.volume, position.ticket, position.sl) == (0.3, first.order, 1.05)
    assert position.price_open == pytest.approx((1.1002 * 2 + 1.1102) / 3, abs=1e-8)
    send(netting, "EURUSD", "sell", 0.1)
    assert positions(netting)[0].volume == 0.2
    step(netting)  # 1.12
    turned = send(netting, "EURUSD", "sell", 0.5)
    (position,) = positions(netting)
    assert (position.type, position.volume, position.price_open, position.sl) == (1, 0.3, 1.12, 0.0)
    assert (position.identifier, position.ticket) == (first.order, turned.order)
    send(netting, "EURUSD", "buy", 0.3)
    assert positions(netting) == []
    assert [each.entry for each in deals(netting)] == [0, 0, 1, 2, 1]
    assert {each.position_id for each in deals(netting)} == {first.order}
    info = netting.account_info()
    # 0.1 at 1.11 and 0.2 at 1.12 against the mean 1.103533; then 0.3 from 1.12 to the ask 1.1202
    assert info is not None and info.balance == 10000 + 64.67 + 329.33 - 6.0 == total_of_deals(netting)


def test_retcodes_one_by_one(tmp_path: Path) -> None:
    week = [*range(24), *range(48, 60)]
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, week), "BTCUSD": flat(40000.0, range(60))})

    def code(symbol: str = "EURUSD", side: str = "buy", volume: float = 0.1, **request: Any) -> int:
        result = send(terminal, symbol, side, volume, **request)
        if result.retcode != 10009:
            assert (result.deal, result.order) == (0, 0) and result.comment
        return result.retcode

    assert code("GOLD") == api.TRADE_RETCODE_INVALID
    assert code(action=77) == api.TRADE_RETCODE_INVALID
    assert code(action=api.TRADE_ACTION_MODIFY) == api.TRADE_RETCODE_INVALID
    assert code(type=api.ORDER_TYPE_BUY_LIMIT) == api.TRADE_RETCODE_INVALID
    assert code(action=api.TRADE_ACTION_PENDING, type=2) == api.TRADE_RETCODE_INVALID_PRICE
    assert code(action=api.TRADE_ACTION_CLOSE_BY) == api.TRADE_RETCODE_INVALID
    for volume in (0.0, -0.1, 0.001, 0.105, 100.01):
        assert code(volume=volume) == api.TRADE_RETCODE_INVALID_VOLUME
    for filling in (api.ORDER_FILLING_RETURN, api.ORDER_FILLING_BOC, 9):
        assert code(type_filling=filling) == api.TRADE_RETCODE_INVALID_FILL
    assert code(volume=99.0) == api.TRADE_RETCODE_NO_MONEY
    assert code(position=4711) == api.TRADE_RETCODE_POSITION_CLOSED
    # bid 1.1, ask 1.1001, stops_level 10 points: exactly 10 away is allowed, 9 is not
    too_near: list[dict[str, Any]] = [{"sl": 1.1}, {"sl": 1.09991}, {"tp": 1.1}, {"tp": 1.10009}, {"sl": -1.0}]
    for stops in too_near:
        assert code(**stops) == api.TRADE_RETCODE_INVALID_STOPS
    too_near = [{"tp": 1.1001}, {"tp": 1.10001}, {"sl": 1.10019}]
    for stops in too_near:
        assert code(side="sell", **stops) == api.TRADE_RETCODE_INVALID_STOPS
    assert code(sl=1.0999, tp=1.1001) == api.TRADE_RETCODE_DONE
    assert code(side="sell", sl=1.1002, tp=1.1) == api.TRADE_RETCODE_DONE

    buy = positions(terminal)[0]
    move: dict[str, Any] = {"action": api.TRADE_ACTION_SLTP, "position": buy.ticket}
    assert code(**move, sl=1.0999, tp=1.1001) == api.TRADE_RETCODE_NO_CHANGES
    assert code(**move, sl=1.09995) == api.TRADE_RETCODE_INVALID_STOPS
    assert code("BTCUSD", **move, sl=1.0) == api.TRADE_RETCODE_INVALID
    assert code(action=api.TRADE_ACTION_SLTP, position=4711) == api.TRADE_RETCODE_POSITION_CLOSED
    assert code(**move, sl=1.05) == api.TRADE_RETCODE_DONE
    assert (positions(terminal)[0].sl, positions(terminal)[0].tp) == (1.05, 0.0)

    while step(terminal).time < positions(terminal)[0].time + 30 * 3600:
        pass
    assert code() == api.TRADE_RETCODE_MARKET_CLOSED
    assert code(**move, sl=1.04) == api.TRADE_RETCODE_MARKET_CLOSED
    assert code(side="sell", position=buy.ticket) == api.TRADE_RETCODE_MARKET_CLOSED
    assert code("BTCUSD", volume=0.01) == api.TRADE_RETCODE_DONE


def test_check_tells_what_send_would_do_and_changes_nothing(hedging: PaperTerminal) -> None:
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.2, "type": 0, "type_filling": 1}
    before = hedging.account_info()
    checked = hedging.order_check(request)
    assert checked is not None and (checked.retcode, checked.comment) == (0, "Done")
    assert hedging.account_info() == before and hedging.positions_get() == ()
    assert send(hedging, "EURUSD", "buy", 0.2).retcode == 10009
    after = hedging.account_info()
    assert after is not None
    assert checked[1:7] == (
        after.balance, after.equity, after.profit, after.margin, after.margin_free, after.margin_level,
    )  # fmt: skip
    refused = hedging.order_check(request | {"volume": 0.123})
    assert refused is not None and refused.retcode == api.TRADE_RETCODE_INVALID_VOLUME
    assert refused.equity == after.equity


def test_volume_steps_are_decimal() -> None:
    index = SPECS["US500"]
    assert volume_allowed(index, 0.3) and volume_allowed(index, 0.1 + 0.2)
    assert not volume_allowed(index, 0.25)
    assert not volume_allowed(index, 500.1)
