"""What the machine and the bots used, one row a minute: the long memory of the probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack
from sqlalchemy import Connection, delete, insert, select

from store.tables import samples


@dataclass(frozen=True, slots=True)
class Minute:
    """Means of one minute, which ended `at`. `bots`: `{id: (cpu percent, rss bytes, uss bytes)}`; None is unknown."""

    at: float
    host: Mapping[str, float | None]
    bots: Mapping[int, Sequence[float | None]]


def append(conn: Connection, minute: Minute) -> None:
    """Write a minute. All bots in one value: 500 rows a minute would be most of the database."""
    packed = msgpack.packb({bot_id: list(values) for bot_id, values in minute.bots.items()}, use_single_float=True)
    conn.execute(insert(samples), {"at": minute.at, "host": dict(minute.host), "bots": packed})


def since(conn: Connection, at: float, *, limit: int = 10_080) -> list[Minute]:
    """Minutes later than `at`, oldest first, at most `limit`."""
    query = select(samples).where(samples.c.at > at).order_by(samples.c.at).limit(limit)
    return [Minute(row.at, row.host, msgpack.unpackb(row.bots, strict_map_key=False)) for row in conn.execute(query)]


def of_bot(
    conn: Connection, bot_id: int, at: float, *, limit: int = 10_080
) -> list[tuple[float, Sequence[float | None]]]:
    """(end of the minute, values) of one bot, later than `at`, oldest first."""
    found = ((one.at, one.bots.get(bot_id)) for one in since(conn, at, limit=limit))
    return [(moment, values) for moment, values in found if values is not None]


def prune(conn: Connection, *, before: float) -> int:
    """Forget minutes older than `before`. How many were forgotten."""
    return conn.execute(delete(samples).where(samples.c.at < before)).rowcount
