"""Raw output in files of a bounded size: NAME.out, NAME.out.1 and so on.

A program's output passes through its minder, which changes the file before it grows too large. A bot writes
into a file that it opened itself, as does all that it starts: that file is copied and cut, in its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

_COMPLAIN_AGAIN: Final = 60.0  # seconds between two warnings that the disk refuses

log = logging.getLogger("stablehand.program")


class RawLog:
    """Takes bytes. No file grows over `max_bytes`, and `backups` old ones are kept, so that both bound the disk.

    The descriptors `also` follow it from file to file. What the disk refuses is dropped and counted in `lost`:
    a full disk must stop no program.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int, also: tuple[int, ...] = ()) -> None:
        self._also = also
        self._path = path
        self._max = max_bytes
        self._backups = backups
        self.lost = 0
        self._complained = float("-inf")
        self._fd = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append; where a line would not fit, it goes into the next file."""
        view = memoryview(data)
        while view:
            try:
                if self._fd < 0:
                    self._open()
                room = self._max - self._size
                part = view[:room]
                if len(view) > room:
                    end = data.rfind(b"\n", len(data) - len(view), len(data) - len(view) + max(room, 0)) + 1
                    part = view[: max(0, end - (len(data) - len(view)))]
                    if not part and self._size == 0:
                        part = view[:room]  # a line longer than a whole file
                    if not part:
                        self._rotate()
                        continue
                written = os.write(self._fd, part)
            except OSError as error:
                self._give_up(len(view), error)
                return
            self._size += written
            view = view[written:]

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        self._size = os.fstat(self._fd).st_size
        for fd in self._also:  # a file that is gone would hold its space as long as somebody has it open
            os.dup2(self._fd, fd)

    def _rotate(self) -> None:
        self.close()
        shift(self._path, self._backups)
        self._open()

    def _give_up(self, size: int, error: OSError) -> None:
        self.lost += size
        if time.monotonic() - self._complained > _COMPLAIN_AGAIN:
            self._complained = time.monotonic()
            log.warning("output cannot be written, %d bytes lost so far: %s", self.lost, error)


def shift(path: Path, backups: int) -> None:
    """NAME becomes NAME.1, NAME.1 becomes NAME.2 .., and the oldest goes; with no backups NAME itself goes."""
    _make_room(path, backups)
    if backups:
        path.replace(path.with_name(f"{path.name}.1"))
    else:
        path.unlink()


def cut(path: Path, fd: int, max_bytes: int, backups: int) -> bool:
    """Where the file behind `fd` has outgrown `max_bytes`: keep its end as NAME.1, and empty it; whether it was so.

    `fd` must append (O_APPEND), so that whoever writes into it goes on at the new end and leaves no hole. What
    is written between the copy and the cut is lost. Raises OSError.
    """
    size = os.fstat(fd).st_size
    if size <= max_bytes:
        return False
    if backups:
        copy = path.with_name(f"{path.name}.0")
        with path.open("rb") as source, os.fdopen(_private(copy), "wb") as target:
            if os.fstat(source.fileno()).st_ino != os.fstat(fd).st_ino:
                return False  # the name is another file's by now
            source.seek(size - max_bytes)
            left = max_bytes
            while left and (chunk := source.read(min(left, 1 << 20))):
                target.write(chunk)
                left -= len(chunk)
        _make_room(path, backups)
        copy.replace(path.with_name(f"{path.name}.1"))
    os.ftruncate(fd, 0)
    return True


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _make_room(path: Path, backups: int) -> None:
    for number in range(backups - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").replace(path.with_name(f"{path.name}.{number + 1}"))
