"""What a paper account keeps: balance, positions, orders and deals, in memory and on disk."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection

from broker.api import TradeDeal, TradeOrder
from broker.paper.matching import Position
from broker.paper.past import Past
from store import paper as tables
from store.magic import signed, unsigned

FIRST_TICKET: Final = 1_000_001


class Records:
    """State in memory and, after `flush` in a transaction, on disk.

    `pending` has the orders that wait, `orders` those that are done, in the order in which they were.
    """

    def __init__(self) -> None:
        self.balance = 0.0
        self.positions: dict[int, Position] = {}
        self.pending: dict[int, TradeOrder] = {}
        self.deals = Past(TradeDeal, number="order", time="time_msc")
        self.orders = Past(TradeOrder, number="ticket", time="time_done_msc")
        self.next_order = self.next_deal = FIRST_TICKET
        self.version = 0  # rises with every change of a level: a position's stops, an order's price
        self._saved_deals = self._saved_orders = 0
        self._saved: dict[int, Position] = {}
        self._saved_pending: dict[int, TradeOrder] = {}
        self._before: tuple[Any, ...] = ()

    def load(self, conn: Connection, row: tables.Row) -> None:
        """Take the state of the database."""
        self.balance = row["balance"]
        self.next_order, self.next_deal = row["next_order"], row["next_deal"]
        positions = [Position(**_unsigned(each)) for each in tables.load_positions(conn)]
        self.positions = {each.ticket: each for each in positions}
        pending = [TradeOrder(**_unsigned(each)) for each in tables.load_pending(conn)]
        self.pending = {each.ticket: each for each in pending}
        self.deals.cut(0)
        self.orders.cut(0)
        for each in tables.load_deals(conn):
            self.deals.append(TradeDeal(**_unsigned(each)))
        for each in tables.load_orders(conn):
            self.orders.append(TradeOrder(**_unsigned(each)))
        self._mark_saved()

    @property
    def changed(self) -> bool:
        """Whether something is not in the database yet."""
        return (
            len(self.deals) != self._saved_deals
            or len(self.orders) != self._saved_orders
            or self.positions != self._saved
            or self.pending != self._saved_pending
        )

    def flush(self, conn: Connection, now: int) -> None:
        """Write what changed. `committed` follows when the transaction is through."""
        tables.add_deals(conn, [_signed(deal._asdict()) for deal in self.deals[self._saved_deals :]])
        done = self.orders[self._saved_orders :]
        tables.add_orders(
            conn, [_signed(order._asdict()) | {"done": self._saved_orders + at} for at, order in enumerate(done)]
        )
        for table, now_open, saved in (
            (tables.paper_positions, self.positions, self._saved),
            (tables.paper_pending, self.pending, self._saved_pending),
        ):
            new = [each for ticket, each in now_open.items() if saved.get(ticket) is not each]
            old = [ticket for ticket, each in saved.items() if now_open.get(ticket) is not each]
            tables.replace_open(conn, table, old, [_signed(each._asdict()) for each in new])
        tables.set_account(conn, balance=self.balance, now=now, next_order=self.next_order, next_deal=self.next_deal)

    def committed(self) -> None:
        """What was flushed is durable."""
        self._mark_saved()

    def undo(self) -> None:
        """Back to what is durable: the change never happened."""
        self.balance, self.next_order, self.next_deal = self._before
        self.deals.cut(self._saved_deals)
        self.orders.cut(self._saved_orders)
        self.positions, self.pending = dict(self._saved), dict(self._saved_pending)
        self.version += 1

    def take_order(self) -> int:
        """The next order's ticket."""
        self.next_order += 1
        return self.next_order - 1

    def take_deal(self) -> int:
        """The next deal's ticket."""
        self.next_deal += 1
        return self.next_deal - 1

    def was_order(self, ticket: int) -> bool:
        """Whether there was an order of that ticket, which is done."""
        return bool(self.orders.numbered(ticket))

    def _mark_saved(self) -> None:
        self._saved_deals, self._saved_orders = len(self.deals), len(self.orders)
        self._saved, self._saved_pending = dict(self.positions), dict(self.pending)
        self._before = (self.balance, self.next_order, self.next_deal)


def _signed(row: dict[str, Any]) -> dict[str, Any]:
    row["magic"] = signed(row["magic"])
    return row


def _unsigned(row: tables.Row) -> dict[str, Any]:
    row["magic"] = unsigned(row["magic"])
    return row
