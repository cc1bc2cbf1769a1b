"""What a part of a measurement takes of the machine's memory, whatever else runs there meanwhile.

A memory control group of its own, of version 1 or 2, counts the pages of its processes and what the kernel keeps for
them; files that are only cached are left out, for they go when memory is needed. Where no group may be made,
MemAvailable tells it, which everything on the machine changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.installation import QUIET, Installation, installation
from bench.peers.measure import available

_MOUNTS: Final = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_EMPTY_SECONDS: Final = 10.0


class Taken:
    """How much of the memory those take that were started in `joined`."""

    def __init__(self, folder: Path | None, home: Path) -> None:
        self._folder = folder
        self._home = home
        self._before = available()

    @property
    def by(self) -> str:
        """What counts: `control group` or `MemAvailable`."""
        return "control group" if self._folder is not None else "MemAvailable"

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Whom this process starts meanwhile is counted, and all whom they start; it is not counted itself."""
        self._move(self._folder)
        try:
            yield
        finally:
            self._move(self._home)

    def mb(self) -> float:
        """MB (10^6 bytes)."""
        if self._folder is None:
            return self._before - available()
        stat = dict(line.split() for line in (self._folder / "memory.stat").read_text("ascii").splitlines())
        if "total_rss" in stat:  # version 1
            kernel = (self._folder / "memory.kmem.usage_in_bytes").read_text("ascii")
            return (int(stat["total_rss"]) + int(stat["total_mapped_file"]) + int(kernel)) / 1e6
        return (int(stat["anon"]) + int(stat["file_mapped"]) + int(stat["kernel"])) / 1e6

    def _move(self, where: Path | None) -> None:
        if self._folder is not None and where is not None:
            (where / "cgroup.procs").write_text(str(os.getpid()), "ascii")


@contextmanager
def counted(folder: Path, count: int, bars_per_second: float = QUIET) -> Iterator[tuple[Installation, Taken]]:
    """An installation, and what all of it takes."""
    with _memory_group() as taken, ExitStack() as stack:
        with taken.joined():
            running = stack.enter_context(installation(folder, count, bars_per_second))
        yield running, taken


@contextmanager
def _memory_group() -> Iterator[Taken]:
    """A group for one installation, removed afterwards."""
    folder, home = _made()
    try:
        yield Taken(folder, home)
    finally:
        if folder is not None:
            _remove(folder)


def _made() -> tuple[Path | None, Path]:
    """A new group, and the one in which this process is; None where none can be made."""
    for mount in _MOUNTS:
        folder = mount / f"stablehand-bench-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / "memory.stat").exists():
            return folder, _home(mount)
        folder.rmdir()
    return None, Path()


def _home(mount: Path) -> Path:
    """The group of that hierarchy in which this process is."""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == ("memory" if mount.name == "memory" else ""):
            inside = mount / path.lstrip("/")
            return inside if inside.exists() else mount
    return mount


def _remove(folder: Path) -> None:
    """As soon as its last process has ended."""
    until = time.monotonic() + _EMPTY_SECONDS
    while time.monotonic() < until:
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
