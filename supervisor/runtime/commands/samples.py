"""samples: what the machine or a bot used, in the last hour from memory, before that from the store."""

from __future__ import annotations

from typing import Any, Final

from protocol.errors import INVALID, StablehandError
from store import samples as sample_table
from supervisor.runtime import clock
from supervisor.runtime.commands.select import select
from supervisor.runtime.samplehistory import BOT_KEYS, HOST_KEYS
from supervisor.runtime.stable import Stable

_HOUR: Final = 60.0
_MOST: Final = 7 * 24 * 60


async def samples(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """`{keys, rows}`: rows `[at, value, ...]`, oldest first, of `bot` or of the machine, for the last `minutes`."""
    minutes = args.get("minutes", _HOUR)
    if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 < minutes <= _MOST:
        raise StablehandError(f"minutes = {minutes!r}: a number above 0 and up to {_MOST}", code=INVALID)
    since = clock.wall() - minutes * 60.0
    name = args.get("bot")
    if name is None:
        keys, rows = list(HOST_KEYS), stable.sampling.history.host.rows(since)
        if minutes > _HOUR:
            found = await stable.read(lambda conn: sample_table.since(conn, since))
            early = [[one.at, *(one.host.get(key) for key in keys)] for one in found]
            rows = _joined(early, rows)
        return {"bot": None, "keys": keys, "rows": rows}
    record = select(stable, {"bots": [name]})[0]
    ring = stable.sampling.history.bots.get(record.bot_id)
    rows = ring.rows(since) if ring is not None else []
    if minutes > _HOUR:
        stored = await stable.read(lambda conn: sample_table.of_bot(conn, record.bot_id, since))
        rows = _joined([[at, *values] for at, values in stored], rows)
    return {"bot": record.name, "keys": list(BOT_KEYS), "rows": rows}


def _joined(early: list[list[Any]], late: list[list[Any]]) -> list[list[Any]]:
    """Minutes from the store, up to where memory begins."""
    first = late[0][0] if late else float("inf")
    return [row for row in early if row[0] < first] + late
