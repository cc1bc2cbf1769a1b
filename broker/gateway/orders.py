"""Orders on the service thread: known ids, rules, hand-over to the terminal thread, and the replies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable

from broker.desk import UNDER_WAY
from broker.gateway.book import Book, Sight
from broker.gateway.memory import Pending
from broker.gateway.sessions import Identity, Session
from protocol.codec import encode
from protocol.messages import Order, OrderQuery, OrderResult
from store.database import Database
from store.errors import StoreError
from store.ledger import ResultRow, intent_of, refuse_id, result_of


class Orders:
    """For the service thread. `hand_over` passes an accepted order on (to the terminal, or to lockstep)."""

    def __init__(
        self,
        book: Book,
        ledger: Database,
        hand_over: Callable[[Pending], None],
        reply: Callable[[Identity, bytes], None],
    ) -> None:
        self._book = book
        self._ledger = ledger
        self._hand_over = hand_over
        self._reply = reply
        self.on_end: Callable[[], None] = lambda: None  # an order is no longer under way
        self._under_way: dict[str, tuple[Identity, Order]] = {}

    def order(self, identity: Identity, session: Session | None, order: Order, frame: bytes) -> None:
        """An order has come in: answer what is known or refused, hand over what is new."""
        if session is None or session.bot_id != order.bot_id or session.epoch != order.epoch:
            self._say(identity, _refused(order.id, "this connection is not attached: attach first"))
            return
        if session.read_only:
            self._say(identity, _refused(order.id, "attached for reading only"))
            return
        digest = hashlib.blake2b(frame, digest_size=16).hexdigest()
        sight, known = self._book.sight(order, digest)
        if sight is Sight.LOOK_UP:
            sight, known = self._look_up(order.id, digest)
        if sight is Sight.OTHER_PAYLOAD:
            self._say(identity, _refused(order.id, "this id came before with another payload"))
        elif sight is Sight.UNDER_WAY:
            if order.id in self._under_way:
                self._under_way[order.id] = identity, order
        elif known is not None:
            self._say(identity, known)
        else:
            self._new(identity, session, order, digest)

    def _new(self, identity: Identity, session: Session, order: Order, digest: str) -> None:
        reason = self._book.refuse(order, time.monotonic(), session.ttl, time.time())
        if reason:
            result = _refused(order.id, reason)
            self._book.settle(result, digest)
            self._say(identity, result)
            return
        self._book.accept(order, digest)
        self._under_way[order.id] = identity, order
        self._hand_over(Pending(order, order.id, digest, session.ttl))

    def asked(self, identity: Identity, question: OrderQuery) -> None:
        """What became of an order? An id never seen is refused from now on."""
        sight, known = self._book.asked(question.id)
        if sight is Sight.LOOK_UP:
            sight, known = self._look_up(question.id, None)
        if sight is Sight.NEW:
            known = self._bury(question.id)
        self._say(identity, known or OrderResult(id=question.id, status="unknown", reason=UNDER_WAY))

    def done(self, pending: Pending, result: OrderResult) -> None:
        """The terminal thread has an order's result, committed."""
        self._book.settle(result, pending.digest)
        waiting = self._under_way.pop(pending.id, None)
        if waiting is not None:
            self._say(waiting[0], result)
        self.on_end()

    def resolved(self, results: Iterable[OrderResult]) -> None:
        """Orders whose outcome was unknown are clear now; those who care ask by id."""
        for result in results:
            self._book.settle(result)

    def drop(self, orders: Iterable[Order], reason: str) -> None:
        """Accepted orders that will not be executed: their runs were fenced off, or the gateway leaves."""
        for order in orders:
            result = _refused(order.id, reason)
            self._book.settle(result)
            waiting = self._under_way.pop(order.id, None)
            if waiting is not None:
                self._say(waiting[0], result)
        self.on_end()

    def in_flight(self, bot_id: int, epoch: int, alive: bool) -> bool:
        """Whether an order of this bot that a fence would bar is still with the terminal thread."""
        return any(
            order.bot_id == bot_id and (order.epoch < epoch or not alive) for _, order in self._under_way.values()
        )

    def _look_up(self, order_id: str, digest: str | None) -> tuple[Sight, OrderResult | None]:
        """The ledger's memory of an id from before this process."""
        try:
            with self._ledger.read() as connection:
                intent = intent_of(connection, order_id)
                row = result_of(connection, order_id)
        except StoreError as error:
            return Sight.UNDER_WAY, OrderResult(id=order_id, status="unknown", reason=error.message)
        if intent is not None and digest is not None and intent.payload_hash != digest:
            return Sight.OTHER_PAYLOAD, None
        if row is not None:
            return Sight.KNOWN, _result(row)
        return (Sight.UNDER_WAY if intent is not None else Sight.NEW), None

    def _bury(self, order_id: str) -> OrderResult | None:
        tombstone = self._book.tombstone(order_id)
        try:
            with self._ledger.begin() as connection:
                row = refuse_id(connection, order_id, at=time.time(), reason=tombstone.reason)
        except StoreError:
            # In memory it stands, and a later gateway refuses the order for the boot id that it carries.
            return tombstone
        return None if row is None else _result(row)

    def _say(self, identity: Identity, result: OrderResult) -> None:
        self._reply(identity, encode(result))


def _refused(order_id: str, reason: str) -> OrderResult:
    return OrderResult(id=order_id, status="refused", reason=reason)


def _result(row: ResultRow) -> OrderResult:
    return OrderResult(
        id=row.id,
        status=row.status,  # type: ignore[arg-type]
        retcode=row.retcode,
        reason=row.reason,
        deal=row.deal,
        order=row.order,
        volume=row.volume,
        price=row.price,
    )
