"""The bots (and gateways) that are known, what is wanted of them, and how far their epochs are reserved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from store.errors import StoreConflict
from store.prepared import Prepared
from store.tables import bots

Kind = Literal["bot", "gateway"]

_SELECT = select(bots).order_by(bots.c.id)
_RESERVE = Prepared(
    lambda _conn: (
        update(bots)
        .where(bots.c.id == bindparam("which"), bots.c.last_epoch < bindparam("ceiling"))
        .values(last_epoch=bindparam("ceiling"))
    )
)


@dataclass(frozen=True, slots=True)
class BotRow:
    """One bot as the store remembers it. `declared` stands in the file, `added` came at run time."""

    id: int
    kind: Kind
    name: str
    declared: dict[str, Any] | None
    added: dict[str, Any] | None
    override: dict[str, Any]
    wanted: str
    last_epoch: int
    removed_at: float | None


def load_all(conn: Connection, *, removed: bool = False) -> list[BotRow]:
    """All bots and gateways by id; those that were removed only when asked for."""
    query = _SELECT if removed else _SELECT.where(bots.c.removed_at.is_(None))
    return [_row(row) for row in conn.execute(query)]


def get(conn: Connection, bot_id: int) -> BotRow | None:
    """One bot, also when it was removed."""
    row = conn.execute(_SELECT.where(bots.c.id == bot_id)).first()
    return None if row is None else _row(row)


def insert_bot(
    conn: Connection,
    name: str,
    *,
    kind: Kind = "bot",
    declared: Mapping[str, Any] | None = None,
    added: Mapping[str, Any] | None = None,
    wanted: str,
) -> int:
    """A new bot; its id, which no other ever had. Raises StoreConflict when the name is taken."""
    taken = select(bots.c.id).where(bots.c.kind == kind, bots.c.name == name, bots.c.removed_at.is_(None))
    if conn.execute(taken).first() is not None:
        raise StoreConflict(f"a {kind} named {name} exists already")
    values = {
        "kind": kind, "name": name, "declared": declared, "added": added, "override": {}, "wanted": wanted,
        "last_epoch": 0,
    }  # fmt: skip
    key = conn.execute(insert(bots), values).inserted_primary_key
    assert key is not None
    return int(key[0])


def set_wanted(conn: Connection, ids: Collection[int], wanted: str) -> None:
    """The operator's last word on these bots."""
    _update_each(conn, "wanted", dict.fromkeys(ids, wanted))


def set_override(conn: Connection, bot_id: int, override: Mapping[str, Any]) -> None:
    """What `update` set on top of the file; an empty one takes it back."""
    _update_each(conn, "override", {bot_id: dict(override)})


def set_declared(conn: Connection, bot_id: int, declared: Mapping[str, Any] | None) -> None:
    """What the file says now; None when it no longer names the bot."""
    _update_each(conn, "declared", {bot_id: declared})


def set_added(conn: Connection, bot_id: int, added: Mapping[str, Any] | None) -> None:
    """The configuration of a bot that was added at run time."""
    _update_each(conn, "added", {bot_id: added})


def remove(conn: Connection, bot_id: int, at: float) -> None:
    """The bot is gone and its name free; the id and the last epoch stay behind for ever."""
    _update_each(conn, "removed_at", {bot_id: at})


def reserve_epochs(conn: Connection, ceilings: Mapping[int, int]) -> None:
    """Epochs up to these may be used without asking again. A ceiling never sinks."""
    _RESERVE.run(conn, [{"which": bot_id, "ceiling": ceiling} for bot_id, ceiling in ceilings.items()])


def last_epochs(conn: Connection) -> dict[int, int]:
    """Reserved epoch of every id ever given, removed bots too."""
    return {row.id: row.last_epoch for row in conn.execute(select(bots.c.id, bots.c.last_epoch))}


def _update_each(conn: Connection, column: str, values: Mapping[int, Any]) -> None:
    if not values:
        return
    # The column's own type must encode the value (JSON), so the parameter borrows it.
    statement = (
        update(bots)
        .where(bots.c.id == bindparam("which"))
        .values({column: bindparam("value", type_=bots.c[column].type)})
    )
    conn.execute(statement, [{"which": bot_id, "value": value} for bot_id, value in values.items()])


def _row(row: Row[Any]) -> BotRow:
    return BotRow(**row._mapping)
