"""Areas of this process's memory, as its kernel tells them (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_HEAP: Final = "[heap]"


class Area(NamedTuple):
    """Addresses from `begin` to before `end`, and the name of what is mapped there."""

    begin: int
    end: int
    name: str

    @property
    def of_no_file(self) -> bool:
        """Whether it is the heap, or memory that was only asked for."""
        return self.name in ("", _HEAP)


def writable() -> Iterator[Area]:
    """Each private area that this process may write to. Raises OSError where there is no /proc."""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        span, rights, _, _, _, *name = line.split(None, 5)
        if rights.startswith("rw") and rights.endswith("p"):
            begin, end = span.split("-")
            yield Area(int(begin, 16), int(end, 16), name[0].strip() if name else "")
