"""Supervisor: bots, runs, journal, equity, halts, leases, client keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

#: 64 bits; the plain word INTEGER in SQLite.
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "bots",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("declared", sa.JSON()),
        sa.Column("added", sa.JSON()),
        sa.Column("override", sa.JSON(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("last_epoch", BIG, nullable=False),
        sa.Column("removed_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_bots"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_bots_kind_name",
        "bots",
        ["kind", "name"],
        unique=True,
        sqlite_where=sa.text("removed_at IS NULL"),
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "client_keys",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_client_keys"),
        sa.UniqueConstraint("public_key", name="uq_client_keys_public_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "equity",
        sa.Column("id", BIG, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("balance", sa.Float(), nullable=False),
        sa.Column("equity", sa.Float(), nullable=False),
        sa.Column("margin", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_equity"),
    )
    op.create_index("ix_equity_account_at", "equity", ["account", "at"], unique=False)
    op.create_table(
        "halts",
        sa.Column("id", BIG, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("lifted_at", sa.Float()),
        sa.Column("lifted_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_halts"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "journal",
        sa.Column("seq", BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("bot", sa.Text()),
        sa.Column("bot_id", BIG),
        sa.Column("epoch", BIG),
        sa.Column("run_seq", BIG),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("cause_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_journal"),
        sa.UniqueConstraint("bot_id", "epoch", "run_seq", name="uq_journal_bot_id_epoch_run_seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_bot_id_type_seq", "journal", ["bot_id", "type", "seq"], unique=False)
    op.create_index("ix_journal_bot_seq", "journal", ["bot", "seq"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "runs",
        sa.Column("id", BIG, nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("bot_id", BIG, nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("intended_at", sa.Float(), nullable=False),
        sa.Column("public_key", sa.Text()),
        sa.Column("pid", BIG),
        sa.Column("boot_id", sa.Text()),
        sa.Column("start_ticks", BIG),
        sa.Column("launcher", sa.Text()),
        sa.Column("code_hash", sa.Text()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("status", sa.Integer()),
        sa.Column("cause", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_runs_bot_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("bot_id", "epoch", name="uq_runs_bot_id_epoch"),
        sa.UniqueConstraint("token", name="uq_runs_token"),
    )
    op.create_table(
        "samples",
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("host", sa.JSON(), nullable=False),
        sa.Column("bots", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("at", name="pk_samples"),
    )
    op.create_index(
        "ix_runs_open",
        "runs",
        ["bot_id"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("samples")
    op.drop_table("runs")
    op.drop_table("meta")
    op.drop_table("leases")
    op.drop_table("journal")
    op.drop_table("halts")
    op.drop_table("equity")
    op.drop_table("client_keys")
    op.drop_table("bots")
