"""The paper terminal's database: one account, its positions, deals and orders, and where its market stands.

Deals and orders have MetaTrader's field names. Magic numbers are unsigned in MetaTrader and signed in a
database; the terminal turns them. Times are server seconds (`_msc`: milliseconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Float,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from store.database import insert_for
from store.prepared import Prepared
from store.tables import PAPER, BigInt, Json, metadata

paper_account: Final = Table(
    "paper_account",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("made_with", Json, nullable=False),  # what of the configuration may not change afterwards
    Column("balance", Float, nullable=False),
    Column("now", BigInt, nullable=False),  # the market's clock
    Column("next_order", BigInt, nullable=False),
    Column("next_deal", BigInt, nullable=False),
    info=PAPER,
)

paper_positions: Final = Table(
    "paper_positions",
    metadata,
    Column("ticket", BigInt, primary_key=True, autoincrement=False),
    Column("identifier", BigInt, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("type", Integer, nullable=False),
    Column("volume", Float, nullable=False),
    Column("price_open", Float, nullable=False),
    Column("sl", Float, nullable=False),
    Column("tp", Float, nullable=False),
    Column("swap", Float, nullable=False),
    Column("time_msc", BigInt, nullable=False),
    Column("time_update_msc", BigInt, nullable=False),
    Column("magic", BigInt, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("comment", Text, nullable=False),
    info=PAPER,
)

paper_deals: Final = Table(
    "paper_deals",
    metadata,
    Column("ticket", BigInt, primary_key=True, autoincrement=False),
    Column("order", BigInt, nullable=False),
    Column("time", BigInt, nullable=False),
    Column("time_msc", BigInt, nullable=False),
    Column("type", Integer, nullable=False),
    Column("entry", Integer, nullable=False),
    Column("magic", BigInt, nullable=False),
    Column("position_id", BigInt, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("volume", Float, nullable=False),
    Column("price", Float, nullable=False),
    Column("commission", Float, nullable=False),
    Column("swap", Float, nullable=False),
    Column("profit", Float, nullable=False),
    Column("fee", Float, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    info=PAPER,
)


def _order_columns() -> list[Column[Any]]:
    """TradeOrder's fields; each table needs columns of its own."""
    return [
        Column("ticket", BigInt, primary_key=True, autoincrement=False),
        Column("time_setup", BigInt, nullable=False),
        Column("time_setup_msc", BigInt, nullable=False),
        Column("time_done", BigInt, nullable=False),
        Column("time_done_msc", BigInt, nullable=False),
        Column("time_expiration", BigInt, nullable=False),
        Column("type", Integer, nullable=False),
        Column("type_time", Integer, nullable=False),
        Column("type_filling", Integer, nullable=False),
        Column("state", Integer, nullable=False),
        Column("magic", BigInt, nullable=False),
        Column("position_id", BigInt, nullable=False),
        Column("position_by_id", BigInt, nullable=False),
        Column("reason", Integer, nullable=False),
        Column("volume_initial", Float, nullable=False),
        Column("volume_current", Float, nullable=False),
        Column("price_open", Float, nullable=False),
        Column("sl", Float, nullable=False),
        Column("tp", Float, nullable=False),
        Column("price_current", Float, nullable=False),
        Column("price_stoplimit", Float, nullable=False),
        Column("symbol", Text, nullable=False),
        Column("comment", Text, nullable=False),
        Column("external_id", Text, nullable=False),
    ]


#: Orders that are done; `done` counts them in that order, which is not that of their tickets.
paper_orders: Final = Table(
    "paper_orders",
    metadata,
    *_order_columns(),
    Column("done", BigInt, nullable=False, unique=True),
    info=PAPER,
)

#: Orders that wait.
paper_pending: Final = Table("paper_pending", metadata, *_order_columns(), info=PAPER)

#: Made markets: what a chunk of bars begins with, so that a restart makes no bar before it anew.
paper_chunks: Final = Table(
    "paper_chunks",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("chunk", BigInt, primary_key=True, autoincrement=False),
    Column("state", Json, nullable=False),
    info=PAPER,
)


