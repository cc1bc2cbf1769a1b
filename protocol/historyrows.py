"""The rows of a run's history that its supervisor has not acknowledged yet: kept, and sent again on each connection."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final

from protocol.messages import HistoryRow

_KEPT: Final = 10_000  # rows kept without an acknowledgement; the oldest go first
_BATCH: Final = 500  # rows in one frame
_LONGEST: Final = 1_000  # characters of a row that could not be sent whole


class HistoryRows:
    """Any thread adds; one thread sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: deque[HistoryRow] = deque()  # not yet acknowledged
        #: Of these: not yet sent on this connection. The sender looks at it each time that it wakes.
        self.unsent: deque[HistoryRow] = deque()
        self._seq = 0
        self.lost = 0  # given up because none of the last 10,000 was acknowledged

    def add(self, action: str, text: str, data: dict[str, Any]) -> None:
        """One more."""
        with self._lock:
            self._seq += 1
            row = HistoryRow(seq=self._seq, at=time.time(), action=action, text=text, data=data)
            self._rows.append(row)
            self.unsent.append(row)
            if len(self._rows) > _KEPT:
                lost = self._rows.popleft()
                if self.unsent[0] is lost:
                    self.unsent.popleft()
                self.lost += 1

    @property
    def first(self) -> int:
        """Number of the oldest one that is kept, or of the next."""
        with self._lock:
            return self._rows[0].seq if self._rows else self._seq + 1

    def batch(self) -> list[HistoryRow]:
        """The next ones to send."""
        with self._lock:
            return list(self.unsent)[:_BATCH]

    def sent(self, seq: int) -> None:
        """They are on their way, up to this one."""
        with self._lock:
            while self.unsent and self.unsent[0].seq <= seq:
                self.unsent.popleft()

    def again(self) -> None:
        """A new connection: what was not acknowledged is sent once more."""
        with self._lock:
            self.unsent = deque(self._rows)

    def acknowledge(self, seq: int) -> None:
        """The supervisor has committed them, up to this one."""
        with self._lock:
            while self._rows and self._rows[0].seq <= seq:
                self._rows.popleft()


def bare(row: HistoryRow) -> HistoryRow:
    """One whose data cannot be sent: at least that it was there, for the numbers have no gap."""
    try:
        shown = repr(row.data)[:_LONGEST]
    except Exception:  # what cannot be shown either
        shown = "..."
    return row.model_copy(update={"text": row.text[:_LONGEST], "data": {"unsendable": shown}})
