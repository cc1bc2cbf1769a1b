"""Ledger: fences, order intents and results, deals, halts."""

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
        "fences",
        sa.Column("bot_id", BIG, autoincrement=False, nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("magic", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("bot_id", name="pk_fences"),
    )
    op.create_table(
        "ledger_deals",
        sa.Column("ticket", BIG, autoincrement=False, nullable=False),
        sa.Column("order", BIG, nullable=False),
        sa.Column("time", BIG, nullable=False),
        sa.Column("time_msc", BIG, nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("magic", BIG, nullable=False),
        sa.Column("position_id", BIG, nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("price", sa.Float(), nullable=False),
        sa.Column("commission", sa.Float(), nullable=False),
        sa.Column("swap", sa.Float(), nullable=False),
        sa.Column("profit", sa.Float(), nullable=False),
        sa.Column("fee", sa.Float(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("bot_id", BIG),
        sa.PrimaryKeyConstraint("ticket", name="pk_ledger_deals"),
    )
    op.create_index("ix_ledger_deals_magic", "ledger_deals", ["magic"], unique=False)
    op.create_table(
        "ledger_halts",
        sa.Column("id", BIG, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("lifted_at", sa.Float()),
        sa.Column("lifted_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_halts"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "order_intents",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bot_id", BIG, nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("payload_hash", sa.Text(), nullable=False),
        sa.Column("before_order", BIG, nullable=False),
        sa.Column("before_deal", BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_intents"),
    )
    op.create_index("ix_order_intents_bot_id_decision", "order_intents", ["bot_id", "decision"], unique=False)
    op.create_table(
        "order_results",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("retcode", sa.Integer(), nullable=False),
        sa.Column("deal", BIG, nullable=False),
        sa.Column("order", BIG, nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("price", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_results"),
    )


def downgrade() -> None:
    op.drop_table("order_results")
    op.drop_table("order_intents")
    op.drop_table("meta")
    op.drop_table("ledger_halts")
    op.drop_table("ledger_deals")
    op.drop_table("fences")
