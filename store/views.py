"""Answers that are put together from more than one row: counts, last runs, sizes."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from store.runs import RunRow
from store.tables import equity, journal, runs


def causes(conn: Connection, bot_id: int) -> dict[str, int]:
    """How often the runs of a bot ended by each cause, as far back as runs are kept."""
    query = (
        select(runs.c.cause, func.count())
        .where(runs.c.bot_id == bot_id, runs.c.ended_at.is_not(None))
        .group_by(runs.c.cause)
    )
    return {str(cause): int(count) for cause, count in conn.execute(query)}


def newest_runs(conn: Connection) -> dict[int, RunRow]:
    """The newest run of every bot, by bot id."""
    newest = select(runs.c.bot_id, func.max(runs.c.epoch).label("epoch")).group_by(runs.c.bot_id).subquery()
    query = select(runs).join(newest, (runs.c.bot_id == newest.c.bot_id) & (runs.c.epoch == newest.c.epoch))
    return {row.bot_id: RunRow(*row) for row in conn.execute(query)}


def sizes(conn: Connection) -> dict[str, int]:
    """Rows in the tables that grow."""
    return {
        table.name: int(conn.execute(select(func.count()).select_from(table)).scalar() or 0)
        for table in (journal, runs, equity)
    }
