"""Copies of SQLite databases: made while others write, checked, and damaged ones kept aside.

Only for files: a PostgreSQL has tools of its own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, text, update
from sqlalchemy.engine import Connection

from store.errors import StoreError, store_error
from store.tables import bots

_BUSY_SECONDS: Final = 10.0
#: What belongs to a database beside its file.
_BESIDE: Final = ("-wal", "-shm")
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Larger files are only opened, not read through: a start must not take a minute.
_READ_THROUGH: Final = 256 * 1024 * 1024


def copy_database(source: Path, target: Path) -> None:
    """Copy one consistent state of a database that others may be writing to. Raises StoreError.

    SQLite's backup of all pages in one step, under one read transaction: what was committed before it is there
    whole, what was committed after it is not there at all. `target` is a single file, made private.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with contextlib.closing(_connect(source)) as original, contextlib.closing(_connect(target)) as copy:
            original.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")  # all in the one file, until it is opened for work
        _sync(target)
    except (sqlite3.Error, OSError) as error:
        target.unlink(missing_ok=True)
        raise store_error(str(source), error) from error


def damage(path: Path) -> str:
    """What is wrong with a database that nobody has open; empty when it is whole, or is not there."""
    if not path.exists():
        return ""
    if path.stat().st_size == 0:
        return "the file is empty"
    try:
        with contextlib.closing(_connect(path)) as connection:
            if path.stat().st_size > _READ_THROUGH:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return ""
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        # Locked, full, read-only: the file itself is not at fault, and whoever opens it says so.
        return str(error) if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED else ""
    return "" if found == "ok" else str(found).partition("\n")[0]


def keep_aside(path: Path, suffix: str) -> Path:
    """Rename a database with what belongs to it; its new name. Raises StoreError."""
    aside = path.with_name(path.name + suffix)
    try:
        for beside in _BESIDE:
            part = path.with_name(path.name + beside)
            if part.exists():
                part.rename(aside.with_name(aside.name + beside))
        path.rename(aside)
    except OSError as error:
        raise store_error(str(path), error) from error
    return aside


def put_back(copy: Path, target: Path) -> None:
    """Put a copy in the place of a database that nobody has open, whole or not at all. Raises StoreError."""
    partial = target.with_name(target.name + ".new")
    partial.unlink(missing_ok=True)
    copy_database(copy, partial)
    try:
        for beside in _BESIDE:  # of the old file: it would be played into the new one
            target.with_name(target.name + beside).unlink(missing_ok=True)
        partial.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise store_error(str(target), error) from error


def raise_epochs(conn: Connection, at_least: dict[int, int], gap: int) -> None:
    """Reserve every bot's epochs `gap` beyond what this store and `at_least` know: no run of before comes again."""
    rows = [(row.id, row.last_epoch) for row in conn.execute(bots.select())]
    if rows:
        raised = update(bots).where(bots.c.id == bindparam("which")).values(last_epoch=bindparam("ceiling"))
        conn.execute(raised, [{"which": number, "ceiling": max(epoch, at_least.get(number, 0)) + gap}
                              for number, epoch in rows])  # fmt: skip


def raise_numbers(conn: Connection, table: str, least: int) -> None:
    """The next AUTOINCREMENT number of a table lies above `least`, and never below where it stands."""
    values = {"table": table, "least": least}
    stands = conn.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), values).first()
    if stands is None:
        conn.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :least)"), values)
    else:
        conn.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :least) WHERE name = :table"), values)


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(f"store {path}: there is no such file")
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        if not path.is_dir():  # Windows cannot do it for folders
            raise
    finally:
        os.close(fd)
