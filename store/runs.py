"""Runs: intended before the launch, identified after it, ended once.

A run without an end is open: it may be alive, and a starting supervisor looks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from store.prepared import Prepared
from store.tables import runs


@dataclass(frozen=True, slots=True)
class Intent:
    """A launch that is about to happen. `token` names the run; `at` in seconds since 1970.

    `public_key`: of the run's own CURVE pair (tcp only), so that the next supervisor lets the run in.
    """

    bot_id: int
    epoch: int
    token: str
    at: float
    public_key: str | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. Without `pid` its launch was never confirmed; without `ended_at` it is open."""

    id: int
    token: str
    bot_id: int
    epoch: int
    intended_at: float
    public_key: str | None
    pid: int | None
    boot_id: str | None
    start_ticks: int | None
    launcher: str | None
    code_hash: str | None
    ended_at: float | None
    status: int | None
    cause: str | None
    reason: str | None


_INTENT_COLUMNS = ("bot_id", "epoch", "token", "intended_at", "public_key")
_IDENTITY_COLUMNS = ("pid", "boot_id", "start_ticks", "launcher", "code_hash")
_INSERT = Prepared(lambda _conn: insert(runs).values({name: bindparam(name) for name in _INTENT_COLUMNS}))
_IDENTITY = Prepared(
    lambda _conn: (
        update(runs)
        .where(runs.c.token == bindparam("which"))
        .values({name: bindparam(name) for name in _IDENTITY_COLUMNS})
    )
)
_END = (
    update(runs)
    .where(runs.c.token == bindparam("which"), runs.c.ended_at.is_(None))
    .values({name: bindparam(name) for name in ("ended_at", "status", "cause", "reason")})
)


def record_intents(conn: Connection, intents: Sequence[Intent]) -> None:
    """Remember launches before they happen. Raises StoreConflict for a token or (bot, epoch) used before."""
    rows = [(one.bot_id, one.epoch, one.token, one.at, one.public_key) for one in intents]
    _INSERT.run(conn, [dict(zip(_INTENT_COLUMNS, row, strict=True)) for row in rows])


def record_identity(
    conn: Connection, token: str, pid: int, boot_id: str, start_ticks: int, launcher: str, code_hash: str
) -> None:
    """Who the run's process is. `launcher` is the generation that forked it."""
    values = {
        "which": token, "pid": pid, "boot_id": boot_id, "start_ticks": start_ticks, "launcher": launcher,
        "code_hash": code_hash,
    }  # fmt: skip
    _IDENTITY.run(conn, [values])


def record_end(conn: Connection, token: str, at: float, status: int, cause: str, reason: str) -> bool:
    """The run is over. `status` as waitpid gives it, -1 where unknown. The first end holds: False for a second."""
    values = {"which": token, "ended_at": at, "status": status, "cause": cause, "reason": reason}
    return conn.execute(_END, values).rowcount == 1


def open_runs(conn: Connection) -> list[RunRow]:
    """Runs without an end, oldest first."""
    return [_row(row) for row in conn.execute(select(runs).where(runs.c.ended_at.is_(None)).order_by(runs.c.id))]


def by_token(conn: Connection, token: str) -> RunRow | None:
    """One run by its token."""
    row = conn.execute(select(runs).where(runs.c.token == token)).first()
    return None if row is None else _row(row)


def last_runs(conn: Connection, bot_id: int, limit: int) -> list[RunRow]:
    """The newest runs of one bot, newest first."""
    query = select(runs).where(runs.c.bot_id == bot_id).order_by(runs.c.epoch.desc()).limit(limit)
    return [_row(row) for row in conn.execute(query)]


def prune(conn: Connection, *, before: float, keep: int) -> int:
    """Forget runs that ended before `before`, but keep the newest `keep` of each bot. How many were forgotten."""
    place = func.row_number().over(partition_by=runs.c.bot_id, order_by=runs.c.epoch.desc())
    ranked = select(runs.c.id, place.label("place")).subquery()
    old = select(ranked.c.id).where(ranked.c.place > keep)
    return conn.execute(delete(runs).where(runs.c.ended_at < before, runs.c.id.in_(old))).rowcount


def as_dict(row: RunRow) -> dict[str, Any]:
    """A run as plain values, without what it proves itself with: its token and its key."""
    return {key: value for key, value in asdict(row).items() if key not in ("token", "public_key")}


def _row(row: Row[Any]) -> RunRow:
    return RunRow(**row._mapping)
