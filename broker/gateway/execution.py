"""Orders on the terminal thread: intent committed, sent, result committed, then the reply.

Intents are committed in groups, sends are serial, results are committed in groups before any reply. While the
outcome of one send is unknown no other is made on the account.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker import api
from broker.api import Terminal
from broker.gateway.book import Book
from broker.gateway.deals import FAR, Deals
from broker.gateway.requests import mismatch, request_of, status_of
from broker.gateway.settle import found
from protocol.messages import Order, OrderResult, Phase
from protocol.progress import Progress
from store.database import Database
from store.errors import StoreConflict, StoreError
from store.ledger import OrderIntent, ResultRow, add_intents, add_results, entry_for_decision, unresolved

#: After so many seconds of sends the results so far are committed and answered.
_SLICE: Final = 0.05
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


Answer = Callable[[Pending, OrderResult], None]
_Outcome = tuple[Pending, ResultRow]


class Executor:
    """Executes groups of orders. All methods belong to the terminal thread.

    `settle`: seconds after which the absence of a deal counts; longer than the terminal's own timeout.
    `hang_limit`: seconds that one terminal call may last before the gateway counts as hung.
    """

    def __init__(
        self,
        terminal: Terminal,
        ledger: Database,
        book: Book,
        deals: Deals,
        progress: Progress,
        *,
        settle: float,
        hang_limit: float,
    ) -> None:
        self._terminal = terminal
        self._ledger = ledger
        self._book = book
        self._deals = deals
        self._progress = progress
        self._settle = settle
        self._hang_limit = hang_limit
        self._unwritten: list[tuple[OrderIntent | None, ResultRow]] = []
        self._claimed: set[int] = set()
        with ledger.read() as connection:
            self.unresolved: list[OrderIntent] = unresolved(connection)
        self._unresolved_since = time.monotonic()

    # --- a group -----------------------------------------------------------------------------------

    def execute(self, group: Sequence[Pending], answer: Answer) -> None:
        """Execute orders one after the other; `answer` is called once for each, after its result is committed."""
        outcomes: list[_Outcome] = []
        meant = self._mean(group, outcomes)
        self._commit(outcomes, answer)
        outcomes = []
        until = time.monotonic() + _SLICE
        for pending, intent in meant:
            result = self._send(pending, intent)
            if result.status == "unknown":
                self.unresolved.append(intent)
                self._unresolved_since = time.monotonic()
            outcomes.append((pending, result))
            if time.monotonic() >= until:
                self._commit(outcomes, answer)
                outcomes = []
                until = time.monotonic() + _SLICE
        self._commit(outcomes, answer)

    def _mean(self, group: Sequence[Pending], outcomes: list[_Outcome]) -> list[tuple[Pending, OrderIntent]]:
        """Commit the intents of those that may be sent; the others get their refusal in `outcomes`."""
        may: list[tuple[Pending, OrderIntent]] = []
        for pending in group:
            reason = self._veto(pending)
            if reason:
                outcomes.append((pending, _refusal(pending.id, reason)))
            else:
                may.append((pending, self._intent(pending)))
        if not may:
            return []
        try:
            return self._write_intents(may, outcomes)
        except StoreConflict:
            # One id is known to the ledger: find it by writing them one by one.
            kept: list[tuple[Pending, OrderIntent]] = []
            for one in may:
                try:
                    kept += self._write_intents([one], outcomes)
                except StoreError as error:
                    outcomes.append((one[0], _refusal(one[0].id, error.message)))
            return kept
        except StoreError as error:
            return self._unremembered(may, outcomes, error)

    def _write_intents(
        self, may: list[tuple[Pending, OrderIntent]], outcomes: list[_Outcome]
    ) -> list[tuple[Pending, OrderIntent]]:
        kept: list[tuple[Pending, OrderIntent]] = []
        refused: list[_Outcome] = []
        with self._ledger.begin() as connection:
            for pending, intent in may:
                if intent.action == "open":
                    earlier = entry_for_decision(connection, intent.bot_id, intent.decision)
                    if earlier is not None and earlier.id != intent.id:
                        reason = f"this decision has had its entry: {earlier.id}"
                        refused.append((pending, _refusal(pending.id, reason)))
                        continue
                kept.append((pending, intent))
            add_intents(connection, [intent for _, intent in kept])
        outcomes += refused
        return kept

    def _unremembered(
        self, may: list[tuple[Pending, OrderIntent]], outcomes: list[_Outcome], error: StoreError
    ) -> list[tuple[Pending, OrderIntent]]:
        """The ledger cannot be written: closes are made all the same, everything else is refused."""
        log.error("%s; closing only until it can be written", error.message)
        closes: list[tuple[Pending, OrderIntent]] = []
        for pending, intent in may:
            if intent.action == "close":
                closes.append((pending, intent))
                self._unwritten.append((intent, ResultRow(intent.id, "unknown", reason=NOT_REMEMBERED)))
            else:
                outcomes.append((pending, _refusal(pending.id, f"not done, because not remembered: {error.message}")))
        return closes

    def _intent(self, pending: Pending) -> OrderIntent:
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

    def _veto(self, pending: Pending) -> str:
        if self.unresolved:
            self.resolve()
        if self.unresolved:
            return f"held: the outcome of order {self.unresolved[0].id} is not known yet"
        if pending.ours:
            return ""
        return self._book.veto(pending.order, time.monotonic(), pending.ttl)

    # --- one send ----------------------------------------------------------------------------------

    def _send(self, pending: Pending, intent: OrderIntent) -> ResultRow:
        reason = self._veto(pending)
        if reason:
            return _refusal(pending.id, reason)
        order = pending.order
        self._progress.move(Phase.TRADE, self._hang_limit)
        try:
            refused = self._check_position(order)
            if refused is not None:
                return refused if refused.id else _refusal(pending.id, refused.reason, refused.retcode)
            info = self._terminal.symbol_info(order.symbol)
            tick = self._terminal.symbol_info_tick(order.symbol)
            if info is None or tick is None:
                return _refusal(pending.id, f"{order.symbol}: {self._terminal.last_error()[1]}")
            request = request_of(order, info._asdict(), tick.bid, tick.ask)
            answer = self._terminal.order_send(request)
        except Exception as error:
            # Whatever it was, the request may have reached the market: it is found out, not assumed.
            log.exception("order %s: the terminal raised", pending.id)
            return ResultRow(pending.id, "unknown", reason=f"{type(error).__name__}: {error}", at=time.time())
        finally:
            self._progress.move(Phase.IDLE, self._hang_limit)
        if answer is None:
            return ResultRow(pending.id, "unknown", reason=str(self._terminal.last_error()[1]), at=time.time())
        status = status_of(answer.retcode)
        if status == "done":
            self._deals.collect()
            self._claimed.add(answer.deal)
        return ResultRow(
            id=pending.id,
            status=status,
            retcode=answer.retcode,
            deal=answer.deal,
            order=answer.order,
            volume=answer.volume if status == "done" else 0.0,
            price=answer.price if status == "done" else 0.0,
            reason="" if status == "done" else answer.comment,
            at=time.time(),
        )

    def _check_position(self, order: Order) -> ResultRow | None:
        """A close or a change of stops must mean a position of this bot, which the terminal has."""
        if order.action == "open":
            return None
        positions = self._terminal.positions_get(ticket=order.position)
        if positions is None:
            return ResultRow("", "refused", reason=f"position cannot be read: {self._terminal.last_error()[1]}")
        if not positions:
            reason = f"there is no position {order.position}"
            return ResultRow("", "refused", retcode=api.TRADE_RETCODE_POSITION_CLOSED, reason=reason)
        reason = mismatch(order, positions[0]._asdict())
        return ResultRow("", "refused", reason=reason) if reason else None

    # --- results -----------------------------------------------------------------------------------

    def _commit(self, outcomes: Sequence[_Outcome], answer: Answer) -> None:
        """Commit results and new deals, then answer. What cannot be written is answered, and written later."""
        if not outcomes:
            return
        for _, result in outcomes:
            self._unwritten.append((None, result))
        remembered = self.flush()
        for pending, result in outcomes:
            reason = result.reason
            if not remembered and result.status != "refused":
                reason = f"{reason}; {NOT_REMEMBERED}" if reason else NOT_REMEMBERED
            answer(pending, self._result(pending.order, result, reason))

    def flush(self) -> bool:
        """Write what is not written yet: results and deals. False when the ledger cannot be written now."""
        if not self._unwritten and not self._deals.unbooked:
            return True
        rows = list(self._unwritten)
        try:
            with self._ledger.begin() as connection:
                for intent, _ in rows:
                    if intent is not None:
                        add_intents(connection, [intent])
                add_results(connection, [result for _, result in rows])
                deals = self._deals.book(connection)
        except StoreError as error:
            log.error("%s; next try in a moment", error.message)
            return False
        self._unwritten = self._unwritten[len(rows) :]
        self._deals.booked(deals)
        return True

    def _result(self, order: Order, row: ResultRow, reason: str) -> OrderResult:
        position = None
        if row.status == "done":
            held = self._terminal.positions_get(symbol=order.symbol)
            if held is None:
                reason = reason or "the position afterwards is not known"
            position = next((p._asdict() for p in held or () if p.magic == order.magic), None)
        return OrderResult(
            id=row.id,
            status=row.status,  # type: ignore[arg-type]
            retcode=row.retcode,
            reason=reason,
            deal=row.deal,
            order=row.order,
            volume=row.volume,
            price=row.price,
            position=position,
        )

    # --- lost answers ------------------------------------------------------------------------------

    def resolve(self) -> list[OrderResult]:
        """Look for orders whose answer was lost; those that are clear now, committed."""
        if not self.unresolved:
            return []
        info = self._terminal.terminal_info()
        deals = self._terminal.history_deals_get(0, FAR)
        positions = self._terminal.positions_get()
        if info is None or not info.connected or deals is None or positions is None:
            return []
        late = time.monotonic() - self._unresolved_since >= self._settle
        clear: list[ResultRow] = []
        left: list[OrderIntent] = []
        orders = {intent.id: Order.model_validate(intent.payload) for intent in self.unresolved}
        for intent in self.unresolved:
            row = found(intent, deals, positions, self._claimed)
            if row is None and late:
                row = ResultRow(intent.id, "refused", reason="not executed: the terminal shows no trace of it")
            if row is None:
                left.append(intent)
            else:
                self._claimed.add(row.deal)
                clear.append(row)
        if not clear:
            return []
        self._deals.collect()
        self._unwritten += [(None, row) for row in clear]
        if not self.flush():
            return []
        self.unresolved = left
        for row in clear:
            log.info("order %s resolved: %s %s", row.id, row.status, row.reason)
        return [self._result(orders[row.id], row, row.reason) for row in clear]


def _refusal(order_id: str, reason: str, retcode: int = 0) -> ResultRow:
    return ResultRow(order_id, "refused", retcode=retcode, reason=reason, at=time.time())
