"""All tables, on one MetaData. `info["in"]` says in which databases a table lives.

Times are seconds since 1970 in UTC (float); money is in the account's currency. Ids of bots and numbers of
the journal are AUTOINCREMENT: a number once given is never given again, whatever is removed.
"""

from __future__ import annotations

from typing import Final, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

Which = Literal["supervisor", "ledger", "paper"]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: 64 bits everywhere; in SQLite the plain word INTEGER is needed for AUTOINCREMENT.
BigInt: Final = BigInteger().with_variant(Integer(), "sqlite")
#: JSON whose None is SQL's NULL.
Json: Final = JSON(none_as_null=True)

SUPERVISOR: Final = {"in": ("supervisor",)}
LEDGER: Final = {"in": ("ledger",)}
PAPER: Final = {"in": ("paper",)}


def belongs(table: Table, which: Which) -> bool:
    """Whether the table lives in that database."""
    return which in table.info.get("in", ())


meta: Final = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info={"in": ("supervisor", "ledger")},
)

# --- supervisor ---------------------------------------------------------------------------------------

bots: Final = Table(
    "bots",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("kind", Text, nullable=False),  # bot | gateway
    Column("name", Text, nullable=False),
    Column("declared", Json),  # as it stands in the file
    Column("added", Json),  # as it was added at run time
    Column("override", Json, nullable=False),  # what `update` set on top of the file
    Column("wanted", Text, nullable=False),
    Column("last_epoch", BigInt, nullable=False),  # reserved up to here
    Column("removed_at", Float),
    info=SUPERVISOR,
    sqlite_autoincrement=True,
)
# A name is free again once its bot is removed; the id and its last epoch stay behind.
Index(
    "ix_bots_kind_name",
    bots.c.kind,
    bots.c.name,
    unique=True,
    sqlite_where=bots.c.removed_at.is_(None),
    postgresql_where=bots.c.removed_at.is_(None),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    Column("bot_id", BigInt, ForeignKey("bots.id"), nullable=False),
    Column("epoch", BigInt, nullable=False),
    Column("intended_at", Float, nullable=False),
    Column("public_key", Text),  # of the run's own CURVE pair, where the transport is tcp; never the secret
    Column("pid", BigInt),
    Column("boot_id", Text),
    Column("start_ticks", BigInt),
    Column("launcher", Text),
    Column("code_hash", Text),
    Column("ended_at", Float),
    Column("status", Integer),  # as waitpid gives it; -1: unknown
    Column("cause", Text),
    Column("reason", Text),
    UniqueConstraint("bot_id", "epoch"),
    info=SUPERVISOR,
)
Index(
    "ix_runs_open",
    runs.c.bot_id,
    sqlite_where=runs.c.ended_at.is_(None),
    postgresql_where=runs.c.ended_at.is_(None),
)

journal: Final = Table(
    "journal",
    metadata,
    Column("seq", BigInt, primary_key=True),
    Column("at", Float, nullable=False),
    Column("type", Text, nullable=False),
    Column("bot", Text),
    Column("bot_id", BigInt),
    Column("epoch", BigInt),  # history: the run that did it, and its own count
    Column("run_seq", BigInt),
    Column("text", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("cause_id", Text, nullable=False),
    # A bot repeats what was not acknowledged; NULLs are distinct, so other rows are not touched by this.
    UniqueConstraint("bot_id", "epoch", "run_seq"),
    info=SUPERVISOR,
    sqlite_autoincrement=True,
)
Index("ix_journal_bot_seq", journal.c.bot, journal.c.seq)
Index("ix_journal_bot_id_type_seq", journal.c.bot_id, journal.c.type, journal.c.seq)

#: One row a minute: means of the machine, and of each bot `{id: [cpu percent, rss bytes, uss bytes]}`, packed.
samples: Final = Table(
    "samples",
    metadata,
    Column("at", Float, primary_key=True),
    Column("host", Json, nullable=False),
    Column("bots", LargeBinary, nullable=False),
    info=SUPERVISOR,
)

equity: Final = Table(
    "equity",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("account", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("balance", Float, nullable=False),
    Column("equity", Float, nullable=False),
    Column("margin", Float, nullable=False),
    info=SUPERVISOR,
)
Index("ix_equity_account_at", equity.c.account, equity.c.at)

halts: Final = Table(
    "halts",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("scope", Text, nullable=False),  # "all", "account:NAME", "bot:NAME", "symbol:NAME"
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("lifted_at", Float),
    Column("lifted_by", Text),
    info=SUPERVISOR,
    sqlite_autoincrement=True,
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("term", BigInt, nullable=False),  # rises with every new holder
    Column("until", Float, nullable=False),
    info=SUPERVISOR,
)

#: Who may speak to the supervisor over the network. Public keys only; a revoked one stays on record.
client_keys: Final = Table(
    "client_keys",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),  # viewer | operator
    Column("public_key", Text, nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    info=SUPERVISOR,
    sqlite_autoincrement=True,
)

# --- ledger -------------------------------------------------------------------------------------------

fences: Final = Table(
    "fences",
    metadata,
    Column("bot_id", BigInt, primary_key=True, autoincrement=False),
    Column("epoch", BigInt, nullable=False),
    Column("alive", Boolean, nullable=False),
    Column("magic", BigInt, nullable=False),
    Column("name", Text, nullable=False),
    info=LEDGER,
)

order_intents: Final = Table(
    "order_intents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bot_id", BigInt, nullable=False),
    Column("epoch", BigInt, nullable=False),
    Column("seq", BigInt, nullable=False),
    Column("decision", Text, nullable=False),
    Column("action", Text, nullable=False),  # open | close | modify
    Column("payload", Json, nullable=False),
    Column("payload_hash", Text, nullable=False),
    Column("before_order", BigInt, nullable=False),  # newest tickets seen before the send
    Column("before_deal", BigInt, nullable=False),
    Column("at", Float, nullable=False),
    info=LEDGER,
)
Index("ix_order_intents_bot_id_decision", order_intents.c.bot_id, order_intents.c.decision)

#: A row here without an intent is a tombstone: an id that was asked for before it came, refused for ever.
order_results: Final = Table(
    "order_results",
    metadata,
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),  # done | refused | unknown
    Column("retcode", Integer, nullable=False),
    Column("deal", BigInt, nullable=False),
    Column("order", BigInt, nullable=False),
    Column("volume", Float, nullable=False),
    Column("price", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    info=LEDGER,
)

#: MetaTrader's own field names; `bot_id` NULL: unattributed (deposits, manual trades).
ledger_deals: Final = Table(
    "ledger_deals",
    metadata,
    Column("ticket", BigInt, primary_key=True, autoincrement=False),
    Column("order", BigInt, nullable=False),
    Column("time", BigInt, nullable=False),
    Column("time_msc", BigInt, nullable=False),
    Column("type", Integer, nullable=False),
    Column("entry", Integer, nullable=False),
    Column("magic", BigInt, nullable=False),
    Column("position_id", BigInt, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("volume", Float, nullable=False),
    Column("price", Float, nullable=False),
    Column("commission", Float, nullable=False),
    Column("swap", Float, nullable=False),
    Column("profit", Float, nullable=False),
    Column("fee", Float, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("bot_id", BigInt),
    info=LEDGER,
)
Index("ix_ledger_deals_magic", ledger_deals.c.magic)

ledger_halts: Final = Table(
    "ledger_halts",
    metadata,
    Column("id", BigInt, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("lifted_at", Float),
    Column("lifted_by", Text),
    info=LEDGER,
    sqlite_autoincrement=True,
)
