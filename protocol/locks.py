"""Exclusive locks on files: one supervisor per data directory, one process per bot, one per account.

The lock lives as long as the descriptor, so it goes with its process however that dies. The file is
never unlinked: two processes could otherwise hold locks on two files of the same name. It names its
holder, for a person and for the supervisor, which confirms that pid dead before it starts a successor.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from protocol.errors import StablehandError

_NOTE: Final = 300  # letters of a note


class LockHeld(StablehandError):
    """Another process holds the lock."""

    def __init__(self, path: Path, pid: int | None, note: str = "") -> None:
        self.path = path
        self.pid = pid
        self.note = note
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{path} is locked by {holder}", code="conflict")


class FileLock:
    """An exclusive lock, taken in the constructor and held until `release` or the end of the process.

    Raises LockHeld (with the holder's pid and note where the file tells them) when another process has it.
    `note` is one line for whoever meets the lock; a file is locked either always with one, or never.
    Open it after a fork, never before: a lock belongs to the open file, which a fork shares. `inherited` is the
    descriptor that an earlier image of this very process left open; it is used when it is of that file.
    """

    def __init__(self, path: Path, *, inherited: int = -1, note: str = "") -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
        if _is_of(inherited, path):
            self._fd = inherited
        else:
            try:
                self._fd = os.open(path, flags, 0o600)
            except FileNotFoundError:  # looked at only then: every start of every bot comes by here
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._fd = os.open(path, flags, 0o600)
        os.set_inheritable(self._fd, False)
        if not _try_lock(self._fd):
            pid, said = _holder(self._fd), _note(self._fd)
            os.close(self._fd)
            self._fd = -1
            raise LockHeld(path, pid, said)
        # The pid is written to a fixed width and in place, so that a reader never sees half of it.
        try:
            said = f"{note.splitlines()[0][:_NOTE]}\n" if note else ""
            _pwrite(self._fd, f"{os.getpid():>12}\n{said}".encode())
        except OSError:  # the disk is full: better no pid than that of an earlier holder
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)

    def release(self) -> None:
        """Give the lock back. The file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """The descriptor, for a child that must close it."""
        return self._fd

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_of(fd: int, path: Path) -> bool:
    """Whether the descriptor is open on the file of that name."""
    if fd < 0:
        return False
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now. Asked by taking it for a moment, so ask only where nobody is starting."""
    try:
        FileLock(path).release()
    except LockHeld:
        return True
    return False


def holder_of(path: Path) -> int | None:
    """The pid that the lock file names, whether or not it still holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    try:
        return _holder(fd)
    finally:
        os.close(fd)


def _holder(fd: int) -> int | None:
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, 13).strip()
    return int(text) if text.isdigit() else None


def _note(fd: int) -> str:
    """The holder's second line; what may stand behind that is of an earlier holder."""
    os.lseek(fd, 13, os.SEEK_SET)
    return os.read(fd, 4 * _NOTE).partition(b"\n")[0].decode("utf-8", "replace").strip()


def _pwrite(fd: int, data: bytes) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, data)


if sys.platform == "win32":
    import msvcrt

    # msvcrt locks a byte range and denies reading it: lock one far behind the pid, so that all may read that.
    _BYTE = 1 << 20

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
