"""Free memory between a launcher's objects is taken, so that what its children allocate lies together.

A process that has imported a lot has holes on thousands of pages, and allocates from these first. A forked
child would so write to a page here and a page there, and copy each; after this its new objects share pages of
their own. It costs the launcher a megabyte or two, which its children share.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

#: CPython's allocator of objects up to 512 bytes (Objects/obmalloc.c): blocks of a multiple of 16 bytes, in pools
#: of 16 KB that begin with a header.
_POOL: Final = 16 << 10
_POOL_HEADER: Final = 48
_STEP: Final = 16
_LARGEST: Final = 512
_BYTES_HEAD: Final = sys.getsizeof(b"")
_IN_A_ROW: Final = 4  # blocks one after the other from a pool's begin on: nobody used this pool before
_MOST: Final = 50_000  # of one size; then there is no end to the holes, or this allocator is another one
_SMALLEST_CHUNK: Final = 24
_LARGEST_CHUNK: Final = 64 << 10

_ARENA_MAX: Final = -8  # glibc's M_ARENA_MAX

_kept: Final[list[Any]] = []

log = logging.getLogger("stablehand.preload")


def one_arena() -> None:
    """Let all threads of this process, and of its children, allocate from one heap (glibc; nothing elsewhere).

    Each thread of a child would otherwise map a heap of its own and write to pages of its own there. They hold Python's
    lock most of the time, so they rarely wait for each other here.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_ARENA_MAX, 1)


def pack() -> None:
    """Take what is free between the objects of this process, for good. Elsewhere than on Linux, or where objects come
    from another allocator (`PYTHONMALLOC`, `python -X dev`): nothing."""
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return
    taken: list[object] = []
    for size in range(_STEP, _LARGEST + 1, _STEP):
        if not _fill_pools(size, taken):
            log.info("holes between objects are not taken: their allocator is another one")
            return
    _kept.extend(taken)
    log.info("%d small holes were taken, and %d bytes of larger ones", len(taken), _fill_heap())


def _fill_pools(size: int, taken: list[object]) -> bool:
    """Allocate blocks of this size until they come from a fresh pool; False where they never do."""
    make = _maker(size)
    before = in_a_row = 0
    for _ in range(_MOST):
        block = make()
        taken.append(block)
        address = id(block)
        if address % _POOL == _POOL_HEADER:
            in_a_row = 1
        else:
            in_a_row = in_a_row + 1 if in_a_row and address == before + size else 0
        if in_a_row == _IN_A_ROW:
            return True
        before = address
    return False


def _maker(size: int) -> Callable[[], object]:
    """What makes an object of so many bytes that the garbage collector does not know."""
    if size == _STEP:
        return object
    if size < _BYTES_HEAD:
        return lambda: float(_LARGEST)
    return lambda: bytes(size - _BYTES_HEAD)


class _Info(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _fill_heap() -> int:
    """The same for larger blocks: allocate until only the heap's end is left; the bytes taken."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # not glibc, or one before 2.33
        return 0
    libc.mallinfo2.restype = _Info
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_ssize_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc_trim(0)
    info = libc.mallinfo2()
    end = int(libc.sbrk(0)) - int(info.keepcost)
    begin = end - int(info.arena)
    size = _LARGEST_CHUNK
    while size >= _SMALLEST_CHUNK:
        chunk = libc.malloc(size)
        if chunk is None or not begin <= chunk < end:
            libc.free(chunk)
            size -= max(8, size // 5)
    left = libc.mallinfo2()
    return int(info.fordblks - info.keepcost) - int(left.fordblks - left.keepcost)
