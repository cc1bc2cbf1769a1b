"""Small facts about one database, by key."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import Connection, select

from store.database import insert_for
from store.tables import meta

INSTALLATION: Final = "installation_id"


def get(conn: Connection, key: str) -> str | None:
    """The value of `key`, or None."""
    value: str | None = conn.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
    return value


def set(conn: Connection, key: str, value: str) -> None:
    """Set `key`, whatever it was."""
    insert = insert_for(conn, meta).values(key=key, value=value)
    conn.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def installation_id(conn: Connection) -> str:
    """The id of this installation, 8 hex digits, made at the first call (which must be able to write)."""
    known = get(conn, INSTALLATION)
    if known is None:
        known = secrets.token_hex(4)
        set(conn, INSTALLATION, known)
    return known
