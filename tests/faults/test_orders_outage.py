"""A gateway that is away for ten minutes: by the market's clock, and by its own, which is set ahead."""

from __future__ import annotations

import pytest

from broker import api
from broker.gateway.deals import FAR
from protocol.messages import Order
from tests.faults.audit import audit
from tests.faults.crossing import Fault
from tests.faults.hands import again, attach, entry, in_background, outcome
from tests.faults.stage import Stage
from tests.support import eventually

pytestmark = [pytest.mark.posix, pytest.mark.acceptance]

_MINUTES = 10
_AWAY = 60.0 * _MINUTES
_SYMBOL = "EURUSD"


def waiting(stage: Stage, magic: int, kind: int, price: float, *, until: int = 0) -> int:
    """An order that waits at the terminal, in a bot's name; its ticket."""
    answer = stage.direct.order_send(
        {
            "action": api.TRADE_ACTION_PENDING, "symbol": _SYMBOL, "volume": 0.1, "type": kind,
            "price": round(price, 5), "magic": magic, "type_filling": api.ORDER_FILLING_RETURN,
            "type_time": api.ORDER_TIME_SPECIFIED if until else api.ORDER_TIME_GTC, "expiration": until,
        }
    )  # fmt: skip
    assert answer.retcode == api.TRADE_RETCODE_DONE, answer
    return int(answer.order)


def later(order: Order, seconds: float, **changes: object) -> Order:
    """The order of a run whose clock goes with the gateway's."""
    return order.model_copy(update={"decided_mono": order.decided_mono + seconds, **changes})


def test_ten_minutes_without_a_gateway() -> None:
    """One order is on its way to the terminal, one is decided and not sent, three wait at the terminal."""
    with Stage(timeframe="M1") as stage:
        one, told = attach(stage)
        two, told_two = attach(stage, bot_id=2)
        attach(stage, bot_id=3)
        prepared = entry(two, told_two)
        tick = stage.direct.symbol_info_tick(_SYMBOL)
        # The market goes one way or the other: one of two that are near is filled.
        near = {
            waiting(stage, 30, api.ORDER_TYPE_SELL_LIMIT, tick.bid + 0.0002),
            waiting(stage, 30, api.ORDER_TYPE_BUY_LIMIT, tick.ask - 0.0002),
        }
        left = waiting(stage, 30, api.ORDER_TYPE_BUY_LIMIT, tick.bid - 0.05)
        expired = waiting(stage, 30, api.ORDER_TYPE_SELL_LIMIT, tick.bid + 0.05, until=tick.time + 120)

        sent = entry(one, told)
        fault = stage.crossing.arm(Fault("kill_sent", delay=0.2))
        thread, _results = in_background(one, sent)
        eventually(fault.done.is_set, 20.0)
        for _ in range(_MINUTES):
            stage.step()
        stage.start_gateway(later=_AWAY)
        thread.join(60.0)

        assert outcome(one, sent.id).status == "done"
        again_told = again(two)
        assert again_told.time - told.time >= _AWAY
        assert "another gateway process" in two.send(prepared).reason
        # Even one that knows the new gateway, and whose bar is still the last closed one, is too old.
        forged = prepared.model_copy(update={"seq": 20, "gateway_boot": two.gateway_boot})
        assert "decided 6" in two.send(forged).reason
        assert two.send(later(entry(two, again_told), _AWAY)).status == "done"

        tickets = {order.ticket for order in stage.direct.orders_get()}
        filled = near - tickets
        assert filled
        assert tickets == {left} | near - filled
        states = {order.ticket: order.state for order in stage.direct.history_orders_get(0, FAR)}
        assert states[expired] == api.ORDER_STATE_EXPIRED
        for ticket in filled:
            assert states[ticket] == api.ORDER_STATE_FILLED
            assert stage.rows('SELECT bot_id FROM ledger_deals WHERE "order" = ?', ticket) == [(3,)]
        audit(stage)
