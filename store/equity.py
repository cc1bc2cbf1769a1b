"""Samples of what an account is worth over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from store.tables import equity


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of an account, money in its currency. `at`: seconds since 1970."""

    account: str
    at: float
    balance: float
    equity: float
    margin: float = 0.0


_COLUMNS = [equity.c[name] for name in Sample.__dataclass_fields__]


def append(conn: Connection, samples: Sequence[Sample]) -> None:
    """Write samples."""
    if samples:
        conn.execute(insert(equity), [asdict(sample) for sample in samples])


def since(conn: Connection, account: str, at: float, *, limit: int = 10_000) -> list[Sample]:
    """Samples of an account later than `at`, oldest first, at most `limit`."""
    query = (
        select(*_COLUMNS)
        .where(equity.c.account == account, equity.c.at > at)
        .order_by(equity.c.at, equity.c.id)
        .limit(limit)
    )
    return [Sample(*row) for row in conn.execute(query)]


def newest(conn: Connection, account: str, limit: int) -> list[Sample]:
    """The last samples of an account, oldest first, at most `limit`."""
    query = select(*_COLUMNS).where(equity.c.account == account).order_by(equity.c.at.desc(), equity.c.id.desc())
    return [Sample(*row) for row in conn.execute(query.limit(limit))][::-1]


def prune(conn: Connection, *, before: float, keep: int, most: int) -> int:
    """Forget samples older than `before`, and the oldest beyond `keep` in all; `most` at a time. How many it forgot."""
    within = select(equity.c.id).order_by(equity.c.id.desc()).offset(max(keep, 1) - 1).limit(1)
    surplus = equity.c.id < (conn.execute(within).scalar() or 0)
    oldest = select(equity.c.id).where((equity.c.at < before) | surplus).order_by(equity.c.id).limit(most)
    return conn.execute(delete(equity).where(equity.c.id.in_(oldest))).rowcount
