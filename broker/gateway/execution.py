"""Orders on the terminal thread: intent committed, sent, result committed, then the reply.

Intents are committed in groups, sends are serial, results are committed in groups before any reply. While the
outcome of one send is unknown no other is made on the account.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from broker import api
from broker.api import Terminal
from broker.desk import HELD
from broker.gateway.book import Book
from broker.gateway.deals import FAR, Deals
from broker.gateway.memory import Memory, Outcome, Pending, reason_told, refusal
from broker.gateway.netting import Netting
from broker.gateway.requests import filling_of, mismatch, request_of, status_of
from broker.gateway.settle import found
from broker.gateway.terminals import is_embedded
from broker.structs import TradePosition
from protocol.messages import Order, OrderResult, Phase
from protocol.progress import Progress
from store.ledger import OrderIntent, ResultRow

#: After so many seconds of sends the results so far are committed and answered.
_SLICE: Final = 0.05

Answer = Callable[[Pending, OrderResult], None]

log = logging.getLogger("stablehand.gateway")


class Executor:
    """Executes groups of orders. All methods belong to the terminal thread.

    `settle`: seconds after which the absence of a deal counts; longer than the terminal's own timeout.
    `hang_limit`: seconds that one terminal call may last before the gateway counts as hung.
    """

    def __init__(
        self,
        terminal: Terminal,
        memory: Memory,
        book: Book,
        deals: Deals,
        progress: Progress,
        *,
        settle: float,
        hang_limit: float,
    ) -> None:
        self._terminal = terminal
        self._embedded = is_embedded(terminal)
        self._memory = memory
        self._book = book
        self._deals = deals
        self._progress = progress
        self._settle = settle
        self._hang_limit = hang_limit
        #: Why the guards refuse an entry; empty when they do not.
        self.guard: Callable[[Order], str] = lambda _order: ""
        #: Why nothing may be sent at all; with True the terminal is asked first.
        self.bar: Callable[[bool], str] = lambda _look: ""
        self._claimed: set[int] = memory.claimed()  # deals that are known to be an order's
        self.unresolved: list[OrderIntent] = memory.unresolved()
        self._unresolved_since = time.monotonic()
        self._fillings: dict[str, int] = {}
        self._netting = Netting(terminal)

    def execute(self, group: Sequence[Pending], answer: Answer) -> None:
        """Execute orders one after the other; `answer` is called once for each, after its result is committed."""
        outcomes: list[Outcome] = []
        may: list[Pending] = []
        for pending in group:
            reason = self._veto(pending)
            if reason:
                outcomes.append((pending, refusal(pending.id, reason)))
            else:
                may.append(pending)
        meant, refused = self._memory.mean(may) if may else ([], [])
        outcomes += refused
        until = time.monotonic() + _SLICE
        for pending, intent in meant:
            result = self._send(pending)
            if result.status == "unknown":
                self.unresolved.append(intent)
                self._unresolved_since = time.monotonic()
            outcomes.append((pending, result))
            if time.monotonic() >= until:
                self._finish(outcomes, answer)
                outcomes = []
                until = time.monotonic() + _SLICE
        self._finish(outcomes, answer)

    def _veto(self, pending: Pending) -> str:
        if self.unresolved:
            return f"{HELD}the outcome of order {self.unresolved[0].id} is not known yet"
        barred = self.bar(False)
        if barred:
            return barred
        if pending.ours:
            return ""
        return self._book.veto(pending.order, time.monotonic(), pending.ttl, time.time())

    def _finish(self, outcomes: Sequence[Outcome], answer: Answer) -> None:
        """Commit results and new deals, then answer. What cannot be written is answered, and written later."""
        if not outcomes:
            return
        remembered = self._memory.remember([result for _, result in outcomes])
        for pending, result in outcomes:
            answer(pending, self._result(pending.order, result, reason_told(result, remembered)))

    def _send(self, pending: Pending) -> ResultRow:
        reason = self._veto(pending)  # again: a fence may have come since, or the order before may be lost
        if reason:
            return refusal(pending.id, reason)
        order = pending.order
        self._progress.move(Phase.TRADE, self._hang_limit)
        try:
            retcode, reason = self._check_position(order)
            if reason:
                return refusal(pending.id, reason, retcode)
            filling = self._filling(order.symbol)
            tick = self._terminal.symbol_info_tick(order.symbol)
            if filling is None or tick is None:
                return refusal(pending.id, f"{order.symbol}: {self._terminal.last_error()[1]}")
            barred = self.bar(True)  # last: nothing stands between this look and the send
            if barred:
                return refusal(pending.id, barred)
            answer = self._terminal.order_send(request_of(order, filling, tick.bid, tick.ask))
        except Exception as error:
            # Whatever it was, the request may have reached the market: it is found out, not assumed.
            log.exception("order %s: the terminal raised", pending.id)
            return ResultRow(pending.id, "unknown", reason=f"{type(error).__name__}: {error}", at=time.time())
        finally:
            self._progress.move(Phase.IDLE, self._hang_limit)
        if answer is None:
            return ResultRow(pending.id, "unknown", reason=str(self._terminal.last_error()[1]), at=time.time())
        if answer.retcode == api.TRADE_RETCODE_INVALID_FILL:
            self._fillings.pop(order.symbol, None)  # the broker has changed it: asked for anew with the next order
        status = status_of(answer.retcode, embedded=self._embedded)
        done = status == "done"
        if done:
            self._deals.collect()
            self._claimed.add(answer.deal)
        return ResultRow(
            id=pending.id,
            status=status,
            retcode=answer.retcode,
            deal=answer.deal,
            order=answer.order,
            volume=answer.volume if done else 0.0,
            price=answer.price if done else 0.0,
            reason="" if done else answer.comment,
            at=time.time(),
        )

    def _filling(self, symbol: str) -> int | None:
        """The filling mode for a symbol, asked for once; None where the terminal does not know the symbol."""
        known = self._fillings.get(symbol)
        if known is None:
            info = self._terminal.symbol_info(symbol)
            if info is None:
                return None
            known = self._fillings[symbol] = filling_of(info._asdict())
        return known

    def _check_position(self, order: Order) -> tuple[int, str]:
        """An entry must go into no other's position and pass the guards, any other order mean one of this bot:
        (retcode, why not).
        """
        if order.action == "open":
            return 0, self._netting.entry(order) or self.guard(order)
        positions = self._terminal.positions_get(ticket=order.position)
        if positions is None:
            return 0, f"the position cannot be read: {self._terminal.last_error()[1]}"
        if not positions:
            return api.TRADE_RETCODE_POSITION_CLOSED, f"there is no position {order.position}"
        return 0, mismatch(order, positions[0]._asdict())

    def holds(self, bot_id: int) -> str:
        """Id of an order of this bot whose outcome is not known yet: its position cannot be told before."""
        return next((intent.id for intent in self.unresolved if intent.bot_id == bot_id), "")

    def _result(self, order: Order, row: ResultRow, reason: str) -> OrderResult:
        position = None
        if row.status == "done":
            try:
                held = self._held(order, row)
            except Exception:  # the order is done and committed: that must be answered, whatever comes after
                log.exception("order %s: the position afterwards cannot be read", row.id)
                held = None
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

    def _held(self, order: Order, row: ResultRow) -> Sequence[TradePosition] | None:
        """The positions among which the bot's is; None where the terminal does not say.

        By ticket first: an entry's position has its order's number, except where it was added to another.
        With a position for each of many bots on the symbol, pricing them all costs more than the order.
        """
        if order.action == "open" and row.order:
            named = self._terminal.positions_get(ticket=row.order)
            if named:
                return named
        return self._terminal.positions_get(symbol=order.symbol)

    def resolve(self) -> list[OrderResult]:
        """Look for orders whose answer was lost; those that are clear now.

        They are clear whether or not the ledger can be written: their results are written later, and after a crash
        before that they are looked for anew.
        """
        if not self.unresolved:
            return []
        if self.bar(True):  # what another account shows says nothing of ours
            self._unresolved_since = time.monotonic()
            return []
        info = self._terminal.terminal_info()
        deals = self._terminal.history_deals_get(0, FAR)
        positions = self._terminal.positions_get()
        if info is None or not info.connected or deals is None or positions is None:
            # What was sent may arrive, or come into the history, only once the terminal is connected again.
            self._unresolved_since = time.monotonic()
            return []
        late = time.monotonic() - self._unresolved_since >= self._settle
        clear: list[tuple[OrderIntent, ResultRow]] = []
        for intent in self.unresolved:
            row = found(intent, deals, positions, self._claimed)
            if row is None and late:
                row = refusal(intent.id, "not executed: the terminal shows no trace of it")
            if row is not None:
                self._claimed.add(row.deal)
                clear.append((intent, row))
        self._deals.collect()
        if not clear:
            return []
        # Whatever becomes of the writing: its deal is claimed by now, and another look would not find it.
        settled = {intent.id for intent, _ in clear}
        self.unresolved = [intent for intent in self.unresolved if intent.id not in settled]
        remembered = self._memory.remember([row for _, row in clear])
        results = []
        for intent, row in clear:
            reason = reason_told(row, remembered)
            log.info("order %s resolved: %s %s", row.id, row.status, reason)
            results.append(self._result(Order.model_validate(intent.payload), row, reason))
        return results
