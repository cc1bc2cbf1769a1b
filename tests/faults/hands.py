"""A client that the test holds in its own hands: attaching, orders, and what became of them."""

from __future__ import annotations

import threading

from broker.client import GatewayClient, GatewayDown
from broker.gateway.deals import FAR
from protocol.messages import Attached, Order, OrderResult
from tests.faults.stage import Stage
from tests.gateway_rig import last_bar_time
from tests.support import eventually


def attach(stage: Stage, epoch: int = 1, *, bot_id: int = 1, fence: bool = True) -> tuple[GatewayClient, Attached]:
    """A run of its own, fenced in and attached to EURUSD."""
    if fence:
        assert stage.rig.supervisor.fence(bot_id, epoch).ok
    stage.rig.feed(bot_id, epoch, "EURUSD")
    client = stage.rig.client(bot_id, epoch)
    return client, again(client)


def again(client: GatewayClient, timeout: float = 30.0) -> Attached:
    """Attach, to a new gateway too, as soon as it lets this run in."""

    def attempt() -> list[Attached]:
        try:
            return [client.attach("EURUSD", "H1", 60, timeout=2.0)]
        except GatewayDown:
            return []

    return eventually(attempt, timeout, what="attach")[0]


def entry(client: GatewayClient, told: Attached, *, volume: float = 0.1, **fields: object) -> Order:
    """An order to buy, decided now on the last closed bar that `told` has."""
    moment = last_bar_time(told)
    return client.new_order(
        "open", symbol="EURUSD", side="buy", volume=volume, decision=f"EURUSD|H1|{moment}", bar_time=moment, **fields
    )


def outcome(client: GatewayClient, order_id: str, timeout: float = 40.0) -> OrderResult:
    """What became of an order, once that is known."""

    def ask() -> list[OrderResult]:
        result = client.resolve(order_id, timeout=1.0)
        return [] if result.status == "unknown" else [result]

    return eventually(ask, timeout, what=f"outcome of {order_id}")[0]


def in_background(client: GatewayClient, order: Order) -> tuple[threading.Thread, list[OrderResult]]:
    """Send from another thread, which alone uses the client until it is joined."""
    results: list[OrderResult] = []
    thread = threading.Thread(target=lambda: results.append(client.send(order, timeout=60.0)))
    thread.start()
    return thread, results


def trades(stage: Stage) -> int:
    """Executions at the terminal that bots asked for."""
    return sum(deal.magic != 0 for deal in stage.direct.history_deals_get(0, FAR))
