"""What is too old, or too much, is dropped from the store: in slices, so that nobody waits for it.

A client that lags holds nothing up. Each of its requests reads one page; where the rows that it would have read next
are gone, the answer says so (`first` of the command `events`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from store import equity, journal, runs, samples
from supervisor.config import SupervisorConfig
from supervisor.runtime import clock
from supervisor.runtime.stable import Stable

_LOOK: Final = 1.0
_EVERY: Final = 3600.0  # seconds between two looks where the journal grows slowly,
_GROWN: Final = 10  # or when it grew by so many hundredths of what it may hold
_MOST: Final = 500  # rows in one transaction: a few milliseconds of the writer
_RUNS_KEPT: Final = 10  # of each bot, however old

log = logging.getLogger("stablehand.store")


class Retention:
    """Keeps the store within its bounds."""

    def __init__(self, stable: Stable) -> None:
        self._stable = stable
        self._looked_at = 0  # the journal's last number then
        self._due = clock.now() + _LOOK

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            settings, last = self._stable.config.supervisor, self._stable.chronicle.last_seq
            if clock.now() < self._due and (last - self._looked_at) * 100 < settings.journal_rows * _GROWN:
                continue
            self._due, self._looked_at = clock.now() + _EVERY, last
            try:
                await self._prune(settings)
            except Exception as error:  # the disk refuses, or the store is closed; in a while again
                log.warning("nothing was dropped from the store: %s; again within the hour", error)

    async def _prune(self, settings: SupervisorConfig) -> None:
        now, rows = clock.wall(), settings.journal_rows
        before = now - settings.journal_days * 86_400
        below = await self._stable.read(lambda conn: journal.kept_from(conn, before=before, keep=rows))
        await self._drop(lambda conn: journal.forget(conn, below=below, most=_MOST))
        await self._drop(lambda conn: equity.prune(conn, before=before, keep=rows, most=_MOST))
        sampled = now - settings.sample_days * 86_400
        await self._stable.commit(lambda conn: samples.prune(conn, before=sampled))
        await self._stable.commit(lambda conn: runs.prune(conn, before=before, keep=_RUNS_KEPT))

    async def _drop(self, some: Any) -> None:
        """Slice by slice: between two of them the writer does what waits."""
        while await self._stable.commit(some) == _MOST:
            await asyncio.sleep(0)
