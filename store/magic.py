"""Magic numbers in a database: 64 bits unsigned in MetaTrader, signed in SQLite and PostgreSQL.

An expert that sets -1 has 2^64 - 1. Above 2^63 a number is kept as the negative one of the same bits.
"""

from __future__ import annotations

from typing import Final

_WRAP: Final = 1 << 64


def signed(magic: int) -> int:
    """As a database takes it."""
    return magic - _WRAP if magic >= _WRAP >> 1 else magic


def unsigned(magic: int) -> int:
    """As MetaTrader has it."""
    return magic + _WRAP if magic < 0 else magic
