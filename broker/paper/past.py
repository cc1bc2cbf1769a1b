"""What an account has done: all its deals, or all its orders that are done. Packed, because none is ever forgotten.

MetaTrader gives the whole history at any time, so it is kept whole: some 250 bytes a record, where the record itself
takes a kilobyte. What is asked for most (a ticket, a position, a span of time) is found without unpacking the others.
"""

from __future__ import annotations

import marshal
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

from broker.api import TradeDeal, TradeOrder

Record = TypeVar("Record", TradeDeal, TradeOrder)


class Past(Sequence[Record], Generic[Record]):
    """Records in the order of their times. `number`: the field that `ticket=` asks for; `time`: that of its
    milliseconds."""

    def __init__(self, kind: type[Record], *, number: str, time: str) -> None:
        self._kind: type[Record] = kind
        self._number, self._time = number, time
        self._packed: list[bytes] = []
        self._numbers, self._positions, self._times = array("q"), array("q"), array("q")

    def append(self, record: Record) -> None:
        """One more, not older than the last."""
        self._packed.append(marshal.dumps(tuple(record)))
        self._numbers.append(getattr(record, self._number))
        self._positions.append(record.position_id)
        self._times.append(getattr(record, self._time))

    def cut(self, length: int) -> None:
        """Forget those beyond the first `length`."""
        for each in (self._packed, self._numbers, self._positions, self._times):
            del each[length:]

    def numbered(self, number: int) -> tuple[Record, ...]:
        """Those of this number."""
        return self._where(self._numbers, number)

    def of_position(self, identifier: int) -> tuple[Record, ...]:
        """Those of this position."""
        return self._where(self._positions, identifier)

    def between(self, first: float, last: float) -> range:
        """Places of those between two times (ms), both included."""
        return range(bisect_left(self._times, first), bisect_right(self._times, last))

    def _where(self, column: array[int], value: int) -> tuple[Record, ...]:
        if not -(1 << 63) <= value < 1 << 63:
            return ()
        return tuple(self[int(at)] for at in np.flatnonzero(np.frombuffer(column, np.int64) == value))

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        if isinstance(at, slice):
            return [self._unpack(each) for each in self._packed[at]]
        return self._unpack(self._packed[at])

    def __iter__(self) -> Iterator[Record]:
        return map(self._unpack, self._packed)

    def _unpack(self, packed: bytes) -> Record:
        record: Record = self._kind(*marshal.loads(packed))
        return record
