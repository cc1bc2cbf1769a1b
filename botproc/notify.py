"""The socket on which a program tells how it is, as systemd's `sd_notify` has it: READY=1, STATUS=.., WATCHDOG=1.

One datagram holds one or more lines `KEY=VALUE`. https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

_LARGEST: Final = 65_536
_AT_ONCE: Final = 64


class NotifySocket:
    """A unix datagram socket in a private directory; removed by `close`. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def read(self) -> list[dict[str, str]]:
        """What was said since the last look, at most 64 datagrams of it, oldest first."""
        found: list[dict[str, str]] = []
        for _ in range(_AT_ONCE):
            try:
                # Descriptors that come along (BARRIER=1) are closed by the kernel, since nothing takes them:
                # which is the answer that such a sender waits for.
                datagram = self._socket.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                continue
            found.append(parse(datagram))
        return found

    def close(self) -> None:
        """Close and remove it."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def parse(datagram: bytes) -> dict[str, str]:
    """The assignments of a datagram; a line without `=` is none."""
    lines = datagram.decode("utf-8", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
