"""Room in the write-ahead log of a database that is written with every order.

A commit that makes the log longer makes the file system commit its own journal as well, beside the data: measured
with a busy machine, the 99th order of a hundred then takes ten times as long, and the median a fifth longer. So the
log gets its full length before the first order. SQLite begins it anew after each checkpoint and never shortens it
before its last connection closes; zeros behind the last frame are no frame to it (their checksums do not fit).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Final

#: SQLite checkpoints at a thousand frames (a page and 24 bytes each); some more for the transaction that exceeds it.
ROOM: Final = 1_100 * (4096 + 24)
#: Not on a disk with less free space than so many times that.
_PLENTY: Final = 64

log = logging.getLogger("stablehand.store")


def make_room(database: Path) -> None:
    """Give the log of an open SQLite database its full length. Where that cannot be, orders are slower, no more.

    For the process that alone writes the database, before it does.
    """
    path = Path(f"{database}-wal")
    try:
        if shutil.disk_usage(database.parent).free < _PLENTY * ROOM:
            return
        with path.open("r+b", buffering=0) as wal:
            length = os.fstat(wal.fileno()).st_size
            if length >= ROOM:
                return
            wal.seek(length)
            try:
                wal.write(bytes(ROOM - length))
                os.fsync(wal.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    wal.truncate(length)
                raise
    except OSError as error:
        log.info("no room made in %s: %s; its commits are slower", path, error.strerror)
