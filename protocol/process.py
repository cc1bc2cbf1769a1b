"""Who a process is: (kernel boot id, pid, start ticks), never a wall-clock float.

A pid alone is reused; psutil's `create_time` moves with the wall clock. The start ticks of
`/proc/PID/stat` field 22 (clock ticks since boot) do not, and neither does Windows' creation FILETIME.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


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


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds that a process has used in all its threads; None when it is gone."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                raw = stat.read()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = raw[raw.rindex(b")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def age_of(identity: ProcessIdentity) -> float | None:
    """Seconds since the process started, by the kernel's own clock, which no step of the wall clock moves.

    None where the kernel tells no such time (its stamps are wall-clock ones), or it is of another boot.
    """
    if sys.platform != "linux" or identity.boot_id != kernel_boot_id():
        return None
    booted = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, booted - identity.start_ticks / os.sysconf("SC_CLK_TCK"))


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


def children_of(pid: int) -> list[int]:
    """Pids of the children of a process, zombies too; empty where it is gone or the system cannot tell."""
    if sys.platform == "linux":
        found: list[int] = []
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_bytes().split())
        except OSError:
            return found  # it ended meanwhile, or the kernel was built without this file
        return found
    import psutil

    try:
        return [one.pid for one in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def descendants_of(pid: int) -> list[ProcessIdentity]:
    """The living processes below a process, its children first."""
    found: dict[int, ProcessIdentity] = {}
    todo = [pid]
    while todo:
        for child in children_of(todo.pop()):
            identity = identity_of(child) if child not in found else None
            if identity is not None:
                found[child] = identity
                todo.append(child)
    return list(found.values())


def adopt_orphans() -> bool:
    """From now on processes below this one whose parent has ended become children of this one, not of init.

    Linux only (`prctl(PR_SET_CHILD_SUBREAPER)`); False elsewhere. Not inherited by children.
    """
    return _prctl(36, 1)


def die_with_parent(number: int) -> bool:
    """From now on this process gets this signal when its parent ends (Linux; False elsewhere)."""
    return _prctl(1, number)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return int(_libc().prctl(option, value, 0, 0, 0)) == 0


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)
