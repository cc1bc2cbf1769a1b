"""What can go wrong with the memory, as one line each."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from protocol.errors import CONFLICT, NOT_REMEMBERED, StablehandError


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
    # Locked by another, full, not reachable: the driver's word for what is no defect of the database or of a statement.
    found.passing = isinstance(error, OperationalError)
    return found
