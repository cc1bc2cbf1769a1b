"""Leases: who owns a shard, until when. A new holder has a higher term, by which an old one's acts are told."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from store.tables import leases


@dataclass(frozen=True, slots=True)
class Lease:
    """`holder` owns `name` until `until` (seconds since 1970); `term` rises with every new holder."""

    name: str
    holder: str
    term: int
    until: float


def get(conn: Connection, name: str) -> Lease | None:
    """The lease as it stands, also one that has run out."""
    row = conn.execute(select(leases).where(leases.c.name == name)).first()
    return None if row is None else Lease(*row)


def take(conn: Connection, name: str, holder: str, *, now: float, seconds: float) -> Lease | None:
    """Take or renew a lease for `seconds` from `now`. None when another holds it."""
    current = get(conn, name)
    if current is None:
        lease = Lease(name, holder, 1, now + seconds)
        conn.execute(insert(leases), {"name": name, "holder": holder, "term": 1, "until": lease.until})
        return lease
    same = current.holder == holder
    if not same and current.until > now:
        return None
    lease = Lease(name, holder, current.term if same else current.term + 1, now + seconds)
    statement = update(leases).where(leases.c.name == name, leases.c.term == current.term)
    conn.execute(statement.values(holder=holder, term=lease.term, until=lease.until))
    return lease


def release(conn: Connection, name: str, holder: str, *, now: float) -> bool:
    """Give a lease back; False when `holder` does not hold it. The term stays behind."""
    statement = update(leases).where(leases.c.name == name, leases.c.holder == holder)
    return conn.execute(statement.values(until=now)).rowcount == 1
