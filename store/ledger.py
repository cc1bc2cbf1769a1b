"""The gateway's own memory: fences, and what it meant to send, before it sent it.

An order is an intent (committed before the send) and a result (committed before the reply). An intent whose
result is missing or `unknown` is unresolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Executable, Row, bindparam, case, insert, select

from store.database import insert_for
from store.deals import DealRow, add_deals, all_deals, last_deal_ticket, realised_by_magic
from store.errors import StoreConflict
from store.halts import HaltRow, gateway_halts
from store.prepared import Prepared
from store.tables import fences, order_intents, order_results

__all__ = [
    "DealRow",
    "FenceRow",
    "HaltRow",
    "OrderIntent",
    "ResultRow",
    "add_deals",
    "add_intents",
    "add_results",
    "all_deals",
    "deals_of_results",
    "entry_for_decision",
    "fences_all",
    "gateway_halts",
    "intent_of",
    "last_deal_ticket",
    "realised_by_magic",
    "refuse_id",
    "result_of",
    "set_fence",
    "unresolved",
]


@dataclass(frozen=True, slots=True)
class FenceRow:
    """Only `epoch` of the bot may trade, and only while `alive`."""

    bot_id: int
    epoch: int
    alive: bool
    magic: int
    name: str


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """An order about to be sent. `before_order` and `before_deal` are the newest tickets seen before the send."""

    id: str
    bot_id: int
    epoch: int
    seq: int
    decision: str
    action: str  # open | close | modify
    payload: dict[str, Any]
    payload_hash: str
    before_order: int
    before_deal: int
    at: float


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What became of an order. `status`: done, refused or unknown; retcode 0 where the gateway refused."""

    id: str
    status: str
    retcode: int = 0
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    reason: str = ""
    at: float = 0.0


def _upsert_results(conn: Connection) -> Executable:
    statement = insert_for(conn, order_results)
    changed = {column.name: statement.excluded[column.name] for column in order_results.c if not column.primary_key}
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=changed, where=order_results.c.status == "unknown"
    )


def _upsert_fence(conn: Connection) -> Executable:
    statement = insert_for(conn, fences)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["bot_id"],
        set_={
            "epoch": new.epoch,
            "alive": case((fences.c.epoch < new.epoch, new.alive), else_=fences.c.alive & new.alive),
            "magic": new.magic,
            "name": new.name,
        },
        where=fences.c.epoch <= new.epoch,
    )


# What every start runs, and every order.
_FENCE: Final = Prepared(_upsert_fence)
_FENCED: Final = Prepared(lambda _conn: select(fences).where(fences.c.bot_id == bindparam("bot")))
_INTENT_FIELDS: Final = tuple(OrderIntent.__dataclass_fields__)
_RESULT_FIELDS: Final = tuple(ResultRow.__dataclass_fields__)
_ADD_INTENTS: Final = Prepared(lambda _conn: insert(order_intents))
_ADD_RESULTS: Final = Prepared(_upsert_results)
_RESULT_ID: Final = Prepared(lambda _conn: select(order_results.c.id).where(order_results.c.id == bindparam("id")))
_ENTRY_ID: Final = Prepared(
    lambda _conn: (
        select(order_intents.c.id)
        .where(
            order_intents.c.bot_id == bindparam("bot"),
            order_intents.c.decision == bindparam("key"),
            order_intents.c.action == "open",
        )
        .limit(1)
    )
)


def _values(row: OrderIntent | ResultRow, fields: tuple[str, ...]) -> dict[str, Any]:
    """Fields by name, not copied: `asdict` would copy a payload deeply, value by value."""
    return {name: getattr(row, name) for name in fields}


def set_fence(conn: Connection, bot_id: int, epoch: int, alive: bool, magic: int, name: str) -> FenceRow:
    """Fence a bot; the fence that stands afterwards.

    An epoch never sinks: a lower one changes nothing, and the answer shows the higher. An epoch that was
    fenced dead stays dead, whatever comes late.
    """
    _FENCE.run(conn, [{"bot_id": bot_id, "epoch": epoch, "alive": alive, "magic": magic, "name": name}])
    found = _FENCED.first(conn, {"bot": bot_id})
    assert found is not None
    return FenceRow(found[0], found[1], bool(found[2]), found[3], found[4])


def fences_all(conn: Connection) -> dict[int, FenceRow]:
    """All fences by bot id."""
    return {row.bot_id: FenceRow(*row) for row in conn.execute(select(fences))}


def add_intents(conn: Connection, intents: Sequence[OrderIntent]) -> None:
    """Remember orders before they are sent. Raises StoreConflict for an id that is known or has an answer."""
    for intent in intents:
        if _RESULT_ID.first(conn, {"id": intent.id}) is not None:
            raise StoreConflict(f"order {intent.id} has an answer already")
    _ADD_INTENTS.run(conn, [_values(intent, _INTENT_FIELDS) for intent in intents])


def add_results(conn: Connection, results: Sequence[ResultRow]) -> None:
    """Remember what became of orders. `unknown` gives way to a later answer; done and refused stay for ever."""
    _ADD_RESULTS.run(conn, [_values(result, _RESULT_FIELDS) for result in results])


def intent_of(conn: Connection, order_id: str) -> OrderIntent | None:
    """The intent by the order's id."""
    row = conn.execute(select(order_intents).where(order_intents.c.id == order_id)).first()
    return None if row is None else _intent(row)


def result_of(conn: Connection, order_id: str) -> ResultRow | None:
    """The result by the order's id; a tombstone too."""
    row = conn.execute(select(order_results).where(order_results.c.id == order_id)).first()
    return None if row is None else ResultRow(*row)


def unresolved(conn: Connection) -> list[OrderIntent]:
    """Intents without a result, or with `unknown`, in the order in which they were meant."""
    query = (
        select(order_intents)
        .outerjoin(order_results, order_intents.c.id == order_results.c.id)
        .where(order_results.c.id.is_(None) | (order_results.c.status == "unknown"))
        .order_by(order_intents.c.at, order_intents.c.bot_id, order_intents.c.epoch, order_intents.c.seq)
    )
    return [_intent(row) for row in conn.execute(query)]


def deals_of_results(conn: Connection) -> set[int]:
    """Tickets of the deals that are known to be an order's."""
    return set(conn.execute(select(order_results.c.deal).where(order_results.c.deal > 0)).scalars())


def entry_for_decision(conn: Connection, bot_id: int, decision: str) -> str | None:
    """Id of the entry (action `open`) that a bot made for a decision key, in any epoch."""
    row = _ENTRY_ID.first(conn, {"bot": bot_id, "key": decision})
    return None if row is None else str(row[0])


def refuse_id(conn: Connection, order_id: str, *, at: float, reason: str = "never received") -> ResultRow | None:
    """Refuse an id for ever that was asked for and never seen; the result that stands.

    None when there is an intent without a result: that order may be on its way.
    """
    known = result_of(conn, order_id)
    if known is not None or intent_of(conn, order_id) is not None:
        return known
    result = ResultRow(order_id, "refused", reason=reason, at=at)
    add_results(conn, [result])
    return result


def _intent(row: Row[Any]) -> OrderIntent:
    return OrderIntent(**row._mapping)