# What every order runs.
def _adds(table: Table) -> Prepared:
    return Prepared(lambda _conn: insert(table))


def _drops(table: Table) -> Prepared:
    return Prepared(lambda _conn: delete(table).where(table.c.ticket == bindparam("old_ticket")))


_OPEN: Final = {table.name: (_adds(table), _drops(table)) for table in (paper_positions, paper_pending)}
_ADD_DEALS: Final = _adds(paper_deals)
_ADD_ORDERS: Final = _adds(paper_orders)
_AT_ONCE: Final = 500  # rows of a long history
_SET_ACCOUNT: Final = Prepared(
    lambda _conn: update(paper_account).values(
        {name: bindparam(name) for name in ("balance", "now", "next_order", "next_deal")}
    )
)

Row = dict[str, Any]


def load_account(conn: Connection) -> Row | None:
    """The account's row; None in a new database."""
    row = conn.execute(select(paper_account)).mappings().first()
    return None if row is None else dict(row)


def _rows(conn: Connection, statement: Select[Any]) -> list[Row]:
    return [dict(row) for row in conn.execute(statement).mappings()]


def _each(conn: Connection, statement: Select[Any]) -> Iterator[Row]:
    """Row by row: a long history is never in memory twice."""
    for row in conn.execute(statement, execution_options={"yield_per": _AT_ONCE}).mappings():
        yield dict(row)


def create_account(conn: Connection, row: Row) -> None:
    """The first row of a new database."""
    conn.execute(insert(paper_account), {"id": 1, **row})


def set_account(conn: Connection, *, balance: float, now: int, next_order: int, next_deal: int) -> None:
    """Everything of the account that changes."""
    values = {"balance": balance, "now": now, "next_order": next_order, "next_deal": next_deal}
    _SET_ACCOUNT.run(conn, [values])


def set_now(conn: Connection, now: int) -> None:
    """Where the market's clock stands."""
    conn.execute(update(paper_account), {"now": now})


def load_positions(conn: Connection) -> list[Row]:
    """Open positions by ticket."""
    return _rows(conn, select(paper_positions).order_by(paper_positions.c.ticket))


def load_pending(conn: Connection) -> list[Row]:
    """Orders that wait, by ticket."""
    return _rows(conn, select(paper_pending).order_by(paper_pending.c.ticket))


def replace_open(conn: Connection, table: Table, old: Iterable[int], new: list[Row]) -> None:
    """Take out of `paper_positions` or `paper_pending` the tickets `old`, and put in `new`; what changed is in both."""
    add, drop = _OPEN[table.name]
    drop.run(conn, [{"old_ticket": ticket} for ticket in old])
    add.run(conn, new)


def load_deals(conn: Connection) -> Iterator[Row]:
    """All deals by ticket."""
    return _each(conn, select(paper_deals).order_by(paper_deals.c.ticket))


def load_orders(conn: Connection) -> Iterator[Row]:
    """All orders that are done, in the order in which they were."""
    fields = [column for column in paper_orders.c if column.name != "done"]
    return _each(conn, select(*fields).order_by(paper_orders.c.done))


def add_deals(conn: Connection, rows: list[Row]) -> None:
    """Book deals."""
    _ADD_DEALS.run(conn, rows)


def add_orders(conn: Connection, rows: list[Row]) -> None:
    """Book orders."""
    _ADD_ORDERS.run(conn, rows)


def load_chunks(conn: Connection) -> list[Row]:
    """States of a made market's chunks."""
    return _rows(conn, select(paper_chunks))


def put_chunks(conn: Connection, rows: list[Row], *, oldest: int) -> None:
    """Keep states of chunks, and drop those before number `oldest`, which nothing will ask for."""
    for row in rows:
        statement = insert_for(conn, paper_chunks).values(**row)
        conn.execute(statement.on_conflict_do_nothing())
    if oldest > 0:
        conn.execute(delete(paper_chunks).where(paper_chunks.c.chunk < oldest))
