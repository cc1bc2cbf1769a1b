"""Halts: latched kill switches. One holds until it is lifted; the supervisor and each gateway keep their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from store.tables import halts, ledger_halts


@dataclass(frozen=True, slots=True)
class HaltRow:
    """One halt. `scope`: "all", "account:NAME", "bot:NAME" or "symbol:NAME"; it holds while `lifted_at` is None."""

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
