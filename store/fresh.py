"""The tables of a database that has none yet: made from their declarations, without a migration and its Alembic."""

from __future__ import annotations

import importlib
from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect

from store.migrations.heads import HEADS
from store.tables import Which, belongs, metadata

_LONGEST: Final = 32  # characters of a version; this and the names are those of Alembic's own table


def is_empty(connection: Connection, which: Which, version_table: str) -> bool:
    """Whether neither a table of this database nor its version is there. Others' tables do not count."""
    there = set(inspect(connection).get_table_names())
    return version_table not in there and not there & {table.name for table in _tables(which)}


def create(connection: Connection, which: Which, version_table: str) -> None:
    """Make all tables, and say that they are of the newest revision, in the transaction that is under way.

    A test holds what this makes to what the migrations make.
    """
    metadata.create_all(connection, tables=_tables(which), checkfirst=False)
    version = Table(
        version_table,
        MetaData(),
        Column("version_num", String(_LONGEST), nullable=False),
        PrimaryKeyConstraint("version_num", name=f"{version_table}_pkc"),
    )
    version.create(connection)
    connection.execute(version.insert().values(version_num=HEADS[which]))


def _tables(which: Which) -> list[Table]:
    if which == "paper":
        importlib.import_module("store.paper")  # its tables join the common metadata when it is imported
    return [table for table in metadata.sorted_tables if belongs(table, which)]
