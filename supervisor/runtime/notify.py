"""Words to systemd over its notify socket (sd_notify(3)), without its library: datagrams of `NAME=value` lines.

Where there is no `NOTIFY_SOCKET` nothing is said. The variables are taken out of the environment, so that no
bot speaks in the service's name; `environment` gives them back to the next image of the supervisor.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notify:
    """The service manager's ear, or nobody's."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.environment = {name: environ.pop(name) for name in _VARIABLES if name in environ}
        self._address = self.environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._owed: list[tuple[bool, bytes]] = []
        if self._address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    @property
    def watchdog(self) -> float | None:
        """Seconds within which it wants a sign of life from this process; None: it does not watch."""
        text, pid = self.environment.get("WATCHDOG_USEC", ""), self.environment.get("WATCHDOG_PID", "")
        if not (self.active and text.isdigit() and int(text)) or (pid and pid != str(os.getpid())):
            return None
        return int(text) / 1e6

    def say(self, *lines: str) -> None:
        """Send the lines, as one datagram. A manager that does not read is not waited for."""
        self._send(False, lines)

    def _send(self, owed: bool, lines: tuple[str, ...]) -> None:
        """What is `owed` is said again with the next words when the manager's queue is full, and in its order; a sign
        of life is worth nothing later."""
        if self._socket is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        self._owed.append((owed, "\n".join(lines).encode()))
        while self._owed:
            try:
                self._socket.sendto(self._owed[0][1], address)
            except BlockingIOError:
                self._owed = [one for one in self._owed if one[0]]
                return
            except OSError:
                self._owed.clear()  # it is gone: nothing here depends on it
                return
            del self._owed[0]

    def ready(self, status: str) -> None:
        """The start, or a reload, is complete."""
        self._send(True, ("READY=1", f"STATUS={status}"))

    def reloading(self, status: str) -> None:
        """The configuration, or the process image, is being renewed; `ready` ends it."""
        moment = f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
        self._send(True, ("RELOADING=1", moment, f"STATUS={status}"))

    def stopping(self, status: str, seconds: float) -> None:
        """It ends, and may take so many seconds for it."""
        self._send(True, ("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={status}"))

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
