"""The pages that a forked bot is known to write to, copied in one system call at its begin.

A child copies each page of the launcher's that it writes to, one fault after another. A rehearsal shows which
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
from pathlib import Path
from typing import Final

_POPULATE_WRITE: Final = 23
_PROCESS_MADVISE: Final = 440  # the same number on every architecture
_MOST_RANGES: Final = 1024  # the kernel's limit for one call
_PRESENT: Final = 1 << 63
_OF_FILE: Final = 1 << 61
_OWN: Final = 1 << 56
_ENTRY: Final = 8  # bytes of /proc/PID/pagemap for a page
_PATIENCE: Final = 64 << 10

log = logging.getLogger("stablehand.preload")


class Prefault:
    """Ranges of pages; none before `learn`."""

    def __init__(self) -> None:
        self._ranges: ctypes.Array[ctypes.c_size_t] | None = None
        self._calls: tuple[tuple[int, int], ...] = ()  # (address of the ranges, how many) of each call
        self._syscall: Callable[..., int] | None = None
        self.pages = 0

    def learn(self, play: Callable[[], None]) -> None:
        """Fork a child that plays, and keep which pages of this process's it wrote to.

        The page numbers stay true for later children as long as this process maps nothing anew below them.
        """
        if sys.platform != "linux":
            return
        try:
            found = _written(play)
            libc = ctypes.CDLL(None, use_errno=True)
        except OSError as error:
            log.info("which pages a bot writes to cannot be learned: %s", error)
            return
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


def _written(play: Callable[[], None]) -> list[int]:
    """Numbers of the pages that a child wrote to while it played. Raises OSError."""
    areas = list(_writable())
    read, write = os.pipe()
    before = {page for page, _ in _pages(areas)}
    child = os.fork()
    if child == 0:
        try:
            play()
            own = array.array("Q", [page for page, own in _pages(areas) if own and page in before])
            with os.fdopen(write, "wb") as pipe:
                own.tofile(pipe)
        finally:
            os._exit(0)
    os.close(write)
    told = bytearray()
    try:
        while part := os.read(read, _PATIENCE):
            told += part
    finally:
        os.close(read)
        os.waitpid(child, 0)
    return sorted(array.array("Q", bytes(told)))


def _writable() -> Iterator[tuple[int, int]]:
    """(begin, end) of each private area that this process may write to, in pages."""
    size = os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        span, rights = line.split(" ", 2)[:2]
        if rights.startswith("rw") and rights.endswith("p"):
            begin, end = span.split("-")
            yield int(begin, 16) // size, int(end, 16) // size


def _pages(areas: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bool]]:
    """(number, whether it is this process's alone) of each page of memory that is present and of no file."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        for begin, end in areas:
            pagemap.seek(begin * _ENTRY)
            entries = array.array("Q", pagemap.read((end - begin) * _ENTRY))
            for number, entry in enumerate(entries, begin):
                if entry & _PRESENT and not entry & _OF_FILE:
                    yield number, bool(entry & _OWN)


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
