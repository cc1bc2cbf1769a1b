"""Halts: latched kill switches. One holds until it is lifted; the supervisor and each gateway keep their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, insert, select, update

from protocol.halts import HaltState, split_key
from store.tables import halts, ledger_halts


@dataclass(frozen=True, slots=True)
class HaltRow:
    """One halt. `scope` is its key (`protocol.halts`), as "all" or "bot:NAME"; it holds while `lifted_at` is None."""

    id: int
    scope: str
    reason: str
    who: str
    at: float
    lifted_at: float | None = None
    lifted_by: str | None = None


class HaltBook:
    """The halts of one table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, conn: Connection, *, scope: str, reason: str, who: str, at: float) -> int:
        """Latch a halt; its id. A scope that is halted already keeps its first halt, whose id is given."""
        for halt in self.active(conn):
            if halt.scope == scope:
                return halt.id
        values = {"scope": scope, "reason": reason, "who": who, "at": at}
        key = conn.execute(insert(self._table), values).inserted_primary_key
        assert key is not None
        return int(key[0])

    def lift(self, conn: Connection, *, scope: str, who: str, at: float) -> bool:
        """Lift the halt of that scope; False when there is none."""
        columns = self._table.c
        statement = update(self._table).where(columns.scope == scope, columns.lifted_at.is_(None))
        return conn.execute(statement.values(lifted_at=at, lifted_by=who)).rowcount > 0

    def active(self, conn: Connection) -> list[HaltRow]:
        """Halts that hold, oldest first."""
        query = select(self._table).where(self._table.c.lifted_at.is_(None)).order_by(self._table.c.id)
        return [_row(row) for row in conn.execute(query)]

    def all(self, conn: Connection, limit: int = 100) -> list[HaltRow]:
        """The last halts, lifted ones too, newest first."""
        query = select(self._table).order_by(self._table.c.id.desc()).limit(limit)
        return [_row(row) for row in conn.execute(query)]


#: Halts that the supervisor remembers.
supervisor_halts = HaltBook(halts)
#: Halts that a gateway enforces, in its own ledger.
gateway_halts = HaltBook(ledger_halts)


def _row(row: Row[Any]) -> HaltRow:
    return HaltRow(**row._mapping)


# --- the same in the words of the wire: a halt that flattens has a second row, `flatten:KEY` --------------

_FLATTEN: Final = "flatten:"


def remember(book: HaltBook, conn: Connection, halt: HaltState) -> None:
    """Latch a halt under its key, and that it flattens."""
    for row in (halt.key, *([_FLATTEN + halt.key] if halt.flatten else [])):
        book.add(conn, scope=row, reason=halt.reason, who=halt.who, at=halt.at)


def lift(book: HaltBook, conn: Connection, keys: Iterable[str], who: str, at: float) -> None:
    """Lift the halts of these keys."""
    for key in keys:
        for row in (key, _FLATTEN + key):
            book.lift(conn, scope=row, who=who, at=at)


def standing(book: HaltBook, conn: Connection) -> list[HaltState]:
    """Halts that hold, oldest first."""
    rows = book.active(conn)
    flatten = {row.scope.removeprefix(_FLATTEN) for row in rows if row.scope.startswith(_FLATTEN)}
    found = []
    for row in rows:
        if not row.scope.startswith(_FLATTEN):
            scope, rule, until = split_key(row.scope)
            found.append(
                HaltState(scope=scope, reason=row.reason, who=row.who, at=row.at, rule=rule, until=until,
                          flatten=row.scope in flatten)
            )  # fmt: skip
    return found
