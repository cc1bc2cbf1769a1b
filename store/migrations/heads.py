"""Newest revision of each database, so that a current one is recognised without importing Alembic.

A migration is a file `store/migrations/<database>/versions/rNNNN_<what>.py` with `revision = "NNNN"`; its number
becomes the head here. A test compares these constants with the files, and the files with the tables.
"""

from __future__ import annotations

from typing import Final

SUPERVISOR: Final = "0001"
LEDGER: Final = "0001"
PAPER: Final = "0001"

HEADS: Final[dict[str, str]] = {"supervisor": SUPERVISOR, "ledger": LEDGER, "paper": PAPER}
