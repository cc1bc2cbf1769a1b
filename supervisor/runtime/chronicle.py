"""Everything that happened, in order: into the journal first, to subscribers after the commit.

Entries that the disk refuses wait here (bounded) and are tried again; meanwhile `behind` says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from protocol import codec, topics
from store import journal
from store.errors import StoreConflict, StoreError
from store.journal import NewRow
from store.writer import Writer
from supervisor.runtime import clock

_PATIENCE: Final = 0.005  # seconds that entries wait for others, or for a write that cannot wait
_KEPT: Final = 10_000
_RETRY_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 10.0

log = logging.getLogger("stablehand.journal")

Publish = Callable[[bytes, bytes], None]
Committed = Callable[[], None]
Run = tuple[int, int]  # id of the bot, epoch


@dataclass(slots=True)
class _Gap:
    """The first row of a run's history that was dropped, which the run has still, and how many were."""

    first: int
    dropped: int = 0
    ask_at: float = 0.0  # monotonic


class Chronicle:
    """The one way into the journal."""

    def __init__(self, writer: Writer, last_seq: int) -> None:
        self._writer = writer
        self._publish: Publish = _nobody
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[NewRow, Committed | None]] = deque()
        self._in_flight: list[tuple[NewRow, Committed | None]] = []
        self._scheduled = False
        self.last_seq = last_seq
        self.failing = ""  # why the last write failed; empty when it did not
        self.dropped = 0
        self.ask_again: Callable[[Run], None] = lambda run: None  # a run for the rows of its history that were dropped
        self._lost = 0  # entries of nobody's history that were dropped, and are not told of yet
        self._gaps: dict[Run, _Gap] = {}
        self._one_by_one = False

    def publish_to(self, publish: Publish) -> None:
        """Where committed events go: `publish(topic, frame)`."""
        self._publish = publish

    @property
    def behind(self) -> bool:
        """Whether something that happened is not remembered yet because the store refuses."""
        return bool(self.failing)

    def add(
        self,
        type: str,
        text: str,
        *,
        bot: str | None = None,
        bot_id: int | None = None,
        cause_id: str = "",
        data: dict[str, Any] | None = None,
        at: float | None = None,
        epoch: int | None = None,
        run_seq: int | None = None,
        committed: Committed | None = None,
    ) -> None:
        """Note an event; `committed` is called on the loop once it is durable."""
        row = NewRow(
            at=clock.wall() if at is None else at,
            type=type,
            bot=bot,
            bot_id=bot_id,
            text=_harmless(text),
            data=data or {},
            cause_id=cause_id,
            epoch=epoch,
            run_seq=run_seq,
        )
        if len(self._pending) >= _KEPT:
            self._drop(self._pending.popleft()[0])
        self._pending.append((row, committed))
        self._soon(0)

    def has_from(self, run: Run, first: int) -> None:
        """A run has greeted: of its history it has the rows from `first` on, and sends them again."""
        gap = self._gaps.get(run)
        if gap is not None and gap.first < first:  # it had to give up some itself
            self._lost += first - gap.first
            gap.first = first

    def forget(self, run: Run) -> None:
        """A run has ended: what was dropped of its history nobody has any more."""
        gap = self._gaps.pop(run, None)
        self._lost += gap.dropped if gap is not None else 0

    def _drop(self, row: NewRow) -> None:
        """The oldest gives way. What is of a run's history the run keeps until it is told that it is committed."""
        self.dropped += 1
        run = _run_of(row)
        if run is None:
            self._lost += 1
            return
        gap = self._gaps.setdefault(run, _Gap(row.run_seq or 0))
        gap.first = min(gap.first, row.run_seq or 0)
        gap.dropped += 1

    def _is_held_back(self, row: NewRow) -> bool:
        """Whether rows before this one were dropped: their run would forget them with the answer to this one."""
        run = _run_of(row)
        gap = self._gaps.get(run) if run is not None else None
        if run is None or gap is None:
            return False
        if (row.run_seq or 0) <= gap.first:  # it was sent again; those after it follow in their order
            del self._gaps[run]
            return False
        if clock.now() >= gap.ask_at:
            gap.ask_at = clock.now() + _ASK_SECONDS
            self.ask_again(run)
        return True

    def _tell_of_losses(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self.add("alert", f"{lost} events are lost: the store refused them, or too many had to wait for it")

    @property
    def waiting(self) -> int:
        """Entries that are not written yet."""
        return len(self._pending) + len(self._in_flight)

    def flushed(self) -> bool:
        """Whether all is written."""
        return not self._pending and not self._in_flight

    def _soon(self, delay: float) -> None:
        if not self._scheduled and not self._in_flight:
            self._scheduled = True
            self._loop.call_later(delay, self._write)

    def _write(self) -> None:
        self._scheduled = False
        if not self._pending or self._in_flight:
            return
        # One batch at a time keeps the order of the numbers the order of the events.
        most = 1 if self._one_by_one else len(self._pending)
        self._in_flight = [self._pending.popleft() for _ in range(most)]
        self._one_by_one = self._one_by_one and bool(self._pending)
        rows = [row for row, _ in self._in_flight]

        def done(result: list[int] | Exception) -> None:
            self._loop.call_soon_threadsafe(self._written, result)

        self._writer.submit(lambda conn: journal.append(conn, rows), done, patience=_PATIENCE)

    def _written(self, result: Sequence[int] | Exception) -> None:
        batch, self._in_flight = self._in_flight, []
        if isinstance(result, Exception) and (isinstance(result, StoreConflict) or not isinstance(result, StoreError)):
            # Not the disk but a row: it must not hold up all the others for ever.
            log.error("journal: %d entries not written: %r", len(batch), result)
            if len(batch) > 1:
                self._pending.extendleft(reversed(batch))
                self._one_by_one = True
            else:
                self.dropped += 1
                self._lost += 1
                committed = batch[0][1]
                if committed is not None:
                    committed()  # nobody can write it: it need not be sent again
            self._soon(0)
            return
        if isinstance(result, Exception):
            self.failing = str(result)
            self._pending.extendleft(reversed(batch))
            self._soon(_RETRY_SECONDS)
            return
        self.failing = ""
        self._tell_of_losses()
        for (row, committed), seq in zip(batch, result, strict=True):
            held_back = self._is_held_back(row)
            if seq:  # 0: a history row that was there already
                self.last_seq = max(self.last_seq, seq)
                event = {
                    "seq": seq,
                    "at": row.at,
                    "type": row.type,
                    "bot": row.bot,
                    "text": row.text,
                    "data": row.data,
                    "cause_id": row.cause_id,
                }
                self._publish(topics.event(row.bot), codec.pack(event))
            if committed is not None and not held_back:
                committed()
        if self._pending:
            self._soon(0)


def _run_of(row: NewRow) -> Run | None:
    """Whose history the row is of; None where it is of nobody's."""
    if row.bot_id is None or row.epoch is None or row.run_seq is None:
        return None
    return row.bot_id, row.epoch


def _nobody(topic: bytes, frame: bytes) -> None:
    """Before the event socket is bound nobody can have subscribed."""


def _harmless(text: str) -> str:
    """Without codes that would tell a terminal something: what a bot says is shown to people."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)
