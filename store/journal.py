"""The journal: what happened, in the order of its rising numbers. Clients resume from a number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select

from store.prepared import Prepared
from store.tables import journal

HISTORY: Final = "history"


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to write. A bot's history (type `history`) has the run's `epoch` and the run's own count `run_seq`."""

    at: float
    type: str
    text: str
    bot: str | None = None
    bot_id: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    cause_id: str = ""
    epoch: int | None = None
    run_seq: int | None = None


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A row as written; `seq` rises, with gaps, and is never given twice."""

    seq: int
    at: float
    type: str
    bot: str | None
    bot_id: int | None
    text: str
    data: dict[str, Any]
    cause_id: str
    epoch: int | None = None
    run_seq: int | None = None


_INSERT = insert(journal)
_INSERT_MANY = insert(journal).returning(journal.c.seq, sort_by_parameter_order=True)
_COLUMNS = [journal.c[name] for name in JournalRow.__dataclass_fields__]
_Key = tuple[int | None, int | None, int | None]
_OF_RUN = select(journal.c.run_seq).where(
    journal.c.bot_id == bindparam("bot_id"),
    journal.c.epoch == bindparam("epoch"),
    journal.c.run_seq.between(bindparam("lowest"), bindparam("highest")),
)
_HERE = Prepared(
    lambda _conn: select(journal.c.seq).where(
        journal.c.bot_id == bindparam("bot_id"),
        journal.c.epoch == bindparam("epoch"),
        journal.c.run_seq == bindparam("run_seq"),
    )
)


def append(conn: Connection, rows: Sequence[NewRow]) -> list[int]:
    """Write rows; their numbers, rising. A history row that is there already is left alone, its number is 0."""
    known = _known(conn, [_key(row) for row in rows if row.run_seq is not None])
    fresh: list[bool] = []
    for row in rows:
        key = _key(row)
        fresh.append(row.run_seq is None or key not in known)
        known.add(key)
    values = [_values(row) for row, new in zip(rows, fresh, strict=True) if new]
    if len(values) > 1:
        given = [int(seq) for seq in conn.execute(_INSERT_MANY, values).scalars()]
    else:  # the common single row, without the detour of RETURNING
        given = [_append_one(conn, one) for one in values]
    numbers = iter(given)
    return [next(numbers) if new else 0 for new in fresh]


def since(
    conn: Connection, seq: int, *, limit: int, bot: str | None = None, types: Collection[str] | None = None
) -> list[JournalRow]:
    """Rows with a number above `seq`, oldest first, at most `limit`; only of `bot`, only of `types`."""
    query = select(*_COLUMNS).where(journal.c.seq > seq).order_by(journal.c.seq).limit(limit)
    if bot is not None:
        query = query.where(journal.c.bot == bot)
    if types is not None:
        query = query.where(journal.c.type.in_(list(types)))
    return _rows(conn, query)


def of_bot(conn: Connection, bot_id: int, limit: int, *, type: str | None = HISTORY) -> list[JournalRow]:
    """The last rows of one bot, newest last; its history, or with `type=None` everything."""
    query = select(*_COLUMNS).where(journal.c.bot_id == bot_id).order_by(journal.c.seq.desc()).limit(limit)
    if type is not None:
        query = query.where(journal.c.type == type)
    return _rows(conn, query)[::-1]


def last(conn: Connection, limit: int, *, bot: str | None = None) -> list[JournalRow]:
    """The last rows of all or of one bot, newest last."""
    query = select(*_COLUMNS).order_by(journal.c.seq.desc()).limit(limit)
    if bot is not None:
        query = query.where(journal.c.bot == bot)
    return _rows(conn, query)[::-1]


def last_seq(conn: Connection) -> int:
    """The highest number in the journal; 0 when it is empty."""
    return int(conn.execute(select(func.max(journal.c.seq))).scalar() or 0)


def first_seq(conn: Connection) -> int:
    """The lowest number that is still kept; 0 when it is empty."""
    return int(conn.execute(select(func.min(journal.c.seq))).scalar() or 0)


def last_run_seq(conn: Connection, bot_id: int, epoch: int) -> int:
    """The highest history count of one run that is committed; 0 for none. Rows may be missing below it."""
    query = select(func.max(journal.c.run_seq)).where(journal.c.bot_id == bot_id, journal.c.epoch == epoch)
    return int(conn.execute(query).scalar() or 0)


def kept_from(conn: Connection, *, before: float, keep: int) -> int:
    """The number of the first row that retention keeps: the rows below it are of times before `before`, or are more
    than `keep`. What is kept has no hole. The newest row always stays, so that numbers go on rising from it."""
    young = select(journal.c.seq).where(journal.c.at >= before).order_by(journal.c.seq).limit(1)
    within = select(journal.c.seq).order_by(journal.c.seq.desc()).offset(max(keep, 1) - 1).limit(1)
    first = conn.execute(young).scalar()
    return max(int(conn.execute(within).scalar() or 0), last_seq(conn) if first is None else int(first))


def forget(conn: Connection, *, below: int, most: int) -> int:
    """Forget the oldest rows with a number below `below`, at most `most` of them. How many were forgotten."""
    oldest = select(journal.c.seq).where(journal.c.seq < below).order_by(journal.c.seq).limit(most)
    return conn.execute(delete(journal).where(journal.c.seq.in_(oldest))).rowcount


def _append_one(conn: Connection, values: dict[str, Any]) -> int:
    key = conn.execute(_INSERT, values).inserted_primary_key
    assert key is not None
    return int(key[0])


def _key(row: NewRow) -> _Key:
    return (row.bot_id, row.epoch, row.run_seq)


def _known(conn: Connection, keys: list[_Key]) -> set[_Key]:
    """Which of the keys are written already; the many of one run in one question, for they are dense."""
    found: set[_Key] = set()
    spans: dict[tuple[int | None, int | None], list[int]] = {}
    for bot_id, epoch, run_seq in keys:
        spans.setdefault((bot_id, epoch), []).append(run_seq or 0)
    for (bot_id, epoch), counts in spans.items():
        if len(counts) == 1:
            key = {"bot_id": bot_id, "epoch": epoch, "run_seq": counts[0]}
            if _HERE.first(conn, key) is not None:
                found.add((bot_id, epoch, counts[0]))
            continue
        limits = {"bot_id": bot_id, "epoch": epoch, "lowest": min(counts), "highest": max(counts)}
        found.update((bot_id, epoch, run_seq) for run_seq in conn.execute(_OF_RUN, limits).scalars())
    return found


def _values(row: NewRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in NewRow.__dataclass_fields__}
    if not row.text.isascii():
        # What a bot says may be anything: an odd character must not hold up the rows beside it.
        values["text"] = row.text.encode("utf-8", "replace").decode("utf-8")
    return values


def _rows(conn: Connection, query: Select[Any]) -> list[JournalRow]:
    return [JournalRow(*row) for row in conn.execute(query)]
