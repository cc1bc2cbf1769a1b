"""Which bots a command means: names, all, or where key=value."""

from __future__ import annotations

from typing import Any

from protocol.errors import INVALID, StablehandError, nearest
from supervisor.runtime.registry import Record
from supervisor.runtime.stable import Stable

_KEYS = ("name", "account", "market", "timeframe", "strategy", "priority", "restart", "group", "state", "wanted")


def select(stable: Stable, args: dict[str, Any]) -> list[Record]:
    """The bots of `{bots: [..]} | {all: true} | {where: {k: v}}`, in the order of names.

    Raises StablehandError for an unknown name (nothing is done then) or when nothing is named.
    """
    names, where = args.get("bots"), args.get("where")
    if args.get("all"):
        return list(stable.registry.bots())
    if where is not None:
        if not isinstance(where, dict) or not where:
            raise StablehandError("where is a map of key and value", code=INVALID)
        for key in where:
            if key not in _KEYS:
                near = nearest(str(key), list(_KEYS))
                hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_KEYS)}"
                raise StablehandError(f"bots have no {key!r} to select by", hint=hint, code=INVALID)
        return [
            one for one in stable.registry.bots() if all(_value(stable, one, k) == str(v) for k, v in where.items())
        ]
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not names:
        raise StablehandError("no bot is named", hint="name bots, or use --all or --where key=value", code=INVALID)
    return list({str(name): stable.registry.named(str(name)) for name in names}.values())


def _value(stable: Stable, record: Record, key: str) -> str:
    if key == "state":
        return str(stable.state(record).value)
    if key == "wanted":
        return record.wanted
    if key == "strategy" and record.program is not None:
        return "program"
    return str(getattr(record.settings, key, ""))
