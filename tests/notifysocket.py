"""A service manager's end of the notify socket, for tests: what was said, and by whom."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import eventually

_CREDENTIALS = struct.Struct("3i")


class NotifySocket:
    """Listens at a path, or at an abstract name (`@name`)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.said: list[tuple[int, dict[str, str]]] = []  # (pid of the sender, its variables)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink()

    def listen(self) -> list[tuple[int, dict[str, str]]]:
        """All that was said so far."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(8192, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return self.said
            (_, _, packed), *_ = ancillary
            lines = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.said.append((_CREDENTIALS.unpack(packed)[0], lines))

    def wait(self, name: str, *, after: int = 0, timeout: float = 30.0) -> dict[str, str]:
        """The first datagram after number `after` that has this variable."""
        return eventually(
            lambda: next((lines for _, lines in self.listen()[after:] if name in lines), None),
            timeout,
            what=f"{name} over the notify socket",
        )
