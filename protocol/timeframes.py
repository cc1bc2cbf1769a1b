"""Which timeframes the bars of a feed can be put together to."""

from __future__ import annotations

from protocol.botconfig import TIMEFRAME_SECONDS


def can_build(base: str, timeframe: str) -> bool:
    """Whether bars of `timeframe` can be put together from bars of `base`."""
    if base == timeframe:
        return True
    if base in ("W1", "MN1"):  # a week begins in one month and ends in another
        return False
    return TIMEFRAME_SECONDS[timeframe] % TIMEFRAME_SECONDS[base] == 0


def buildable(base: str) -> tuple[str, ...]:
    """The timeframes that bars of `base` allow, itself first."""
    return tuple(timeframe for timeframe in TIMEFRAME_SECONDS if can_build(base, timeframe))
