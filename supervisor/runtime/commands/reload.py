"""reload: read the file again, show what differs, and apply it when asked. It starts or stops no known bot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from protocol.errors import StablehandError
from protocol.programconfig import Settings, is_program
from store import bots as bot_table
from supervisor.config import Config, load
from supervisor.runtime.catalog import FileDifference, difference, effective, overridden
from supervisor.runtime.checking import check_bots, check_calendars
from supervisor.runtime.commands.configure import check_strategies, check_together, reconfigure, take_in, want
from supervisor.runtime.registry import Record
from supervisor.runtime.stable import Stable


async def reload(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """`{apply: bool}`: the difference, and whether it was applied. A wrong file changes nothing."""
    async with stable.changing:
        stable.refuse_while_leaving()
        config = await asyncio.to_thread(load, stable.config.path)
        _refuse_other_accounts(stable, config)
        planned = _planned(stable, config)
        difference_ = _compare(stable, config, planned)
        check_together(config, _in_order(stable, planned))
        await asyncio.to_thread(check_calendars, config)
        await check_bots(config, stable.launchers)
        await check_strategies(stable, _laid_over_the_file(stable, planned, difference_))
        if not args.get("apply") or (difference_.empty and config == stable.config):
            return difference_.as_dict(applied=False)
        await _apply(stable, config, planned, difference_, cause)
        return difference_.as_dict(applied=True)


async def check_successor(stable: Stable) -> None:
    """See that a supervisor that begins with the file as it is now takes all that is known here: those that the file
    does not have, and what `update` changed. Raises StablehandError with its complaint."""
    config = await asyncio.to_thread(load, stable.config.path)
    check_together(config, _in_order(stable, _planned(stable, config)))


def declared_entries(config: Config) -> dict[str, dict[str, Any]]:
    """What the file says of each bot, without name and first wish."""
    return {
        str(entry["name"]): {key: value for key, value in entry.items() if key not in ("name", "wanted")}
        for entry in config.declared
    }


def _in_order(stable: Stable, planned: dict[str, Settings]) -> list[Settings]:
    """Those that are known already first, as their ids have it."""
    known = [planned.get(one.name, one) for one in stable.everyone()]
    return [*known, *(one for name, one in planned.items() if name not in stable.registry.by_name)]


def _planned(stable: Stable, config: Config) -> dict[str, Settings]:
    planned: dict[str, Settings] = {}
    for name, entry in declared_entries(config).items():
        record = stable.registry.by_name.get(name)
        if record is not None and is_program(entry) != (record.kind == "program"):
            raise config.error(config.place_of(name), f"{name} is a {record.kind} already",
                               hint="give the new one another name, or remove that one first")  # fmt: skip
        override = record.override if record is not None and record.declared is not None else {}
        planned[name] = effective(name, entry, override, config.bot_defaults, config.accounts)
    for record in stable.registry.by_name.values():  # a changed default changes added bots too
        if record.name not in planned:
            base = record.declared if record.declared is not None else record.added or {}
            planned[record.name] = effective(record.name, base, record.override, config.bot_defaults, config.accounts)
    return planned


def _laid_over_the_file(stable: Stable, planned: dict[str, Settings], changes: FileDifference) -> list[Settings]:
    """Those of the changed bots that are not as the file has them: the file itself is checked with its lines."""
    records = stable.registry.by_name
    return [planned[name] for name in changes.changed if records[name].override or records[name].declared is None]


def _compare(stable: Stable, config: Config, planned: dict[str, Settings]) -> FileDifference:
    entries = declared_entries(config)
    known = stable.registry.by_name
    changed = {}
    for name, after in planned.items():
        record = known.get(name)
        if record is not None:
            changes = {**_in_file(stable, record, config, entries), **difference(record.settings, after)}
            if changes:
                changed[name] = changes
    old, new = stable.config.supervisor.model_dump(), config.supervisor.model_dump()
    return FileDifference(
        added={name: entry for name, entry in entries.items() if name not in known},
        removed=tuple(
            sorted(one.name for one in known.values() if one.declared is not None and one.name not in entries)
        ),
        changed=changed,
        overrides={one.name: one.override for one in known.values() if one.override},
        supervisor={key: [old[key], new[key]] for key in new if old[key] != new[key]},
        defaults=_pairs(stable.config.bot_defaults, config.bot_defaults),
        groups=_pairs(_groups(stable.config), _groups(config)),
    )


def _groups(config: Config) -> dict[str, Any]:
    return {name: group.model_dump(exclude_defaults=True) for name, group in config.groups.items()}


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """`{key: [old, new]}` of what differs; None for what is not said."""
    return {key: [old.get(key), new.get(key)] for key in {**old, **new} if old.get(key) != new.get(key)}


def _in_file(
    stable: Stable, record: Record, config: Config, entries: dict[str, dict[str, Any]]
) -> dict[str, list[Any]]:
    """What the file changes in a declared bot, also where an override hides it."""
    if record.declared is None or record.name not in entries or not record.override:
        return {}
    old, new = stable.config, config
    before = effective(record.name, record.declared, {}, old.bot_defaults, old.accounts)
    return difference(before, effective(record.name, entries[record.name], {}, new.bot_defaults, new.accounts))


async def _apply(
    stable: Stable, config: Config, planned: dict[str, Settings], changes: FileDifference, cause: str
) -> None:
    entries = declared_entries(config)
    records = stable.registry.by_name

    def write(conn: Connection) -> dict[str, int]:
        for name, entry in entries.items():
            if name in records:
                bot_table.set_declared(conn, records[name].bot_id, entry)
                bot_table.set_added(conn, records[name].bot_id, None)
        for name in changes.removed:
            # No longer in the file: it stays as it is, as a bot of its own, until it is removed by name.
            bot_table.set_declared(conn, records[name].bot_id, None)
            bot_table.set_added(conn, records[name].bot_id, _alone(records[name]))
            bot_table.set_override(conn, records[name].bot_id, {})
        return {
            name: bot_table.insert_bot(conn, name, declared=entries[name], wanted=planned[name].wanted)
            for name in changes.added
        }

    ids = await stable.commit(write)
    stable.config = config
    stable.ordering.changed()
    for name, entry in entries.items():
        if name in records:
            records[name].declared, records[name].added = entry, None
    for name in changes.removed:
        record = records[name]
        record.declared, record.added, record.override = None, _alone(record), {}
        stable.chronicle.add("info", "no longer in the file; it goes on until it is removed by name", bot=name,
                             bot_id=record.bot_id, cause_id=cause)  # fmt: skip
    for name in changes.changed:
        changed = difference(records[name].settings, planned[name])
        if changed:
            reconfigure(stable, records[name], planned[name], cause, changed)
    for name, bot_id in ids.items():
        record = take_in(stable, bot_id, planned[name], wanted=planned[name].wanted, declared=entries[name])
        want(stable, record, cause)
    stable.accounts.refresh_rosters()
    stable.chronicle.add("reloaded", f"{config.path.name}: {len(changes.added)} added, {len(changes.changed)} changed, "
                         f"{len(changes.removed)} no longer declared", cause_id=cause)  # fmt: skip


def _alone(record: Record) -> dict[str, Any]:
    """What a declared bot is without its place in the file."""
    return overridden(record.declared or {}, record.override)


def _refuse_other_accounts(stable: Stable, config: Config) -> None:
    if config.accounts != stable.config.accounts:
        raise StablehandError(
            "accounts changed in the file",
            code="refused",
            hint="accounts take effect when the supervisor starts: stablehand down, then up",
        )
