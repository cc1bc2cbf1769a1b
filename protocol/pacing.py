"""How the analyses of a closed bar are spread, so that many bots do not wake at the same moment: pure."""

from __future__ import annotations

import zlib
from typing import Final

#: Fewer bots than this wake at once.
FEWEST: Final = 50
#: Seconds that the spread grows with each bot.
EACH: Final = 0.001
#: The part of the spread in which nobody begins: there all bots receive the bar, without analyses in their way.
RECEIVING: Final = 0.1


def spread(bots: int, most: float) -> float:
    """Seconds over which so many bots begin their analyses; at most `most`."""
    return min(most, bots * EACH) if bots >= FEWEST else 0.0


def share(name: str) -> float:
    """The place of a bot in the spread: `RECEIVING` to 1, the same in every run of it."""
    return RECEIVING + (1.0 - RECEIVING) * zlib.crc32(name.encode()) / 2**32
