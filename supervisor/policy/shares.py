"""What the kernel is told of one bot, where it has control groups: its weight, the most memory, the most CPU."""

from __future__ import annotations

from typing import Final

_USUAL: Final = 100  # the kernel's own weight of a group
_USUAL_PRIORITY: Final = 5
_STEP: Final = 2.0**0.5  # between two priorities: 9 has four times the weight of 5
_NICE_STEP: Final = 1.25  # between two nice values, as the scheduler counts them
_PERIOD: Final = 100_000  # microseconds in which a share of CPU is counted
_LEAST_QUOTA: Final = 1_000
#: The kernel's own bound on memory, in limits. Below it the supervisor has time to warn, and to wait until the bot is
#: flat; it also counts what the kernel caches for the bot.
HARD_MEMORY: Final = 2


def weight(priority: int, nice: int = 0) -> int:
    """`cpu.weight` (1 to 10,000) by importance; a nice value lowers it as it would lower a process."""
    value = _USUAL * _STEP ** (priority - _USUAL_PRIORITY) / _NICE_STEP**nice
    return min(10_000, max(1, round(value)))


def memory_max(limit: int) -> str:
    """`memory.max` of a bot whose limit is so many bytes; 0: no limit."""
    return str(HARD_MEMORY * limit) if limit else "max"


def cpu_max(percent: float) -> str:
    """`cpu.max` for so many percent of one core; 0: no limit."""
    return f"{max(_LEAST_QUOTA, round(percent / 100 * _PERIOD))} {_PERIOD}" if percent else f"max {_PERIOD}"
