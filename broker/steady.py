"""A terminal that is always there: what a gateway asks of one that may be away, answered once for all."""

from __future__ import annotations


class Steady:
    """For terminals of our own. What a real terminal answers stands in `broker.mt5.terminal`."""

    def tend(self) -> bool:
        """See to the connection; whether it was made (again) just now."""
        return False

    def held(self) -> str:
        """Why no bot may begin; empty when one may."""
        return ""

    def barred(self, *, look: bool = False) -> str:
        """Why no order may be sent; empty when one may. `look`: ask the terminal first."""
        return ""

    def follow(self, symbol: str, timeframe: str) -> None:
        """A bot wants these bars."""

    def knows(self, symbol: str) -> bool:
        """Whether the symbol is there although it is not found now: here what is not found never is."""
        return False

    def last_closed(self, symbol: str, timeframe: str) -> int | None:
        """Opening time of the last bar that `step` told; None: every closed bar was."""
        return None
