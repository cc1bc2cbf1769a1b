"""A connection that a thread keeps, for databases that are written with every order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

#: A writer takes the lock first: a reader that turns writer half-way could only fail.
WRITE: Final = "BEGIN IMMEDIATE"


class Kept:
    """On SQLite the driver begins and commits: SQLAlchemy's way to do so costs more than an order's statements.

    Where a statement of Core joins in, SQLAlchemy comes to know of the transaction, and ends it. After an error
    the connection is to be closed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        driver: Any = connection.connection.driver_connection
        self._driver = driver if connection.dialect.name == "sqlite" else None

    @property
    def in_use(self) -> bool:
        """Whether a transaction is under way."""
        return self.connection.in_transaction() or (self._driver is not None and self._driver.in_transaction)

    def begin(self) -> None:
        """Begin a writing transaction."""
        if self._driver is None:
            self.connection.begin()
        else:
            drive(self.connection, self._driver.execute, WRITE)

    def commit(self) -> None:
        """Commit it."""
        if self._driver is None or self.connection.in_transaction():
            self.connection.commit()
        else:
            drive(self.connection, self._driver.commit)


def drive(connection: Connection, call: Callable[..., object], *words: str) -> None:
    """Call SQLite's driver; what it raises comes in SQLAlchemy's words."""
    try:
        call(*words)
    except sqlite3.Error as error:
        statement = words[0] if words else "COMMIT"
        raise DBAPIError.instance(statement, None, error, sqlite3.Error, dialect=connection.dialect) from error
