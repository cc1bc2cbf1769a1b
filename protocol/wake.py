"""A descriptor that any thread can make readable, so that a loop which polls sockets looks up at once."""

from __future__ import annotations

import os
import socket
import sys

__all__ = ["WakeFd"]


class _WakePair:
    """Readable from `set` until `clear`. Safe to set from any thread and from a signal handler.

    A socket pair, because ZeroMQ's poller on Windows knows sockets only.
    """

    __slots__ = ("_read", "_write")

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to poll for reading; -1 once closed."""
        return self._read.fileno()

    def set(self) -> None:
        """Make it readable. Setting twice is setting once."""
        try:
            self._write.send(b"\0")
        except OSError:
            return  # full: it is readable already; or closed: nobody waits any more

    def clear(self) -> None:
        """Make it unreadable. Call this first, then look at what is to be done: nothing is missed."""
        try:
            while len(self._read.recv(4096)) == 4096:
                pass
        except OSError:
            return  # nothing was set, or closed

    def close(self) -> None:
        """Give both descriptors back."""
        self._read.close()
        self._write.close()


if sys.platform == "linux":

    class WakeFd:
        """Readable from `set` until `clear`. Safe to set from any thread and from a signal handler.

        An eventfd: one descriptor instead of the two sockets that it takes elsewhere, and a tenth of their cost.
        """

        __slots__ = ("_fd",)

        def __init__(self) -> None:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

        def fileno(self) -> int:
            """The descriptor to poll for reading; -1 once closed."""
            return self._fd

        def set(self) -> None:
            """Make it readable. Setting twice is setting once."""
            try:
                os.eventfd_write(self._fd, 1)
            except OSError:
                return  # full: it is readable already; or closed: nobody waits any more

        def clear(self) -> None:
            """Make it unreadable. Call this first, then look at what is to be done: nothing is missed."""
            try:
                os.eventfd_read(self._fd)
            except OSError:
                return  # nothing was set, or closed

        def close(self) -> None:
            """Give the descriptor back."""
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

        def __del__(self) -> None:
            if hasattr(self, "_fd"):
                self.close()

else:
    WakeFd = _WakePair
