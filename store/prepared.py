"""Statements of the order path, and of a bot's start, at the driver's price.

SQLAlchemy Core is the rule in every store, and it makes these statements too, for SQLite and PostgreSQL alike.
But three transactions stand between an order and its answer, and there `Connection.execute` costs more than
SQLite itself: 0.1 to 0.4 ms a statement (cache key, context, result), against 0.01 to 0.02 ms by the driver's
cursor. So what runs with every order, and with each start of hundreds at once, is compiled once and handed to the
driver; all the rest uses Core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.engine.processors import to_float
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]
Maker = Callable[[Any], Any]


class Prepared:
    """A statement that `make(connection)` gives, compiled when it is first run on SQLite.

    On another database Core executes it. Errors are those that `Connection.execute` raises.
    """

    def __init__(self, make: Callable[[Connection], Executable]) -> None:
        self._make = make
        self._text = ""
        self._names: tuple[str, ...] = ()
        self._fixed: dict[str, Any] = {}  # values that the statement itself has
        self._makers: tuple[tuple[int, Maker], ...] = ()  # place, and what makes of the value what the driver takes

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Execute it with each row's values by name."""
        if not rows:
            return
        if connection.dialect.name != "sqlite":
            connection.execute(self._make(connection), [dict(row) for row in rows])
            return
        self._compile(connection)
        values = [self._values(row) for row in rows]
        self._drive(connection, lambda driver: driver.executemany(self._text, values))

    def first(self, connection: Connection, row: Values) -> tuple[Any, ...] | None:
        """The first row of a SELECT, as the driver gives it: for columns that need no conversion."""
        if connection.dialect.name != "sqlite":
            found = connection.execute(self._make(connection), dict(row)).first()
            return None if found is None else tuple(found)
        self._compile(connection)
        answer: list[tuple[Any, ...]] = self._drive(
            connection, lambda driver: driver.execute(self._text, self._values(row)).fetchmany(1)
        )
        return answer[0] if answer else None

    def _compile(self, connection: Connection) -> None:
        if self._text:
            return
        statement: Any = self._make(connection)
        compiled: SQLCompiler = statement.compile(dialect=connection.dialect)
        self._names = tuple(compiled.positiontup or ())
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        makers = compiled._bind_processors
        self._makers = tuple(
            (place, makers[name])  # type: ignore[misc]
            for place, name in enumerate(self._names)
            if name in makers and makers[name] is not to_float  # a float is one already
        )
        self._text = str(compiled)

    def _values(self, row: Values) -> tuple[Any, ...]:
        if self._fixed:
            row = {**self._fixed, **row}
        values = [row[name] for name in self._names]
        for place, make in self._makers:
            values[place] = make(values[place])
        return tuple(values)

    def _drive(self, connection: Connection, work: Callable[[Any], Any]) -> Any:
        try:
            return work(connection.connection.driver_connection)
        except connection.dialect.loaded_dbapi.Error as error:
            # In SQLAlchemy's words, so that callers see no difference.
            base = connection.dialect.loaded_dbapi.Error
            raise DBAPIError.instance(self._text, None, error, base, dialect=connection.dialect) from error
