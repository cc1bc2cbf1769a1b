"""Names of everything that is published, in one place."""

from __future__ import annotations

from typing import Final

#: Prefix of the supervisor's event stream; the whole topic is `event.<bot>` or `event.-` for the fleet.
EVENT: Final = "event."
FLEET: Final = "-"


def event(bot: str | None) -> bytes:
    """Topic of an event of one bot, or of the fleet."""
    return f"{EVENT}{bot or FLEET}".encode()


def bar(symbol: str, timeframe: str) -> bytes:
    """Topic of closed bars. The trailing dot keeps H1 from matching H12."""
    return f"bar.{symbol}.{timeframe}.".encode()


def tick(symbol: str) -> bytes:
    """Topic of quotes."""
    return f"tick.{symbol}.".encode()
