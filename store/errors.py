"""What can go wrong with the memory, as one line each."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from protocol.errors import CONFLICT, NOT_REMEMBERED, StablehandError, may_pass

#: Result codes of SQLite (and those that begin so) after which the same may go well later.
_FOR_NOW: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")


class StoreError(StablehandError):
    """The database cannot be opened, read or written; nothing of the transaction was done."""

    code = NOT_REMEMBERED


class StoreConflict(StoreError):
    """A row with that name or id is there already, or a row that it refers to is not."""

    code = CONFLICT


def store_error(where: str, error: BaseException) -> StoreError:
    """A driver's or the file system's error as one line that names the database `where`."""
    if isinstance(error, StoreError):
        return error
    kind = StoreConflict if isinstance(error, IntegrityError) else StoreError
    if isinstance(error, DBAPIError):
        reason = str(error.orig)
    elif isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
    elif isinstance(error, SQLAlchemyError):
        reason = str(error)
    else:
        reason = f"{type(error).__name__}: {error}"
    found = kind(f"store {where}: {' '.join(reason.split())}")
    found.passing = _may_pass(error)
    return found


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return may_pass(error)
    if not isinstance(error, OperationalError):
        return False
    # SQLite calls a wrong statement operational, too; elsewhere it means that the server cannot be reached, or is busy.
    name = getattr(error.orig, "sqlite_errorname", None)
    return name is None or name.startswith(_FOR_NOW)
