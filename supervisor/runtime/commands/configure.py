"""add, update, remove: bots are changed in one transaction, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from protocol.errors import INVALID, REFUSED, StablehandError
from protocol.programconfig import ProgramConfig, Settings
from store import bots as bot_table
from supervisor.bots import check_netting, settings_of
from supervisor.config import Config
from supervisor.order import check_order
from supervisor.policy import events
from supervisor.policy.fleet import AT_REST
from supervisor.policy.states import Bot, State, Wanted
from supervisor.runtime import clock
from supervisor.runtime.catalog import (
    WITHOUT_RESTART,
    difference,
    effective,
    limits_of,
    unflatten,
    updated,
    without,
)
from supervisor.runtime.commands.positions import close_positions
from supervisor.runtime.commands.select import select
from supervisor.runtime.registry import Record, magic_of
from supervisor.runtime.stable import Stable


async def add(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Add bots and programs; those wanted running (the default) start."""
    entries = args.get("bots")
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        raise StablehandError("bots is a list of tables, each with at least name, market and strategy "
                              "(a program: name and command)", code=INVALID)  # fmt: skip
    async with stable.changing:
        stable.refuse_while_leaving()
        configs: list[Settings] = []
        for entry in entries:
            config = settings_of(entry, stable.config.bot_defaults, stable.config.accounts)
            if config.name in stable.registry.by_name or any(config.name == one.name for one in configs):
                raise StablehandError(f"a bot is called {config.name!r} already",
                                      hint="choose another name, or update that bot", code=INVALID)  # fmt: skip
            configs.append(config)
        check_together(stable.config, [*stable.everyone(), *configs])
        await check_strategies(stable, configs)

        def write(conn: Connection) -> list[int]:
            return [
                bot_table.insert_bot(conn, config.name, added=_written(entry), wanted=config.wanted)
                for config, entry in zip(configs, entries, strict=True)
            ]

        ids = await stable.commit(write)
        for bot_id, config, entry in zip(ids, configs, entries, strict=True):
            record = take_in(stable, bot_id, config, wanted=config.wanted, added=_written(entry))
            stable.chronicle.add("added", f"added: {_what(config)}", bot=config.name,
                                 bot_id=bot_id, cause_id=cause)  # fmt: skip
            want(stable, record, cause)
    return {"added": [config.name for config in configs]}


