"""The memory of a launcher's objects in huge pages, so that a fork copies an entry for two megabytes, not 512.

A child that writes to one copies 4 KB of it, as ever: the kernel splits its view of the huge page first. Where the
kernel cannot (before Linux 6.1, or no huge pages), nothing is lost.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_COLLAPSE: Final = 25  # MADV_COLLAPSE
_SIZE: Final = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")

log = logging.getLogger("stablehand.preload")


def collapse() -> None:
    """Have what is allocated now in huge pages, where whole ones fit. Linux only; nothing elsewhere."""
    if sys.platform != "linux":
        return
    try:
        size = int(_SIZE.read_text("utf-8"))
        areas = list(_anonymous())
    except (OSError, ValueError):
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    made = sum(
        madvise(at, size, _COLLAPSE) == 0
        for begin, end in areas
        for at in range(-(-begin // size) * size, end - size + 1, size)
    )
    log.info("%d huge pages of %d KB", made, size >> 10)


def _anonymous() -> Iterator[tuple[int, int]]:
    """(begin, end) of each private area of no file that this process may write to: heap and mapped memory."""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        span, rights, _, _, _, *name = line.split(None, 5)
        if rights == "rw-p" and (not name or name[0].strip() == "[heap]"):
            begin, end = span.split("-")
            yield int(begin, 16), int(end, 16)
