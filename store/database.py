"""One database: opened, private, current, with short transactions.

SQLite (WAL) by path, or anything that SQLAlchemy knows by URL. All that only SQLite understands stands here.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from store.errors import StoreError, store_error
from store.fresh import create, is_empty
from store.kept import WRITE, Kept, drive
from store.migrations.heads import HEADS
from store.room import make_room
from store.tables import Which

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]
BUSY_TIMEOUT: Final = 2.0  # seconds to wait for another process's lock
_READ: Final = {"stablehand_read": True}


class Database:
    """A database that is open and current. Safe to share between threads; a transaction belongs to one."""

    def __init__(self, engine: Engine, name: str, which: Which, *, keep: bool = False) -> None:
        self.engine = engine
        self.name = name  # as shown to people: the path, or the URL without its password
        self.which: Which = which
        # Taking a connection from the pool and giving it back costs more than an empty transaction of SQLite's:
        # who writes with every order keeps one for each of its threads.
        self._keep = keep
        self._own = threading.local()
        self._kept: list[Kept] = []

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A writing transaction, committed at the end of the block, undone when the block raises.

        Raises StoreError (locked for longer than the busy timeout, full, read-only) and StoreConflict.
        What the block raises of its own passes unchanged.
        """
        try:
            own = self._mine() if self._keep else None
            if own is None:
                with self.engine.begin() as connection:
                    yield connection
                return
            try:
                own.begin()
                yield own.connection
                own.commit()
            except BaseException:
                self._give_back(own)  # whatever state it is in: the next transaction has another
                raise
        except SQLAlchemyError as error:
            raise store_error(self.name, error) from error

    def _mine(self) -> Kept | None:
        """The calling thread's own connection; None while it is in use, by a transaction around this one."""
        own: Kept | None = getattr(self._own, "kept", None)
        if own is None or own.connection.closed:
            own = self._own.kept = Kept(self.engine.connect())
            self._kept.append(own)
        return None if own.in_use else own

    def _give_back(self, own: Kept) -> None:
        self._kept.remove(own)
        own.connection.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the data; writers do not wait for it, and it does not wait for them."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(**_READ)
        except SQLAlchemyError as error:
            raise store_error(self.name, error) from error

    def close(self) -> None:
        """Close every connection that is not in use. Reads and writes afterwards open new ones."""
        for own in list(self._kept):
            if not own.in_use:
                self._give_back(own)
        self.engine.dispose()


def open_database(
    path_or_url: Path | str,
    which: Which,
    *,
    synchronous: Synchronous = "FULL",
    busy_timeout: float = BUSY_TIMEOUT,
    keep: bool = False,
) -> Database:
    """Open a database, create it where it is absent, and bring it to its newest revision.

    A path is an SQLite file (made with mode 0600, its directory with 0700); a text with `://` is an URL.
    `synchronous` FULL means that what is committed survives a power cut. `busy_timeout` in seconds.
    `keep`: it is written with every order: each thread that writes keeps its connection, and the log of an SQLite
    file has its length from the start (`store.room`). Raises StoreError with one line.
    """
    name = str(path_or_url)
    try:
        if isinstance(path_or_url, str) and "://" in path_or_url:
            url = make_url(path_or_url)
            name = url.render_as_string(hide_password=True)
            if url.get_backend_name() != "sqlite":
                engine = create_engine(url, json_serializer=_dumps, pool_pre_ping=True)
            elif url.database and url.database != ":memory:":
                engine = _sqlite(Path(url.database), synchronous, busy_timeout)
            else:
                raise StoreError(f"store {name}: names no file", hint="as in sqlite:////var/lib/stablehand/x.db")
        else:
            engine = _sqlite(Path(path_or_url), synchronous, busy_timeout)
    except (OSError, SQLAlchemyError, ImportError) as error:
        raise store_error(name, error) from error
    database = Database(engine, name, which, keep=keep)
    try:
        _make_current(database)
        if keep and engine.dialect.name == "sqlite" and engine.url.database:
            with database.begin():
                pass  # so that there is a log
            make_room(Path(engine.url.database))
    except BaseException:
        database.close()
        raise
    return database


def insert_for(connection: Connection, table: Table) -> SqliteInsert | PostgresInsert:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`, in the database's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite_insert(table)
    if connection.dialect.name == "postgresql":
        return postgres_insert(table)
    raise StoreError(f"store: {connection.dialect.name} is not supported", hint="use SQLite or PostgreSQL")


# What a bot said must not make a row unwritable: a lone surrogate is escaped, a date or bytes become their text,
# a key that JSON cannot have is left out.
_dumps = partial(json.dumps, separators=(",", ":"), default=str, skipkeys=True)


def _sqlite(path: Path, synchronous: Synchronous, busy_timeout: float) -> Engine:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is not a directory") from None
    # Made here and not by SQLite, so that it is never readable by others; WAL and SHM copy its mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=_dumps,
        connect_args={"check_same_thread": False},
    )
    _tune_sqlite(engine, synchronous, busy_timeout)
    return engine


def _tune_sqlite(engine: Engine, synchronous: Synchronous, busy_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: it would begin deferred ones, and late.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(busy_timeout * 1000)}",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if driver.in_transaction:
            return  # begun by the driver (`Kept`), before the first statement of Core in it
        reading = connection.get_execution_options().get("stablehand_read", False)
        # By the driver: SQLAlchemy's own way to say one word costs more than the whole transaction around it.
        drive(connection, driver.execute, "BEGIN" if reading else WRITE)


def _make_current(database: Database) -> None:
    table = f"{database.which}_version"
    with database.read() as connection:
        if _version(connection, table) == HEADS[database.which]:
            return
    with database.begin() as connection:
        if is_empty(connection, database.which, table):
            create(connection, database.which, table)
            return
        from store.migrations.upgrade import upgrade

        upgrade(connection, database.which, table)


def _version(connection: Connection, table: str) -> str | None:
    if not inspect(connection).has_table(table):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {table}")).scalar()
    return version