async def update(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Change settings. What ran is restarted, and nothing else; a declared bot keeps it as an override."""
    unset = _unset(args)
    async with stable.changing:
        stable.refuse_while_leaving()
        changes = _requested(stable, args)  # only now: who is removed by the change before this one is not there
        planned = [(record, *_changed(stable, record, settings, unset)) for record, settings in changes]
        names = [record.name for record, _, _ in planned]
        configs = [config for _, _, config in planned]
        check_together(stable.config, [*stable.everyone(without=names), *configs])
        await check_strategies(stable, configs)

        def write(conn: Connection) -> None:
            for record, said, _ in planned:
                if record.declared is not None:
                    bot_table.set_override(conn, record.bot_id, said)
                else:
                    bot_table.set_added(conn, record.bot_id, said)

        await stable.commit(write)
        answer = []
        for record, said, config in planned:
            changed = difference(record.settings, config)
            if record.declared is not None:
                record.override = said
            else:
                record.added = said
            restarted = reconfigure(stable, record, config, cause, changed) if changed else False
            text = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in changed.items()) or "nothing changed"
            stable.chronicle.add("updated", text, bot=record.name, bot_id=record.bot_id, cause_id=cause,
                                 data={"changed": changed})  # fmt: skip
            answer.append({"name": record.name, "changed": changed, "restarted": restarted})
    return {"updated": answer}


async def remove(stable: Stable, args: dict[str, Any], cause: str) -> dict[str, Any]:
    """Stop the bots, close their positions or say that they stay, and forget the names. Ids stay used."""
    positions = args.get("positions", "keep")
    if positions not in ("keep", "close"):
        raise StablehandError(f"unknown positions {positions!r}", hint="known: keep, close", code=INVALID)
    async with stable.changing:
        stable.refuse_while_leaving()
        chosen = select(stable, args)  # only now, as in `update`
        declared = [one.name for one in chosen if any(bot.name == one.name for bot in stable.config.everyone)]
        if declared:
            raise StablehandError(f"{', '.join(declared)}: declared in {stable.config.path.name}", code=REFUSED,
                                  hint="take it out of the file and reload, then remove it")  # fmt: skip
        check_order(stable.everyone(without=[one.name for one in chosen]), stable.config.groups)
        try:
            for record in chosen:
                record.removing = True  # nothing may start it from here on
                record.stops += 1
                stable.post(events.WantStopped(record.bot_id, cause_id=cause))
            return await _remove_at_rest(stable, chosen, positions, cause)
        finally:
            for record in chosen:
                record.removing = False
                if record.name in stable.registry.by_name:
                    want(stable, record, cause)  # it was not removed: what was wanted holds again
                    stable.memory.wanted(record)  # also on the disk, where a start may have come in between


async def _remove_at_rest(stable: Stable, chosen: list[Record], positions: str, cause: str) -> dict[str, Any]:
    await stable.settle()
    patience = max((record.settings.stop_timeout_seconds for record in chosen), default=0) + 10
    at_rest = await stable.wait_until(lambda: all(stable.state(one) in AT_REST for one in chosen), patience)
    if not at_rest:
        late = [one.name for one in chosen if stable.state(one) not in AT_REST]
        raise StablehandError(f"not stopped within {patience:g} s: {', '.join(late)}", code=REFUSED,
                              hint="nothing was removed")  # fmt: skip
    texts = {}
    for record in chosen:
        texts[record.name] = await _positions(stable, record, positions, cause)
    at = clock.wall()
    ids = [record.bot_id for record in chosen]

    def write(conn: Connection) -> None:
        bot_table.set_wanted(conn, ids, "stopped")
        for bot_id in ids:
            bot_table.remove(conn, bot_id, at)

    await stable.commit(write)
    for record in chosen:
        stable.chronicle.add("removed", f"removed; {texts[record.name]}", bot=record.name, bot_id=record.bot_id,
                             cause_id=cause)  # fmt: skip
        stable.fleet.remove(record.bot_id)
        stable.throttling.easing.forget(record.bot_id)
        stable.sampling.history.forget(record.bot_id)
        stable.registry.drop(record)
    stable.ordering.changed()
    stable.accounts.refresh_rosters()
    stable.wake_waiters()  # who waits for one of these waits for nothing
    return {"removed": [record.name for record in chosen], "positions": texts}


def check_together(config: Config, everyone: Sequence[Settings]) -> None:
    """That these fit the accounts, and each other. Raises InvalidInput."""
    check_netting(everyone, config.accounts)
    check_order(everyone, config.groups)


async def check_strategies(stable: Stable, configs: Sequence[Settings]) -> None:
    """Raise StablehandError for the first strategy or parameter that is wrong."""
    checked: set[str] = set()
    for config in configs:
        if isinstance(config, ProgramConfig):
            continue
        key = repr((config.strategy, sorted(config.params.items(), key=str)))
        if key in checked:
            continue
        checked.add(key)
        for problem in await stable.launchers.check(config):
            raise StablehandError(f"{config.name}: {problem.message}", code=INVALID)


def take_in(
    stable: Stable,
    bot_id: int,
    config: Settings,
    *,
    wanted: str,
    declared: dict[str, Any] | None = None,
    added: dict[str, Any] | None = None,
    override: dict[str, Any] | None = None,
    ceiling: int = 0,
) -> Record:
    """A bot or program becomes known to registry and fleet, at rest."""
    program = isinstance(config, ProgramConfig)
    record = Record(
        bot_id=bot_id,
        name=config.name,
        kind="program" if program else "bot",
        wanted=wanted,
        account="",
        declared=declared,
        added=added,
        override=override or {},
        epoch_ceiling=ceiling,
        magic=0 if program else magic_of(stable.installation, bot_id),
    )
    _give(stable, record, config)
    stable.registry.add(record)
    stable.fleet.add(
        Bot(
            bot_id=bot_id,
            name=config.name,
            kind="program" if program else "bot",
            limits=limits_of(config),
            priority=config.priority,
            wanted=Wanted(wanted),
            floor=ceiling,
        )
    )
    stable.ordering.changed()
    return record


def _give(stable: Stable, record: Record, config: Settings) -> None:
    if isinstance(config, ProgramConfig):
        record.program = config
        return
    record.config = config
    record.account = config.account
    stable.launchers.know(config.strategy)


def reconfigure(stable: Stable, record: Record, config: Settings, cause: str, changed: Mapping[str, list[Any]]) -> bool:
    """Let the new configuration take effect; whether the bot was restarted for it, which not every key needs."""
    _give(stable, record, config)
    stable.fleet.configure(record.bot_id, limits=limits_of(config), priority=config.priority)
    stable.ordering.changed()
    stable.accounts.refresh_rosters()
    if stable.state(record) in AT_REST or changed.keys() <= WITHOUT_RESTART:
        return False
    stable.post(events.Reconfigured(record.bot_id, cause_id=cause))
    return record.wanted != "stopped"


def want(stable: Stable, record: Record, cause: str) -> None:
    """Set off what is wanted of a bot that has just become known; where places are limited, it waits for one."""
    if stable.throttling.seats.on:
        stable.post(events.HostStop(record.bot_id, reason=stable.throttling.seats.reason))
    if record.wanted == "running":
        stable.post(events.WantRunning(record.bot_id, cause_id=cause))
    elif record.wanted == "paused":
        stable.post(events.WantPaused(record.bot_id, cause_id=cause))


def _requested(stable: Stable, args: dict[str, Any]) -> list[tuple[Record, dict[str, Any]]]:
    updates = args.get("updates")
    if updates is None:
        settings = args.get("set", {})
        if not isinstance(settings, dict) or not (settings or args.get("unset")):
            raise StablehandError("nothing to set", hint="give key=value", code=INVALID)
        entry = unflatten(settings)
        return [(record, entry) for record in select(stable, args)]
    if not isinstance(updates, list) or not all(
        isinstance(one, dict) and isinstance(one.get("set"), dict) for one in updates
    ):
        raise StablehandError("updates is a list of {name, set}", code=INVALID)
    names = [one.get("name") for one in updates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StablehandError(f"{twice!r} is there twice", hint="put its settings into one table", code=INVALID)
    return [(stable.registry.named(str(one.get("name"))), unflatten(one["set"])) for one in updates]


def _unset(args: dict[str, Any]) -> list[str]:
    unset = args.get("unset", [])
    if not isinstance(unset, list) or not all(isinstance(key, str) for key in unset):
        raise StablehandError("unset is a list of keys", code=INVALID)
    return unset


def _changed(
    stable: Stable, record: Record, settings: Mapping[str, Any], unset: list[str]
) -> tuple[dict[str, Any], Settings]:
    """(the new override of a declared bot, or the new entry of an added one; the bot as it will run)."""
    below = without(record.override if record.declared is not None else record.added or {}, unset, record.name)
    said = updated(below, settings, record.config.strategy if record.config else "")
    base, override = (record.declared, said) if record.declared is not None else (said, {})
    config = effective(record.name, base, override, stable.config.bot_defaults, stable.config.accounts)
    if isinstance(config, ProgramConfig) or record.config is None:
        if record.program is None or not isinstance(config, ProgramConfig):
            raise StablehandError(f"{record.name}: a bot cannot become a program, nor a program a bot", code=INVALID)
        return said, config
    moved = (config.account, config.market) != (record.config.account, record.config.market)
    if moved and record.figures is not None and record.figures.volume:
        raise StablehandError(f"{record.name} has an open position on {record.config.market}", code=REFUSED,
                              hint="close it before the bot moves to another market or account")  # fmt: skip
    return said, config


async def _positions(stable: Stable, record: Record, positions: str, cause: str) -> str:
    if record.program is not None:
        return "a program has no positions"
    mine = await stable.accounts.query(record.account, "positions", {"magic": record.magic}, cause)
    mine = [one for one in mine or [] if one.get("magic") == record.magic]
    if not mine:
        return "no open position"
    if positions == "keep":
        kept = ", ".join(f"{one['volume']} {one['symbol']} #{one['ticket']}" for one in mine)
        return f"position kept open: {kept}"
    if stable.state(record) is State.FAILED:
        stable.accounts.fence(record, stable.bot(record).epoch, False, cause)
    flat, text = await close_positions(stable, record, cause)
    if not flat:
        raise StablehandError(f"{record.name}: {text}", hint="nothing was removed; try again when the market is open",
                              code=REFUSED)  # fmt: skip
    return text


def _what(config: Settings) -> str:
    if isinstance(config, ProgramConfig):
        return f"program {config.command[0]}"
    return f"{config.strategy} on {config.market}"


def _written(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("name", "wanted")}
