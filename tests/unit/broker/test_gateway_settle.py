"""Finding out what became of an order whose answer was lost."""

from __future__ import annotations

from typing import Any

import pytest

from broker import api
from broker.gateway.requests import filling_of, mismatch, request_of, status_of
from broker.gateway.settle import found
from broker.structs import TradeDeal, TradePosition
from protocol.messages import Order
from store.ledger import OrderIntent


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "installation": "i", "bot_id": 1, "epoch": 1, "seq": 1, "gateway_boot": "g",
        "decision": "EURUSD|H1|0", "bar_time": 0, "decided_at": 0.0, "decided_mono": 0.0,
        "action": "open", "symbol": "EURUSD", "side": "buy", "volume": 0.3, "magic": 9,
    }  # fmt: skip
    return Order(**{**fields, **changes})


def intent(**changes: Any) -> OrderIntent:
    meant = order(**changes)
    return OrderIntent(
        id=meant.id, bot_id=1, epoch=1, seq=1, decision=meant.decision, action=meant.action,
        payload=meant.model_dump(), payload_hash="", before_order=100, before_deal=200, at=0.0,
    )  # fmt: skip


def deal(**changes: Any) -> TradeDeal:
    fields: dict[str, Any] = {
        "ticket": 201, "order": 101, "time": 0, "time_msc": 0, "type": api.DEAL_TYPE_BUY,
        "entry": api.DEAL_ENTRY_IN, "magic": 9, "position_id": 55, "reason": api.DEAL_REASON_EXPERT,
        "volume": 0.3, "price": 1.5, "commission": 0.0, "swap": 0.0, "profit": 0.0, "fee": 0.0,
        "symbol": "EURUSD", "comment": "", "external_id": "",
    }  # fmt: skip
    return TradeDeal(**{**fields, **changes})


def test_a_newer_deal_with_that_magic_side_and_volume_is_the_order() -> None:
    row = found(intent(), [deal()], [])
    assert row is not None
    assert (row.status, row.deal, row.order, row.volume, row.price) == ("done", 201, 101, 0.3, 1.5)


def test_fills_in_parts_are_added_up() -> None:
    parts = [deal(volume=0.1, price=1.0), deal(ticket=202, volume=0.2, price=4.0)]
    row = found(intent(), parts, [])
    assert row is not None
    assert row.deal == 202
    assert row.volume == pytest.approx(0.3)
    assert row.price == pytest.approx(3.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket": 200},
        {"order": 100},
        {"magic": 8},
        {"symbol": "GBPUSD"},
        {"type": api.DEAL_TYPE_SELL},
        {"entry": api.DEAL_ENTRY_OUT},
        {"volume": 0.4},
        {"reason": api.DEAL_REASON_SL},
    ],
)
def test_anything_else_is_not(changes: dict[str, Any]) -> None:
    assert found(intent(), [deal(**changes)], []) is None


def test_a_deal_that_is_another_order_s_result_is_not_taken_twice() -> None:
    assert found(intent(), [deal()], [], claimed={201}) is None


def test_a_close_is_found_by_its_position() -> None:
    meant = intent(action="close", position=55)
    out = deal(type=api.DEAL_TYPE_SELL, entry=api.DEAL_ENTRY_OUT)
    assert found(meant, [out], []) is not None
    assert found(meant, [out._replace(position_id=56)], []) is None
    assert found(meant, [out._replace(reason=api.DEAL_REASON_SL)], []) is None


def position(**changes: Any) -> TradePosition:
    fields: dict[str, Any] = dict.fromkeys(TradePosition._fields, 0)
    fields |= {"ticket": 55, "magic": 9, "symbol": "EURUSD", "volume": 0.3, "sl": 1.1, "tp": 1.9}
    return TradePosition(**{**fields, **changes})


def test_moved_stops_are_seen_on_the_position() -> None:
    meant = intent(action="modify", position=55, sl=1.1, tp=1.9)
    assert found(meant, [], [position()]) is not None
    assert found(meant, [], [position(sl=1.2)]) is None


def test_a_close_names_its_position_and_takes_the_other_side() -> None:
    info = {"filling_mode": 2}
    request = request_of(order(action="close", position=55), filling_of(info), 1.0, 2.0)
    assert (request["type"], request["price"], request["position"]) == (api.ORDER_TYPE_SELL, 1.0, 55)
    assert request["type_filling"] == api.ORDER_FILLING_IOC
    opening = request_of(order(sl=0.5, tp=3.0, comment="a comment that is too long"), filling_of(info), 1.0, 2.0)
    assert (opening["type"], opening["price"], opening["sl"], opening["tp"]) == (api.ORDER_TYPE_BUY, 2.0, 0.5, 3.0)
    assert len(opening["comment"]) == 16
    assert "position" not in opening


def test_only_its_own_position_may_be_closed() -> None:
    meant = order(action="close", position=55, side="buy")
    assert mismatch(meant, position()._asdict()) == ""
    assert "not this bot's" in mismatch(meant, position(magic=8)._asdict())
    assert "is a sell" in mismatch(meant, position(type=1)._asdict())
    assert "not 0.3" in mismatch(meant, position(volume=0.1)._asdict())


def test_return_codes() -> None:
    assert [status_of(code) for code in (10009, 10010, 10018, 10012, 10031)] == [
        "done", "done", "refused", "unknown", "unknown",
    ]  # fmt: skip
    assert [status_of(code, embedded=True) for code in (10009, 10018, 10012, 10011, 10031)] == [
        "done", "refused", "refused", "unknown", "unknown",
    ]  # fmt: skip
