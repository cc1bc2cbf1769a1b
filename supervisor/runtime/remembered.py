"""Answers by the id of their request, so that a request that comes again is not done again. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MOST: Final = 5_000
_MOST_BYTES: Final = 32 * 1024 * 1024
_LARGEST: Final = 64 * 1024  # larger answers are of reads, which may be done again
_LARGEST_READ: Final = 1024  # so may all others: a status each second would push the answers out that matter


@dataclass(frozen=True, slots=True)
class Remembered:
    """A request, by the digest of what it asked, and its answer; None while that is on its way."""

    digest: str
    answer: bytes | None


class Answers:
    """The last of them; the oldest go first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Remembered] = OrderedDict()
        self.bytes = 0

    def get(self, key: str) -> Remembered | None:
        """What is known of a request id."""
        return self._known.get(key)

    def begin(self, key: str, digest: str) -> None:
        """A request is being done."""
        self._known[key] = Remembered(digest, None)
        self._shrink()

    def finish(self, key: str, answer: bytes, *, read: bool) -> None:
        """Its answer; one that is too large to keep is forgotten."""
        known = self._known.get(key)
        if known is None:
            return
        if len(answer) > (_LARGEST_READ if read else _LARGEST):
            del self._known[key]
            return
        self._known[key] = Remembered(known.digest, answer)
        self.bytes += len(answer)
        self._shrink()

    def _shrink(self) -> None:
        while len(self._known) > _MOST or self.bytes > _MOST_BYTES:
            _, oldest = self._known.popitem(last=False)
            self.bytes -= len(oldest.answer or b"")

    def __len__(self) -> int:
        return len(self._known)
