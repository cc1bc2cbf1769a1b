"""The memory of a launcher's objects in huge pages, so that a fork copies an entry for two megabytes, not 512.

A child that writes to one copies 4 KB of it, as ever: the kernel splits its view of the huge page first. Where the
kernel cannot (before Linux 6.1, or no huge pages), nothing is lost.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from pathlib import Path
from typing import Final

from botproc.areas import writable

_COLLAPSE: Final = 25  # MADV_COLLAPSE
_SIZE: Final = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")

log = logging.getLogger("stablehand.preload")


def collapse() -> None:
    """Have what is allocated now in huge pages, where whole ones fit. Linux only; nothing elsewhere."""
    if sys.platform != "linux":
        return
    try:
        size = int(_SIZE.read_text("utf-8"))
        areas = [area for area in writable() if area.of_no_file]
    except (OSError, ValueError):
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    made = sum(
        madvise(at, size, _COLLAPSE) == 0
        for begin, end, _ in areas
        for at in range(-(-begin // size) * size, end - size + 1, size)
    )
    log.info("%d huge pages of %d KB", made, size >> 10)
