"""When a gateway that found its account held by another one may have it. Pure.

A gateway that crashed has a successor within seconds, with positions to look after: who waits for the account must not
get in between. So it lets go of the lock that it finds free, and keeps it only when it was free at several looks in a
row, spread over half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Seconds for which the account must have been free, and at how many looks at least: a host may sleep between two.
SECONDS: float = 30.0
LOOKS: Final = 4


@dataclass(frozen=True, slots=True)
class Takeover:
    """`by`: who held it at the last look that found it held; empty: none did, and it is taken at once.

    Since when it has been free (monotonic seconds), and at how many looks.
    """

    by: str = ""
    free_since: float = 0.0
    looks: int = 0

    def held(self, by: str) -> Takeover:
        """Another gateway holds it: all is counted from the beginning."""
        return Takeover(by)

    def free(self, now: float) -> Takeover:
        """The lock could be had at this moment."""
        return Takeover(self.by, self.free_since if self.looks else now, self.looks + 1)

    def may_keep(self, now: float) -> bool:
        """Whether the lock that could be had just now is kept."""
        return not self.by or (self.looks >= LOOKS and now - self.free_since >= SECONDS)
