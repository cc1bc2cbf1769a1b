"""Who a process is: (kernel boot id, pid, start ticks), never a wall-clock float.

A pid alone is reused; psutil's `create_time` moves with the wall clock. The start ticks of
`/proc/PID/stat` field 22 (clock ticks since boot) do not, and neither does Windows' creation FILETIME.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever: `boot_id` of the kernel, `pid`, `start_ticks` in the kernel's own unit."""

    boot_id: str
    pid: int
    start_ticks: int


@cache
def kernel_boot_id() -> str:
    """An id that changes with every boot of the machine."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    import psutil

    # Elsewhere the boot time, coarse enough that a small correction of the clock does not change it.
    return f"boot-{int(psutil.boot_time()) // 60}"


def start_ticks(pid: int) -> int | None:
    """Start time of a living process in kernel ticks; None when it is gone. A zombie is dead."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                raw = stat.read()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The command name may hold spaces and brackets: count the fields from the last ')'.
        fields = raw[raw.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    return _start_ticks_portable(pid)


def _start_ticks_portable(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        # On Windows and macOS psutil reads the kernel's creation stamp; 100 ns is FILETIME's unit.
        return round(process.create_time() * 10_000_000)
    except psutil.NoSuchProcess:
        return None


def identity_of(pid: int) -> ProcessIdentity | None:
    """The identity of a living process, or None when there is none with that pid."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessIdentity(kernel_boot_id(), pid, ticks)


def own_identity() -> ProcessIdentity:
    """The identity of the calling process. Not cached: a fork has another."""
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process still lives: same boot, same pid, same start; a zombie does not."""
    return identity.boot_id == kernel_boot_id() and start_ticks(identity.pid) == identity.start_ticks
