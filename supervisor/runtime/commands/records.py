"""history, events, logs, strategies: what is written down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from protocol.errors import INVALID, StablehandError
from store import journal
from supervisor.runtime.commands.select import select
from supervisor.runtime.specs import log_path
from supervisor.runtime.stable import Stable

_MOST: Final = 10_000
_TAIL_BYTES: Final = 4 * 1024 * 1024


async def history(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """The last rows of a bot's history, oldest first."""
    record = select(stable, {"bots": [args.get("bot")]})[0]
    limit = number(args, "limit", 50)
    rows = await stable.read(lambda conn: journal.of_bot(conn, record.bot_id, limit))
    return [
        {
            "seq": row.seq,
            "at": row.at,
            "action": row.data.get("action", row.type),
            "text": row.text,
            "data": row.data.get("data", {}),
            "epoch": row.epoch,
        }
        for row in rows
    ]


async def events(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Journal rows after a number, or the last ones."""
    limit, bot = number(args, "limit", 100), args.get("bot")
    since = args.get("since")
    if since is not None and (not isinstance(since, int) or isinstance(since, bool) or not 0 <= since < 2**63):
        raise StablehandError(f"since = {since!r}: a journal number, 0 or above", code=INVALID)

    def query(conn: Any) -> tuple[list[journal.JournalRow], int]:
        if since is None:
            return journal.last(conn, limit, bot=bot), journal.first_seq(conn)
        return journal.since(conn, since, limit=limit, bot=bot), journal.first_seq(conn)

    rows, first = await stable.read(query)
    return {
        "events": [
            {
                "seq": row.seq,
                "at": row.at,
                "type": row.type,
                "bot": row.bot,
                "text": row.text,
                "data": row.data,
                "cause_id": row.cause_id,
            }
            for row in rows
        ],
        "first": first,
        "last": stable.chronicle.last_seq,
    }


async def logs(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Where a bot's log is, and its last lines; with `output` those that its process wrote to stdout and stderr."""
    record = select(stable, {"bots": [args.get("bot")]})[0]
    path = log_path(stable.data_dir, record)
    raw = path.with_suffix(".out")
    lines = await asyncio.to_thread(_tail, raw if args.get("output") else path, number(args, "lines", 50, least=0))
    return {"path": str(path), "raw_path": str(raw), "lines": lines}


async def strategies(stable: Stable, args: dict[str, Any], cause: str) -> list[dict[str, Any]]:
    """All installed strategies and those that bots use, with their parameters."""
    used = sorted({one.config.strategy for one in stable.registry.by_name.values() if one.config})
    installed = await stable.launchers.catalogue([])
    own = (
        await stable.launchers.catalogue([name for name in used if ":" in name]) if any(":" in n for n in used) else {}
    )
    found = {**installed.get("strategies", {}), **own.get("strategies", {})}
    errors = {**installed.get("errors", {}), **own.get("errors", {})}
    rows = [{"id": name, **entry} for name, entry in sorted(found.items())]
    return rows + [{"id": name, "error": text} for name, text in sorted(errors.items())]


def number(args: dict[str, Any], key: str, default: int, *, least: int = 1) -> int:
    """A whole number of the arguments, from `least` to 10,000. Raises StablehandError."""
    value = args.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise StablehandError(f"{key} = {value!r}: a whole number from {least} to {_MOST}", code=INVALID)
    return value


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines else []
