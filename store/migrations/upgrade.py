"""Bringing a database to its newest revision with Alembic, without an alembic.ini.

Only imported when a database is not current: Alembic costs a fifth of a second that no other start should pay.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from store.errors import StoreError
from store.tables import Which, metadata

HERE: Final = Path(__file__).resolve().parent


def scripts(which: Which) -> ScriptDirectory:
    """The migrations of one database, found beside this file (a checkout or an installed wheel)."""
    return ScriptDirectory(str(HERE), version_locations=[str(HERE / which / "versions")])


def upgrade(connection: Connection, which: Which, version_table: str) -> None:
    """Apply what is missing, inside the transaction that `connection` is in. Raises StoreError."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells each step; the log of a bot is not for that
    directory = scripts(which)

    def steps(revision: Any, _context: Any) -> Any:
        return directory._upgrade_revs("head", revision)  # as Alembic's own `command.upgrade` does

    try:
        with EnvironmentContext(Config(), directory, fn=steps, destination_rev="head") as environment:
            environment.configure(
                connection=connection,
                target_metadata=metadata,
                version_table=version_table,
                render_as_batch=connection.dialect.name == "sqlite",
            )
            environment.run_migrations()
    except CommandError as error:
        raise StoreError(
            f"store {which}: its version is not known here: {error}",
            hint="it was written by a newer stablehand; install that one",
        ) from None
