"""What a child is known to write to, it has before it writes."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from botproc.prefault import Prefault

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="page tables are read from /proc")

_PAGES = 64


def _own_pages(address: int) -> int:
    """How many of the pages from `address` on are this process's alone, by the kernel's own table."""
    with open("/proc/self/pagemap", "rb", buffering=0) as table:
        table.seek(address // mmap.PAGESIZE * 8)
        entries = table.read(_PAGES * 8)
    return sum(int.from_bytes(entries[at : at + 8], sys.byteorder) >> 56 & 1 for at in range(0, len(entries), 8))


def test_a_child_has_the_pages_that_another_wrote_to_and_no_others() -> None:
    memory = mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(_PAGES):
        memory[page * mmap.PAGESIZE] = 1
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)

    @contextmanager
    def trial() -> Iterator[int]:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(30)
                for page in range(0, _PAGES, 4):
                    memory[page * mmap.PAGESIZE] = 2
                os.write(write, b"1")
                signal.pause()
            finally:
                os._exit(1)
        try:
            os.read(read, 1)
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            os.close(write)

    prefault = Prefault()
    prefault.learn(trial())
    assert prefault.pages >= _PAGES // 4
    child = os.fork()
    if child == 0:
        before = _own_pages(address)
        done = prefault()
        # 200: the kernel cannot do it, and says so; the pages are then copied one by one as ever.
        os._exit(_own_pages(address) - before if done else 200)
    _, status = os.waitpid(child, 0)
    found = os.waitstatus_to_exitcode(status)
    if found == 200:
        pytest.skip("this kernel populates no list of ranges")
    assert found == _PAGES // 4
    del view
    memory.close()


def test_before_anything_is_learned_nothing_is_done() -> None:
    assert Prefault()() is False
