"""What must hold after every fault: read from the terminal and from the ledger's file, not from the gateway."""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker import api
from broker.gateway.deals import FAR
from tests.faults.stage import Stage
from tests.support import eventually

_EXPERT = api.DEAL_REASON_EXPERT


def audit(stage: Stage) -> None:
    """Raise AssertionError where a promise of the order path is broken."""
    assert not stage.crossing.watch.wrong, stage.crossing.watch.wrong
    # Bots go on trading while this looks: an order just being sent is not one that was left.
    eventually(lambda: not stage.unresolved(), 40.0, what=f"everything resolved: {stage.unresolved()}")
    account, positions, deals = _snapshot(stage)
    _deals_are_booked(stage, deals, account.balance)
    _executions_are_results(stage, deals)
    opened = {deal.position_id for deal in deals if deal.entry == api.DEAL_ENTRY_IN and deal.symbol}
    strays = [position for position in positions if position.identifier not in opened]
    assert not strays, f"positions that no deal accounts for: {strays}"
    held = Counter(position.magic for position in positions)
    assert max(held.values(), default=0) <= 1, f"more than one position of a bot: {positions}"
    _epochs_never_sink(stage)


def _snapshot(stage: Stage) -> tuple[Any, Any, tuple[Any, ...]]:
    """Account, positions and deals of one moment: read again where a deal came between."""

    def look() -> tuple[Any, Any, tuple[Any, ...]] | None:
        before = stage.direct.history_deals_get(0, FAR)
        found = stage.direct.account_info(), stage.direct.positions_get()
        return (*found, before) if before == stage.direct.history_deals_get(0, FAR) else None

    return eventually(look, 20.0, what="the terminal at rest")


def _deals_are_booked(stage: Stage, deals: tuple[Any, ...], balance: float) -> None:
    """Every deal of the terminal is in the ledger, as it is, with its bot; and the money adds up."""
    wanted = {deal.ticket: deal for deal in deals}

    def booked() -> dict[int, tuple[Any, ...]] | None:
        names = ", ".join(f'"{name}"' for name in deals[0]._fields)
        rows = stage.rows(f"SELECT bot_id, {names} FROM ledger_deals")
        found = {row[1 + deals[0]._fields.index("ticket")]: row for row in rows}
        return found if wanted.keys() <= found.keys() else None

    found = eventually(booked, 20.0, what="all deals in the ledger")
    by_bot: dict[int | None, float] = {}
    for ticket, deal in wanted.items():
        bot_id, *fields = found[ticket]
        assert tuple(fields) == tuple(deal), (fields, deal)
        assert bot_id == (deal.magic // 10 or None), f"deal {deal} is booked for {bot_id}"
        by_bot[bot_id] = by_bot.get(bot_id, 0.0) + deal.profit + deal.commission + deal.swap + deal.fee
    assert abs(sum(by_bot.values()) - balance) < 0.005, (by_bot, balance)


def _executions_are_results(stage: Stage, deals: tuple[Any, ...]) -> None:
    """One to one: what the terminal executed for bots, and the orders that the ledger calls done."""
    # What filled an order that waited at the terminal answers no order of the gateway's.
    waited = {order.ticket for order in stage.direct.history_orders_get(0, FAR) if order.type > api.ORDER_TYPE_SELL}
    executed = Counter(
        deal.order for deal in deals if deal.magic and deal.reason == _EXPERT and deal.order not in waited
    )

    def told() -> list[Counter[int]]:
        results = Counter(
            row[0] for row in stage.rows("SELECT \"order\" FROM order_results WHERE status = 'done' AND deal > 0")
        )
        return [results] if executed.keys() <= results.keys() else []

    results = eventually(told, 20.0, what="a result for each execution")[0]
    assert max(results.values(), default=1) == 1, f"two orders claim one execution: {results}"
    assert max(executed.values(), default=1) == 1, f"an order was executed twice: {executed}"
    entries = stage.rows(
        "SELECT i.bot_id, i.decision, count(*) FROM order_intents i JOIN order_results r ON r.id = i.id"
        " WHERE r.status = 'done' AND i.action = 'open' GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert not entries, f"a decision was entered twice: {entries}"


def _epochs_never_sink(stage: Stage) -> None:
    """Once an epoch has traded, none before it does."""
    highest: dict[int, int] = {}
    for bot_id, epoch in stage.rows("SELECT bot_id, epoch FROM order_intents ORDER BY rowid"):
        assert epoch >= highest.get(bot_id, 0), f"bot {bot_id}: epoch {epoch} after {highest[bot_id]}"
        highest[bot_id] = epoch
