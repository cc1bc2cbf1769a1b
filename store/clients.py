"""Clients over the network: their public keys, what each may do, and which were revoked."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from store.errors import StoreConflict
from store.tables import client_keys


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One client. `role`: viewer | operator. Times in seconds since 1970; a revoked key stays on record."""

    id: int
    name: str
    role: str
    public_key: str
    created_at: float
    revoked_at: float | None


def add(conn: Connection, name: str, role: str, public_key: str, at: float) -> int:
    """A new client; its id. Raises StoreConflict when the name is in use."""
    taken = select(client_keys.c.id).where(client_keys.c.name == name, client_keys.c.revoked_at.is_(None))
    if conn.execute(taken).first() is not None:
        raise StoreConflict(f"a client named {name!r} exists already", hint="revoke it first, or choose another name")
    values = {"name": name, "role": role, "public_key": public_key, "created_at": at}
    key = conn.execute(insert(client_keys), values).inserted_primary_key
    assert key is not None
    return int(key[0])


def load_all(conn: Connection, *, revoked: bool = False) -> list[ClientKey]:
    """The clients by id; those that were revoked only when asked for."""
    query = select(client_keys).order_by(client_keys.c.id)
    if not revoked:
        query = query.where(client_keys.c.revoked_at.is_(None))
    return [ClientKey(**row._mapping) for row in conn.execute(query)]


def revoke(conn: Connection, key_id: int, at: float) -> None:
    """This client may do nothing any more."""
    conn.execute(update(client_keys).where(client_keys.c.id == key_id).values(revoked_at=at))
