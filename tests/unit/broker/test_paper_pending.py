"""Orders that wait: where they fill inside a bar and at a gap, when they end, and what survives a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker import api
from broker.api import TradeDeal, TradeOrder
from broker.paper.terminal import PaperTerminal
from tests.papermarket import HOUR, MONDAY, Bar, flat, paper, send, step, total_of_deals

BUY_LIMIT, SELL_LIMIT, BUY_STOP, SELL_STOP, BUY_STOP_LIMIT, SELL_STOP_LIMIT = range(2, 8)
RETURN, IOC, FOK = api.ORDER_FILLING_RETURN, api.ORDER_FILLING_IOC, api.ORDER_FILLING_FOK


def wait(terminal: PaperTerminal, kind: int, price: float, volume: float = 0.1, **request: Any) -> int:
    """The ticket of a pending order."""
    settings = {"type": kind, "price": price, "type_filling": RETURN, **request}
    result = send(terminal, "EURUSD", "buy", volume, action=api.TRADE_ACTION_PENDING, **settings)
    assert result.retcode == api.TRADE_RETCODE_DONE, result
    return result.order


def deals(terminal: PaperTerminal) -> list[TradeDeal]:
    found = terminal.history_deals_get(0, 1 << 40)
    assert found is not None
    return list(found)[1:]


def done(terminal: PaperTerminal, ticket: int) -> TradeOrder:
    found = terminal.history_orders_get(ticket=ticket)
    assert found is not None and len(found) == 1
    return found[0]


def played(folder: Path, bar: Bar, kind: int, price: float, **request: Any) -> tuple[PaperTerminal, list[TradeDeal]]:
    """One pending order, placed at bid 1.1 and ask 1.1010, and one bar of the test afterwards."""
    config = request.pop("config", {})
    rows = [(0, 1.1, 1.1, 1.1, 1.1, 100), bar, *flat(bar[4], range(2, 5), spread=100)]
    terminal = paper(folder, {"EURUSD": rows}, **config)
    wait(terminal, kind, price, **request)
    step(terminal), step(terminal)
    return terminal, deals(terminal)


# Kind, price, high and low of the bid -> price of the deal; the ask is 0.0010 above, and buys wait for it.
TOUCHED = [
    (BUY_LIMIT, 1.095, 1.1, 1.0941, None),
    (BUY_LIMIT, 1.095, 1.1, 1.0940, 1.095),
    (SELL_LIMIT, 1.105, 1.1049, 1.1, None),
    (SELL_LIMIT, 1.105, 1.1050, 1.1, 1.105),
    (BUY_STOP, 1.105, 1.1039, 1.1, None),
    (BUY_STOP, 1.105, 1.1040, 1.1, 1.105),
    (SELL_STOP, 1.095, 1.1, 1.0951, None),
    (SELL_STOP, 1.095, 1.1, 1.0950, 1.095),
]


@pytest.mark.parametrize("model", ["pessimistic", "ohlc"])
@pytest.mark.parametrize(("kind", "price", "high", "low", "expected"), TOUCHED)
def test_touched_inside_the_bar(
    tmp_path: Path, model: str, kind: int, price: float, high: float, low: float, expected: float | None
) -> None:
    bar = (1, 1.1, high, low, 1.1, 100)
    terminal, made = played(tmp_path, bar, kind, price, magic=7, comment="mine", config={"price_model": model})
    assert [each.price for each in made] == ([] if expected is None else [expected])
    if expected is None:
        assert terminal.orders_total() == 1
        return
    (deal,) = made
    assert (deal.entry, deal.reason, deal.magic, deal.comment) == (0, api.DEAL_REASON_EXPERT, 7, "mine")
    assert deal.time_msc == (MONDAY + 2 * HOUR) * 1000 - 1
    order = done(terminal, deal.order)
    assert (order.type, order.state, order.position_id) == (kind, api.ORDER_STATE_FILLED, deal.order)
    assert (order.volume_initial, order.volume_current, order.time_setup) == (0.1, 0.0, MONDAY)
    assert terminal.orders_get() == () and terminal.positions_total() == 1


@pytest.mark.parametrize(
    ("kind", "price", "opening", "expected"),
    [
        (BUY_LIMIT, 1.095, 1.08, 1.081),  # better than asked for
        (SELL_LIMIT, 1.105, 1.12, 1.12),
        (BUY_STOP, 1.105, 1.12, 1.121),  # worse
        (SELL_STOP, 1.095, 1.08, 1.08),
    ],
)
def test_a_gap_fills_at_the_opening_price(
    tmp_path: Path, kind: int, price: float, opening: float, expected: float
) -> None:
    _, made = played(tmp_path, (1, opening, opening, opening, opening, 100), kind, price)
    assert [(each.price, each.time) for each in made] == [(expected, MONDAY + HOUR)]


def test_which_way_the_price_goes_is_the_models(tmp_path: Path) -> None:
    # A rising bar: open 1.1, low 1.09, high 1.12, close 1.115; the ask is 10 points above.
    bar: Bar = (1, 1.1, 1.12, 1.09, 1.115, 100)

    def made(model: str, kind: int, price: float, **stops: float) -> list[tuple[float, int]]:
        folder = tmp_path / f"{model}{kind}{price}{sum(stops.values())}"
        folder.mkdir()
        found = played(folder, bar, kind, price, config={"price_model": model}, **stops)[1]
        return [(each.price, each.reason) for each in found]

    # A buy stop above: the low lies before it on the way, or it lies behind it at the worst.
    assert made("ohlc", BUY_STOP, 1.105, sl=1.095) == [(1.105, 3)]
    assert made("pessimistic", BUY_STOP, 1.105, sl=1.095) == [(1.105, 3), (1.095, 4)]
    # A buy limit below: certain to reach its SL; its TP only where the high comes after it.
    assert made("ohlc", BUY_LIMIT, 1.098, tp=1.118) == [(1.098, 3), (1.118, 5)]
    assert made("pessimistic", BUY_LIMIT, 1.098, tp=1.118) == [(1.098, 3)]
    assert made("pessimistic", BUY_LIMIT, 1.098, tp=1.114) == [(1.098, 3), (1.114, 5)]  # the close is beyond it
    assert made("pessimistic", BUY_LIMIT, 1.098, sl=1.092) == [(1.098, 3), (1.092, 4)]
    # A stop-limit: up to its stop price, and back to its limit.
    assert made("ohlc", BUY_STOP_LIMIT, 1.11, stoplimit=1.105) == []
    assert made("pessimistic", BUY_STOP_LIMIT, 1.11, stoplimit=1.105) == [(1.105, 3)]
    # Stop and limit of one bar in the order of the way: down to 1.09 first.
    assert made("ohlc", SELL_STOP, 1.095, tp=1.092, sl=1.12) == [(1.095, 3), (1.092, 5)]
    assert made("pessimistic", SELL_STOP, 1.095, tp=1.0905, sl=1.12) == [(1.095, 3), (1.12, 4)]


def test_a_stop_limit_becomes_a_limit(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1, 10), (1, 1.1, 1.111, 1.1, 1.11, 10), *flat(1.11, range(2, 4))]
    terminal = paper(tmp_path, {"EURUSD": rows}, price_model="ohlc")
    ticket = wait(terminal, BUY_STOP_LIMIT, 1.11, stoplimit=1.105, tp=1.12)
    step(terminal), step(terminal)
    (order,) = terminal.orders_get(ticket=ticket) or ()
    assert (order.type, order.price_open, order.price_stoplimit, order.tp) == (BUY_LIMIT, 1.105, 0.0, 1.12)
    assert order.price_current == 1.1101


def test_expiration(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(60))})
    hour = wait(terminal, BUY_LIMIT, 1.05, type_time=api.ORDER_TIME_SPECIFIED, expiration=MONDAY + 3 * HOUR)
    day = wait(terminal, BUY_LIMIT, 1.05, type_time=api.ORDER_TIME_DAY)
    tuesday = wait(terminal, BUY_LIMIT, 1.05, type_time=api.ORDER_TIME_SPECIFIED_DAY, expiration=MONDAY + 25 * HOUR)
    always = wait(terminal, BUY_LIMIT, 1.05)
    ends: dict[int, int] = {}
    while (moment := terminal.step()) is not None:
        waiting = {order.ticket for order in terminal.orders_get() or ()}
        for ticket in {hour, day, tuesday, always} - waiting - ends.keys():
            ends[ticket] = (moment.time - MONDAY) // HOUR
            assert done(terminal, ticket).state == api.ORDER_STATE_EXPIRED
    assert ends == {hour: 3, day: 24, tuesday: 48}


def test_modify_and_remove(tmp_path: Path) -> None:
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(9))})
    ticket = wait(terminal, BUY_LIMIT, 1.09, sl=1.08)
    change = {"action": api.TRADE_ACTION_MODIFY, "order": ticket, "price": 1.095, "tp": 1.12, "type_time": 1}
    assert send(terminal, "EURUSD", "buy", 0.0, **change).retcode == api.TRADE_RETCODE_DONE
    (order,) = terminal.orders_get(symbol="EURUSD") or ()
    assert (order.price_open, order.sl, order.tp, order.time_expiration) == (1.095, 0.0, 1.12, MONDAY + 24 * HOUR)
    result = send(terminal, "", "buy", 0.0, action=api.TRADE_ACTION_REMOVE, order=ticket)
    assert (result.retcode, result.order) == (api.TRADE_RETCODE_DONE, ticket)
    assert terminal.orders_get(group="*") == () and done(terminal, ticket).state == api.ORDER_STATE_CANCELED
    assert terminal.history_orders_total(0, MONDAY * 2) == 1


def test_an_order_without_money_is_rejected_when_its_price_comes(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1), (1, 1.1, 1.1, 1.08, 1.09), *flat(1.09, range(2, 4))]
    terminal = paper(tmp_path, {"EURUSD": rows}, balance=1000.0)
    ticket = wait(terminal, BUY_LIMIT, 1.09, 1.0)
    step(terminal), step(terminal)
    assert done(terminal, ticket).state == api.ORDER_STATE_REJECTED and deals(terminal) == []


def test_a_price_with_little_volume(tmp_path: Path) -> None:
    terms = {"*": {"liquidity": 0.2, "execution": "exchange"}}
    terminal = paper(tmp_path, {"EURUSD": flat(1.1, range(9))}, terms=terms)
    fok = send(terminal, "EURUSD", "buy", 0.5, type_filling=FOK)
    assert fok.retcode == api.TRADE_RETCODE_REJECT
    ioc = send(terminal, "EURUSD", "buy", 0.5)
    assert (ioc.retcode, ioc.volume) == (api.TRADE_RETCODE_DONE_PARTIAL, 0.2)
    order = done(terminal, ioc.order)
    assert (order.state, order.volume_initial, order.volume_current) == (api.ORDER_STATE_CANCELED, 0.5, 0.3)
    rest = send(terminal, "EURUSD", "buy", 0.5, type_filling=RETURN, magic=3)
    assert (rest.retcode, rest.volume) == (api.TRADE_RETCODE_DONE_PARTIAL, 0.2)
    (order,) = terminal.orders_get() or ()
    assert (order.type, order.state, order.volume_current) == (0, api.ORDER_STATE_PARTIAL, 0.3)
    step(terminal)
    step(terminal)
    assert terminal.orders_get() == () and done(terminal, rest.order).state == api.ORDER_STATE_FILLED
    mine = [each for each in deals(terminal) if each.order == rest.order]
    assert [each.volume for each in mine] == [0.2, 0.2, 0.1] and {each.position_id for each in mine} == {rest.order}
    held = {each.ticket: each.volume for each in terminal.positions_get() or ()}
    assert held == {ioc.order: 0.2, rest.order: 0.5}
    closing = send(terminal, "EURUSD", "sell", 0.5, type_filling=RETURN, position=rest.order)
    assert closing.retcode == api.TRADE_RETCODE_DONE_PARTIAL
    step(terminal), step(terminal)
    assert [each.ticket for each in terminal.positions_get() or ()] == [ioc.order]


def test_close_by_pays_no_spread_and_leaves_the_rest(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1, 20), *flat(1.11, range(1, 4), spread=20)]
    terminal = paper(tmp_path, {"EURUSD": rows}, commission_per_lot=3.0)
    buy = send(terminal, "EURUSD", "buy", 0.3, magic=1)  # 1.1002
    step(terminal)
    sell = send(terminal, "EURUSD", "sell", 0.1, magic=2)  # 1.11
    result = send(terminal, "", "buy", 0.0, action=10, position=buy.order, position_by=sell.order, magic=9)
    assert (result.retcode, result.volume) == (api.TRADE_RETCODE_DONE, 0.1)
    first, second = deals(terminal)[-2:]
    assert (first.entry, first.position_id, first.profit, first.price) == (3, buy.order, 98.0, 1.11)
    assert (second.entry, second.position_id, second.profit, second.price) == (3, sell.order, 0.0, 1.11)
    assert (first.type, second.type, first.commission) == (1, 0, 0.0) and first.order == second.order == result.order
    order = done(terminal, result.order)
    assert (order.type, order.position_id, order.position_by_id) == (8, buy.order, sell.order)
    assert [(each.ticket, each.volume) for each in terminal.positions_get() or ()] == [(buy.order, 0.2)]
    assert terminal.account.balance == total_of_deals(terminal)
    same = send(terminal, "", "buy", 0.0, action=10, position=buy.order, position_by=buy.order)
    assert same.retcode == api.TRADE_RETCODE_INVALID


def test_netting_orders_add_reduce_and_turn(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1), (1, 1.1, 1.105, 1.1, 1.1), (2, 1.1, 1.115, 1.1, 1.1),
                       *flat(1.1, range(3, 5))]  # fmt: skip
    terminal = paper(tmp_path, {"EURUSD": rows}, margin_mode="netting", leverage=30)
    opened = send(terminal, "EURUSD", "buy", 0.2)
    wait(terminal, SELL_LIMIT, 1.105, 0.1)
    wait(terminal, SELL_LIMIT, 1.11, 0.3)
    step(terminal), step(terminal)
    assert [each.volume for each in terminal.positions_get() or ()] == [0.1]
    step(terminal)
    (position,) = terminal.positions_get() or ()
    assert (position.type, position.volume, position.price_open, position.identifier) == (1, 0.2, 1.11, opened.order)
    assert [each.entry for each in deals(terminal)] == [0, 1, 2]


def test_orders_survive_a_restart_in_the_order_in_which_they_were_done(tmp_path: Path) -> None:
    rows: list[Bar] = [(0, 1.1, 1.1, 1.1, 1.1), *[(hour, 1.1, 1.1, 1.1 - hour / 1000, 1.1) for hour in range(1, 9)]]
    terminal = paper(tmp_path, {"EURUSD": rows})
    low = wait(terminal, BUY_LIMIT, 1.094, magic=2**64 - 1)
    high = wait(terminal, BUY_LIMIT, 1.098)
    never = wait(terminal, BUY_LIMIT, 1.05, sl=1.04, comment="later")
    for _ in range(4):
        step(terminal)
    before = terminal.orders_get(), terminal.history_orders_get(0, MONDAY * 2)
    terminal.close()
    again = paper(tmp_path, {"EURUSD": rows})
    assert (again.orders_get(), again.history_orders_get(0, MONDAY * 2)) == before
    for _ in range(4):
        step(again)
    again.close()
    last = paper(tmp_path, {"EURUSD": rows})
    orders = last.history_orders_get(0, MONDAY * 2)
    assert orders is not None and [each.ticket for each in orders] == [high, low]
    assert [each.ticket for each in last.orders_get() or ()] == [never]
    assert done(last, low).magic == 2**64 - 1
