"""The watch on what crosses: each order was meant, crosses once, and is of the bar that closed last."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from broker.market import from_bytes
from broker.paper.terminal import Step


class Watch:
    """Looks into the ledger's file for what the gateway meant. `wrong` is what may never be."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.wrong: list[str] = []
        self.sent: dict[str, int] = {}  # order id -> how often it crossed
        self.last_closed: dict[str, int] = {}  # symbol|timeframe -> open time of the last closed bar

    def stepped(self, step: Step) -> None:
        """The market has moved, by the gateway's request or by the test's own hand."""
        for bar in step.closed:
            self.last_closed[f"{bar.symbol}|{bar.timeframe}"] = int(from_bytes(bar.row)["time"][0])

    def order(self, request: dict[str, Any]) -> str:
        """An order crosses; its id, empty where it is nobody's."""
        action = "close" if request.get("position") else "open"
        mine = [one for one in self.open_intents() if one[3] * 10 == request["magic"] and one[1] == action]
        if len(mine) != 1:
            self.wrong.append(f"an order without its own intent: {request}, {mine}")
            return ""
        order_id, _action, decision, _bot = mine[0]
        self.sent[order_id] = self.sent.get(order_id, 0) + 1
        if self.sent[order_id] > 1:
            self.wrong.append(f"{order_id} was sent twice")
        market, _, bar = decision.rpartition("|")
        last = self.last_closed.get(market, int(bar))
        if action == "open" and int(bar) != last:
            self.wrong.append(f"{order_id} is stale: decided on {bar}, the last closed bar is {last}")
        return order_id

    def open_intents(self) -> list[tuple[str, str, str, int]]:
        """(id, action, decision, bot id) of intents in the ledger without a result."""
        with closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True, timeout=5.0)) as ledger:
            return ledger.execute(
                "SELECT i.id, i.action, i.decision, i.bot_id FROM order_intents i LEFT JOIN order_results r"
                " ON r.id = i.id WHERE r.id IS NULL"
            ).fetchall()

    def is_open(self, order_id: str) -> bool:
        """Whether an order has no result in the ledger."""
        return any(known == order_id for known, *_ in self.open_intents())
