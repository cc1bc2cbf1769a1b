"""Who lives in this stable: the file's bots and accounts merged with what the store remembers."""

from __future__ import annotations

from sqlalchemy import Connection

from protocol.errors import InvalidInput
from protocol.programconfig import Settings
from store import bots as bot_table
from store.bots import BotRow
from supervisor.config import Config
from supervisor.errors import ConfigError
from supervisor.policy.states import Bot, Limits, Wanted
from supervisor.runtime.catalog import effective, overridden
from supervisor.runtime.commands.configure import check_together, take_in
from supervisor.runtime.commands.reload import declared_entries
from supervisor.runtime.registry import Record
from supervisor.runtime.stable import Stable

_GATEWAY_LIMITS = Limits(restart="permanent", intensity=5, period=60.0, backoff_initial=0.2, backoff_max=5.0,
                         stable_after=10.0, start_timeout=60.0, stop_timeout=10.0)  # fmt: skip


def merge_file(conn: Connection, config: Config) -> None:
    """Make the store know the file's bots and accounts. What an operator wanted stays as it is."""
    known = {(row.kind, row.name): row for row in bot_table.load_all(conn)}
    entries = declared_entries(config)
    for bot in config.everyone:
        row = known.get(("bot", bot.name))
        if row is None:
            bot_table.insert_bot(conn, bot.name, declared=entries[bot.name], wanted=bot.wanted)
        elif row.declared != entries[bot.name]:
            bot_table.set_declared(conn, row.id, entries[bot.name])
            bot_table.set_added(conn, row.id, None)
    for (kind, name), row in known.items():
        if kind == "bot" and row.declared is not None and name not in entries:
            # Taken out of the file while no supervisor ran: it stays as it was, until it is removed by name.
            bot_table.set_added(conn, row.id, overridden(row.declared, row.override))
            bot_table.set_declared(conn, row.id, None)
            bot_table.set_override(conn, row.id, {})
    for name in config.accounts:
        if ("gateway", name) not in known:
            bot_table.insert_bot(conn, name, kind="gateway", wanted="running")


def check_kept(config: Config, rows: list[BotRow]) -> None:
    """The file's bots and those of the store must fit the accounts, and each other. Raises ConfigError."""
    bots = []
    for row in rows:
        if row.kind != "bot":
            continue
        try:
            bots.append(_effective(config, row))
        except InvalidInput as error:
            kept = "changed by update" if row.declared is not None else "kept in the store"
            raise ConfigError(f"{config.path}: bot {row.name!r}, {kept}: {error.message}", hint=error.hint) from None
    try:
        check_together(config, bots)
    except InvalidInput as error:
        raise ConfigError(f"{config.path}: {error.message}", hint=error.hint) from None


def _effective(config: Config, row: BotRow) -> Settings:
    base = row.declared if row.declared is not None else row.added or {}
    return effective(row.name, base, row.override, config.bot_defaults, config.accounts)


def take_in_all(stable: Stable, rows: list[BotRow]) -> None:
    """Everybody becomes known to registry and fleet, at rest."""
    for row in rows:
        if row.kind == "gateway":
            if row.name in stable.config.accounts:
                _take_in_gateway(stable, row)
            continue
        config = _effective(stable.config, row)
        take_in(stable, row.id, config, wanted=row.wanted, declared=row.declared, added=row.added,
                override=row.override, ceiling=row.last_epoch)  # fmt: skip


def _take_in_gateway(stable: Stable, row: BotRow) -> None:
    stable.registry.add(
        Record(
            bot_id=row.id,
            name=f"gateway:{row.name}",
            kind="gateway",
            wanted="running",
            account=row.name,
            account_config=stable.config.accounts[row.name],
            epoch_ceiling=row.last_epoch,
        )
    )
    stable.fleet.add(
        Bot(
            bot_id=row.id,
            name=f"gateway:{row.name}",
            kind="gateway",
            limits=_GATEWAY_LIMITS,
            priority=10,
            wanted=Wanted.RUNNING,
            floor=row.last_epoch,
        )
    )
