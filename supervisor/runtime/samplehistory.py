"""The last hour of samples in memory, in arrays of fixed size, and the means of each minute for the store."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from store.samples import Minute
from supervisor.runtime.registry import Sample

HOUR: Final = 3600.0
MINUTE: Final = 60.0
#: Seconds between two kept samples of a bot: 360 of them an hour, 5 KB a bot.
BOT_STEP: Final = 10.0
HOST_KEYS: Final = (
    "cpu_percent", "memory_percent", "swap_percent", "load1", "disk_percent", "network_sent_per_s",
    "network_received_per_s", "pressure_cpu", "pressure_memory", "pressure_io",
)  # fmt: skip
BOT_KEYS: Final = ("cpu_percent", "rss_bytes", "uss_bytes")


class Ring:
    """The last `size` rows of some figures; the unknown is kept as NaN, and read as None."""

    def __init__(self, keys: Sequence[str], size: int) -> None:
        self.keys = tuple(keys)
        self._size = max(1, size)
        self._at = array("d")
        self._values = [array("f") for _ in keys]
        self._next = 0

    def add(self, at: float, values: Iterable[float | None]) -> None:
        """One row, in the order of `keys`; the oldest falls out."""
        columns: list[array[float]] = [self._at, *self._values]
        row = [at, *(math.nan if value is None else float(value) for value in values)]
        if len(self._at) < self._size:
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            return
        for column, value in zip(columns, row, strict=True):
            column[self._next] = value
        self._next = (self._next + 1) % self._size

    def rows(self, since: float = 0.0) -> list[list[float | None]]:
        """`[at, value, ...]` of the rows later than `since`, oldest first."""
        order = [*range(self._next, len(self._at)), *range(self._next)]
        return [
            [self._at[index], *(None if math.isnan(one[index]) else one[index] for one in self._values)]
            for index in order
            if self._at[index] > since
        ]

    @property
    def last(self) -> float:
        """When the last row was added; 0 before the first."""
        return self._at[self._next - 1] if self._at else 0.0


class Mean:
    """Means of several figures; what was never known stays unknown."""

    __slots__ = ("_counts", "_sums")

    def __init__(self, width: int) -> None:
        self._sums = [0.0] * width
        self._counts = [0] * width

    def add(self, values: Iterable[float | None]) -> None:
        """One row."""
        for index, value in enumerate(values):
            if value is not None:
                self._sums[index] += value
                self._counts[index] += 1

    def values(self) -> list[float | None]:
        """The means."""
        return [
            round(total / count, 3) if count else None for total, count in zip(self._sums, self._counts, strict=True)
        ]


class SampleHistory:
    """Of the machine at the probe's interval, of each bot every `BOT_STEP` seconds. Times are wall clock."""

    def __init__(self, interval: float) -> None:
        self.host = Ring(HOST_KEYS, int(HOUR / interval))
        self.bots: dict[int, Ring] = {}
        self.minute_over: Callable[[Minute], None] = lambda minute: None
        self._minute = 0.0
        self._host_mean = Mean(len(HOST_KEYS))
        self._bot_means: dict[int, Mean] = {}

    def take(self, at: float, host: Mapping[str, Any], samples: Mapping[int, Sample]) -> None:
        """One round of samples."""
        if not 0.0 <= at - self._minute < MINUTE:  # over, or the wall clock was set back
            self._end_minute(at)
        row = host_row(host)
        self.host.add(at, row)
        self._host_mean.add(row)
        for bot_id, sample in samples.items():
            values = (sample.cpu_percent, sample.rss_bytes, sample.uss_bytes)
            mean = self._bot_means.get(bot_id)
            if mean is None:
                mean = self._bot_means[bot_id] = Mean(len(BOT_KEYS))
            mean.add(values)
            ring = self.bots.get(bot_id)
            if ring is None:
                ring = self.bots[bot_id] = Ring(BOT_KEYS, int(HOUR / BOT_STEP))
            if at - ring.last >= BOT_STEP or at < ring.last:  # the wall clock may be set back
                ring.add(at, values)

    def forget(self, bot_id: int) -> None:
        """A bot was removed."""
        self.bots.pop(bot_id, None)

    def _end_minute(self, at: float) -> None:
        if self._minute:
            host = dict(zip(HOST_KEYS, self._host_mean.values(), strict=True))
            self.minute_over(Minute(at, host, {bot_id: one.values() for bot_id, one in self._bot_means.items()}))
        self._minute = at
        self._host_mean = Mean(len(HOST_KEYS))
        self._bot_means = {}


def host_row(host: Mapping[str, Any]) -> list[float | None]:
    """The machine's figures in the order of `HOST_KEYS`."""
    pressure = host.get("pressure") or {}
    return [
        pressure.get(key.removeprefix("pressure_")) if key.startswith("pressure_") else host.get(key)
        for key in HOST_KEYS
    ]
