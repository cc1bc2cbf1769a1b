"""The pages that a forked bot is known to write to, copied in one system call at its begin.

A child copies each page of the launcher's that it writes to, one fault after another. A bot on trial shows which
these are; asked for together (Linux's MADV_POPULATE_WRITE, over a list of ranges) they cost a third less. Where
the kernel cannot, nothing is lost: the pages are copied when they are written to, as ever.
"""

from __future__ import annotations

import array
import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from botproc.areas import writable

_POPULATE_WRITE: Final = 23
_PROCESS_MADVISE: Final = 440  # the same number on every architecture
_MOST_RANGES: Final = 1024  # the kernel's limit for one call
_PRESENT: Final = 1 << 63
_OF_FILE: Final = 1 << 61
_OWN: Final = 1 << 56
_ENTRY: Final = 8  # bytes of /proc/PID/pagemap for a page

log = logging.getLogger("stablehand.preload")


class Prefault:
    """Ranges of pages; none before `learn`."""

    def __init__(self) -> None:
        self._ranges: ctypes.Array[ctypes.c_size_t] | None = None
        self._calls: tuple[tuple[int, int], ...] = ()  # (address of the ranges, how many) of each call
        self._syscall: Callable[..., int] | None = None
        self.pages = 0

    def learn(self, trial: AbstractContextManager[int]) -> None:
        """Keep which pages of this process's a child has written to, whose pid `trial` gives when it has done so.

        The page numbers stay true for later children as long as this process maps nothing anew below them.
        """
        if sys.platform != "linux":
            return
        try:
            areas = list(_writable())
            before = _entries("self", areas)
            with trial as pid:
                after = _entries(pid, areas)
            libc = ctypes.CDLL(None, use_errno=True)
        except OSError as error:
            log.info("which pages a bot writes to cannot be learned: %s", error)
            return
        found = list(_written(areas, before, after))
        ranges = list(_ranges(found))
        self.pages = len(found)
        size = os.sysconf("SC_PAGE_SIZE")
        flat = [value for first, count in ranges for value in (first * size, count * size)]
        self._ranges = (ctypes.c_size_t * len(flat))(*flat)
        base = ctypes.addressof(self._ranges)
        step = 2 * ctypes.sizeof(ctypes.c_size_t)
        self._calls = tuple(
            (base + begin * step, min(_MOST_RANGES, len(ranges) - begin))
            for begin in range(0, len(ranges), _MOST_RANGES)
        )
        self._syscall = libc.syscall
        self._syscall.argtypes = [ctypes.c_long] * 6
        self._syscall.restype = ctypes.c_long

    def __call__(self) -> bool:
        """In a child that has just been forked: have the pages. False where the kernel does not do it."""
        if self._syscall is None:
            return False
        try:
            own = os.pidfd_open(os.getpid())
        except OSError:
            return False
        try:
            return all(
                self._syscall(_PROCESS_MADVISE, own, base, count, _POPULATE_WRITE, 0) > 0 for base, count in self._calls
            )
        finally:
            os.close(own)


def _writable() -> Iterator[tuple[int, int]]:
    """(begin, end) of each private area that this process may write to, in pages."""
    size = os.sysconf("SC_PAGE_SIZE")
    return ((area.begin // size, area.end // size) for area in writable())


def _entries(pid: int | str, areas: Iterable[tuple[int, int]]) -> list[bytes]:
    """What the kernel says of the pages of these areas in a process: eight bytes a page. Raises OSError."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        return [os.pread(pagemap.fileno(), (end - begin) * _ENTRY, begin * _ENTRY) for begin, end in areas]


def _written(areas: Iterable[tuple[int, int]], before: list[bytes], after: list[bytes]) -> Iterator[int]:
    """Numbers of the pages that were memory of no file before, and are a child's alone afterwards."""
    for (begin, _), was, now in zip(areas, before, after, strict=True):
        for number, (old, new) in enumerate(zip(array.array("Q", was), array.array("Q", now), strict=False), begin):
            if all(entry & _PRESENT and not entry & _OF_FILE for entry in (old, new)) and new & _OWN:
                yield number


def _ranges(pages: list[int]) -> Iterator[tuple[int, int]]:
    """(first, how many) of each run of neighbours."""
    first = count = 0
    for page in pages:
        if count and page == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = page, 1
    if count:
        yield first, count
