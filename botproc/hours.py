"""Whether the market is closed, as the broker says it: by refusing an order, and by a quote that moves again."""

from __future__ import annotations

from typing import Any, Final

from botproc.conditions import Conditions
from botproc.desk import Desk
from protocol.errors import StablehandError

_KIND: Final = "closed"


class MarketHours:
    """Tells once that the market was found closed, and once that it is open again."""

    def __init__(self, desk: Desk, conditions: Conditions) -> None:
        self._desk = desk
        self._conditions = conditions
        self._since = 0.0  # time of the quote with which the market was found closed

    def closed(self, text: str, data: dict[str, Any]) -> None:
        """An order was refused because the market is closed."""
        self._since = self._quote_time() or self._since
        self._conditions.begin(_KIND, "WARNING", text, data)

    def opened(self) -> None:
        """An order was executed."""
        self._conditions.end(_KIND, "the market is open again")

    def look(self) -> None:
        """A newer quote means that the market is open. Asks the terminal only while it is closed."""
        if _KIND in self._conditions and self._quote_time() > self._since:
            self.opened()

    def _quote_time(self) -> float:
        """Time of the last quote, server seconds; 0 when it cannot be told: nothing is concluded from that."""
        try:
            tick = self._desk.tick()
        except StablehandError:
            return 0.0
        return float(tick.get("time_msc") or 0) / 1000.0 or float(tick.get("time") or 0)
