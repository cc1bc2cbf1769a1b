"""The paper terminal's first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _order_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("ticket", BigInt, nullable=False),
        sa.Column("time_setup", BigInt, nullable=False),
        sa.Column("time_setup_msc", BigInt, nullable=False),
        sa.Column("time_done", BigInt, nullable=False),
        sa.Column("time_done_msc", BigInt, nullable=False),
        sa.Column("time_expiration", BigInt, nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("type_time", sa.Integer(), nullable=False),
        sa.Column("type_filling", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("magic", BigInt, nullable=False),
        sa.Column("position_id", BigInt, nullable=False),
        sa.Column("position_by_id", BigInt, nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("volume_initial", sa.Float(), nullable=False),
        sa.Column("volume_current", sa.Float(), nullable=False),
        sa.Column("price_open", sa.Float(), nullable=False),
        sa.Column("sl", sa.Float(), nullable=False),
        sa.Column("tp", sa.Float(), nullable=False),
        sa.Column("price_current", sa.Float(), nullable=False),
        sa.Column("price_stoplimit", sa.Float(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "paper_account",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("made_with", sa.JSON(), nullable=False),
        sa.Column("balance", sa.Float(), nullable=False),
        sa.Column("now", BigInt, nullable=False),
        sa.Column("next_order", BigInt, nullable=False),
        sa.Column("next_deal", BigInt, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_paper_account"),
    )
    op.create_table(
        "paper_positions",
        sa.Column("ticket", BigInt, nullable=False),
        sa.Column("identifier", BigInt, nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("price_open", sa.Float(), nullable=False),
        sa.Column("sl", sa.Float(), nullable=False),
        sa.Column("tp", sa.Float(), nullable=False),
        sa.Column("swap", sa.Float(), nullable=False),
        sa.Column("time_msc", BigInt, nullable=False),
        sa.Column("time_update_msc", BigInt, nullable=False),
        sa.Column("magic", BigInt, nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ticket", name="pk_paper_positions"),
    )
    op.create_table(
        "paper_deals",
        sa.Column("ticket", BigInt, nullable=False),
        sa.Column("order", BigInt, nullable=False),
        sa.Column("time", BigInt, nullable=False),
        sa.Column("time_msc", BigInt, nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("magic", BigInt, nullable=False),
        sa.Column("position_id", BigInt, nullable=False),
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
        sa.PrimaryKeyConstraint("ticket", name="pk_paper_deals"),
    )
    op.create_table(
        "paper_orders",
        *_order_columns(),
        sa.Column("done", BigInt, nullable=False),
        sa.PrimaryKeyConstraint("ticket", name="pk_paper_orders"),
        sa.UniqueConstraint("done", name="uq_paper_orders_done"),
    )
    op.create_table(
        "paper_pending",
        *_order_columns(),
        sa.PrimaryKeyConstraint("ticket", name="pk_paper_pending"),
    )
    op.create_table(
        "paper_chunks",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("chunk", BigInt, nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "chunk", name="pk_paper_chunks"),
    )
