"""What the executor remembers in the ledger: intents before the send, results and deals before the reply."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.gateway.deals import Deals
from protocol.messages import Order
from store.database import Database
from store.errors import StoreConflict, StoreError
from store.ledger import (
    OrderIntent,
    ResultRow,
    add_intents,
    add_results,
    deals_of_results,
    entry_for_decision,
    unresolved,
)

NOT_REMEMBERED: Final = "in force, NOT remembered"

log = logging.getLogger("stablehand.gateway")


@dataclass(frozen=True, slots=True)
class Pending:
    """An order that passed the book. `ours`: the gateway's own close, not subject to fences and age."""

    order: Order
    id: str
    digest: str
    ttl: float
    ours: bool = False


Meant = tuple[Pending, OrderIntent]
Outcome = tuple[Pending, ResultRow]


def refusal(order_id: str, reason: str, retcode: int = 0) -> ResultRow:
    """The result of an order that was not sent."""
    return ResultRow(order_id, "refused", retcode=retcode, reason=reason, at=time.time())


def reason_told(result: ResultRow, remembered: bool) -> str:
    """A result's reason as it is told: of what was done it says that the ledger does not have it yet."""
    if remembered or result.status == "refused":
        return result.reason
    return f"{result.reason}; {NOT_REMEMBERED}" if result.reason else NOT_REMEMBERED


class Memory:
    """For the terminal thread. What the disk refuses is kept here and written as soon as it can be."""

    def __init__(self, ledger: Database, deals: Deals) -> None:
        self._ledger = ledger
        self._deals = deals
        self._unwritten: list[tuple[OrderIntent | None, ResultRow]] = []

    def unresolved(self) -> list[OrderIntent]:
        """Intents of earlier processes whose outcome is not known."""
        with self._ledger.read() as connection:
            return unresolved(connection)

    def claimed(self) -> set[int]:
        """Deals that are the results of orders."""
        with self._ledger.read() as connection:
            return deals_of_results(connection)

    def intent_of(self, pending: Pending) -> OrderIntent:
        """The intent of an order, with the newest tickets seen before its send."""
        order = pending.order
        return OrderIntent(
            id=pending.id,
            bot_id=order.bot_id,
            epoch=order.epoch,
            seq=order.seq,
            decision=order.decision,
            action=order.action,
            payload=order.model_dump(),
            payload_hash=pending.digest,
            before_order=self._deals.last_order,
            before_deal=self._deals.last_deal,
            at=time.time(),
        )

    def mean(self, group: Sequence[Pending]) -> tuple[list[Meant], list[Outcome]]:
        """Commit the intents of a group in one transaction: those that may be sent, and the refused ones.

        While the ledger cannot be written only closes may be sent.
        """
        meant = [(pending, self.intent_of(pending)) for pending in group]
        try:
            # Results that wait go first: an order that was told as not executed, and is looked for anew after a
            # crash, would find the deal of one of these.
            if self._unwritten:
                self._write_what_waits()
        except StoreError as error:
            return self._unremembered(meant, error)
        try:
            return self._write(meant)
        except StoreConflict:
            # One id is known to the ledger: find it by writing them one by one.
            kept: list[Meant] = []
            refused: list[Outcome] = []
            for one in meant:
                try:
                    written, not_written = self._write([one])
                    kept += written
                    refused += not_written
                except StoreError as error:
                    refused.append((one[0], refusal(one[0].id, error.message)))
            return kept, refused
        except StoreError as error:
            return self._unremembered(meant, error)

    def remember(self, results: Sequence[ResultRow]) -> bool:
        """Commit results, with the deals that are not booked yet. False when that has to wait."""
        self._unwritten += [(None, result) for result in results]
        return self.flush()

    def flush(self) -> bool:
        """Write what is not written yet. False when the ledger cannot be written now."""
        if not self._unwritten and not self._deals.unbooked:
            return True
        try:
            self._write_what_waits()
        except StoreError as error:
            log.error("%s; trying again in a moment", error.message)
            return False
        return True

    def _write_what_waits(self) -> None:
        rows = list(self._unwritten)
        with self._ledger.begin() as connection:
            for intent, _ in rows:
                if intent is not None:
                    add_intents(connection, [intent])
            add_results(connection, [result for _, result in rows])
            deals = self._deals.book(connection)
        self._unwritten = self._unwritten[len(rows) :]
        self._deals.booked(deals)

    def _write(self, meant: list[Meant]) -> tuple[list[Meant], list[Outcome]]:
        kept: list[Meant] = []
        refused: list[Outcome] = []
        with self._ledger.begin() as connection:
            for pending, intent in meant:
                if intent.action == "open":
                    earlier = entry_for_decision(connection, intent.bot_id, intent.decision)
                    if earlier is not None and earlier != intent.id:
                        reason = f"this decision has had its entry: {earlier}"
                        refused.append((pending, refusal(pending.id, reason)))
                        continue
                kept.append((pending, intent))
            add_intents(connection, [intent for _, intent in kept])
        return kept, refused

    def _unremembered(self, meant: list[Meant], error: StoreError) -> tuple[list[Meant], list[Outcome]]:
        log.error("%s; closes only until it can be written", error.message)
        closes = [one for one in meant if one[1].action == "close"]
        self._unwritten += [(intent, ResultRow(intent.id, "unknown", reason=NOT_REMEMBERED)) for _, intent in closes]
        reason = f"not done, because it could not be remembered: {error.message}"
        refused = [(pending, refusal(pending.id, reason)) for pending, i in meant if i.action != "close"]
        return closes, refused
