"""What has happened and the store has not taken yet: kept in order, written as soon as it accepts.

What makes things safer (a stop, an end, a key revoked) acts first and is remembered afterwards; while the disk
refuses, this is the list of what a restart of the supervisor would not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection

from store import bots as bot_table
from store.errors import StoreConflict, StoreError
from store.writer import Writer
from supervisor.runtime.registry import Record

_PATIENCE: Final = 0.01  # seconds that a write which nobody waits for waits for company
_RETRY_SECONDS: Final = 1.0
_MOST: Final = 500  # writes in one operation
_NAMED: Final = 5  # bots named in the line

log = logging.getLogger("stablehand.memory")


@dataclass(frozen=True, slots=True)
class _Write:
    what: str  # as a person reads it, in the plural
    write: Callable[[Connection], object]
    then: Callable[[], None] | None


class Memory:
    """Writes that are not refused: first in, first written."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Write] = deque()
        self._in_flight: list[_Write] = []
        self._scheduled = False
        self._one_by_one = False
        self._wishes: dict[int, str] = {}  # bot id -> name: what is wanted of it is not remembered
        self.failing = ""  # why the last write failed; empty when it did not

    def later(self, what: str, write: Callable[[Connection], object], then: Callable[[], None] | None = None) -> None:
        """Have it written, now or as soon as the store accepts; then call `then` on the loop."""
        self._queue.append(_Write(what, write, then))
        self._soon(0.0)

    def wanted(self, record: Record) -> None:
        """What is wanted of the bot was not remembered: whatever it is when the store accepts is written then."""
        bot_id = record.bot_id
        self._wishes[bot_id] = record.name

        def write(conn: Connection) -> None:
            bot_table.set_wanted(conn, [bot_id], record.wanted)

        self.later("wishes", write, lambda: self._wish_written(bot_id))

    def said_again(self, record: Record) -> None:
        """A later wish of this bot was committed: an earlier one that still waits must not overrule it."""
        if record.bot_id in self._wishes:
            self.wanted(record)

    @property
    def waiting(self) -> dict[str, int]:
        """How many writes of each sort wait."""
        return dict(Counter(one.what for one in (*self._in_flight, *self._queue)))

    def text(self) -> str:
        """What waits because the store refuses, for a person; empty when it does not refuse."""
        if not self.failing:
            return ""
        names = list(self._wishes.values())
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts = [f"what is wanted of {', '.join(names[:_NAMED])}{more}"] if names else []
        parts += [f"{count} {what}" for what, count in self.waiting.items() if what != "wishes"]
        return ", ".join(parts)

    def flushed(self) -> bool:
        """Whether all is written."""
        return not self._queue and not self._in_flight

    def _wish_written(self, bot_id: int) -> None:
        self._wishes.pop(bot_id, None)

    def _soon(self, delay: float) -> None:
        if not self._scheduled and not self._in_flight:
            self._scheduled = True
            self._loop.call_later(delay, self._flush) if delay else self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight or not self._queue:
            return
        # One operation at a time keeps their order: an identity is never written before its intent.
        most = 1 if self._one_by_one else min(len(self._queue), _MOST)
        self._in_flight = [self._queue.popleft() for _ in range(most)]
        self._one_by_one = self._one_by_one and bool(self._queue)
        writes = [one.write for one in self._in_flight]

        def done(result: object) -> None:
            self._loop.call_soon_threadsafe(self._written, result)

        self._writer.submit(partial(_all, writes), done, patience=_PATIENCE)

    def _written(self, result: object) -> None:
        batch, self._in_flight = self._in_flight, []
        if isinstance(result, StoreError) and not isinstance(result, StoreConflict):
            self.failing = str(result)
            self._queue.extendleft(reversed(batch))
            self._one_by_one = True  # on a disk that is nearly full a small write may fit where many do not
            self._soon(_RETRY_SECONDS)
            return
        if isinstance(result, Exception) and len(batch) > 1:  # one of them is wrong: find it
            self._queue.extendleft(reversed(batch))
            self._one_by_one = True
            self._soon(0.0)
            return
        if isinstance(result, Exception):
            log.error("not written, and never will be: %s: %r", batch[0].what, result)
        if not self._queue:  # one that was taken says nothing of those that still wait
            self.failing = ""
        for one in batch:
            if one.then is not None:
                one.then()
        if self._queue:
            self._soon(0.0)


def _all(writes: list[Callable[[Connection], object]], conn: Connection) -> None:
    for write in writes:
        write(conn)
