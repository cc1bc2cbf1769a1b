"""One thread that writes: everything that waits goes into one transaction, so into one fsync."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from store.database import Database
from store.errors import StoreError, store_error

T = TypeVar("T")
Operation = Callable[[Connection], Any]
Done = Callable[[Any], None]

MOST: Final = 500  # operations in one transaction
_NEVER: Final = float("inf")
SLICE: Final = 0.05  # seconds after which a transaction takes no further operation

log = logging.getLogger(__name__)


class Writer:
    """Commits operations in groups, in the order in which they were submitted.

    Each operation runs under a savepoint: one that raises is undone and fails alone. When the transaction
    itself fails (locked, full, read-only), all of the group is undone and each `done` gets the StoreError.
    Every submitted operation is answered exactly once, after its COMMIT.
    """

    def __init__(self, database: Database, *, most: int = MOST, slice_seconds: float = SLICE) -> None:
        self._database = database
        self._most = most
        self._slice = slice_seconds
        self._queue: deque[tuple[Operation, Done]] = deque()
        self._changed = threading.Condition()
        self._due = _NEVER  # when what waits must be written (monotonic)
        self._closing = False
        self._under_way = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Operations that are submitted and not yet answered."""
        return len(self._queue) + self._under_way

    def submit(
        self, fn: Callable[[Connection], T], done: Callable[[T | Exception], None], *, patience: float = 0.0
    ) -> None:
        """Have `fn(connection)` done and committed; then `done(result or error)`, from the writer's thread.

        What nobody waits for may have `patience`: it is written with the next operation that has none, or after
        so many seconds, so that many small ones share a transaction. Never waits. After `close` the operation
        is answered at once, by the caller's thread, with a StoreError.
        """
        with self._changed:
            if not self._closing:
                self._queue.append((fn, done))
                due = time.monotonic() + patience
                if due < self._due:
                    self._due = due
                    self._changed.notify()
                return
        _answer(done, self._closed())

    def close(self, timeout: float = 5.0) -> bool:
        """Commit what waits, for `timeout` seconds at most; the rest is answered with a StoreError.

        True when everything was written. The database stays open.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for _fn, done in left:
            _answer(done, self._closed())
        return not left and not self._thread.is_alive()

    def _closed(self) -> StoreError:
        return StoreError(f"store {self._database.name}: closed, this was not written")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing and (left := self._due - time.monotonic()) > 0:
                    self._changed.wait(None if left == _NEVER else left)
                if not self._queue:
                    if self._closing:
                        return
                    self._due = _NEVER
                    continue
            self._one_transaction()

    def _one_transaction(self) -> None:
        group: list[tuple[Done, Any]] = []
        try:
            with self._database.begin() as connection:
                cursor = connection.connection.cursor()
                until = time.monotonic() + self._slice
                while len(group) < self._most and (not group or time.monotonic() < until):
                    taken = self._take()
                    if taken is None:
                        break
                    fn, done = taken
                    # The answer stands in the group before the attempt: nothing taken is left unanswered.
                    group.append((done, None))
                    group[-1] = (done, self._attempt(connection, cursor, fn))
                cursor.close()
        except Exception as error:
            failure = store_error(self._database.name, error)
            if not group:  # the transaction could not begin: those that waited for it have waited enough
                while len(group) < self._most and (taken := self._take()) is not None:
                    group.append((taken[1], None))
            log.warning("%s; %d operations not written", failure.line(), len(group))
            group = [(done, failure) for done, _ in group]
        for done, result in group:
            _answer(done, result)
        self._under_way = 0

    def _take(self) -> tuple[Operation, Done] | None:
        with self._changed:
            if not self._queue:
                self._due = _NEVER
                return None
            self._under_way += 1
            return self._queue.popleft()

    def _attempt(self, connection: Connection, cursor: Any, fn: Operation) -> Any:
        """The operation's result, or its error with its effects undone. Raises when the transaction is lost."""
        # Savepoints by the driver's cursor: SQLAlchemy's own cost more than the statements between them.
        cursor.execute("SAVEPOINT op")
        try:
            result = fn(connection)
        except Exception as error:
            try:
                cursor.execute("ROLLBACK TO SAVEPOINT op")
                cursor.execute("RELEASE SAVEPOINT op")
            except Exception:
                # SQLite has ended the whole transaction by itself (disk full): the first error says why.
                raise error from None
            return store_error(self._database.name, error) if isinstance(error, SQLAlchemyError) else error
        cursor.execute("RELEASE SAVEPOINT op")
        return result


def _answer(done: Done, result: Any) -> None:
    try:
        done(result)
    except Exception:
        log.exception("an answer of the store's writer was not taken")
