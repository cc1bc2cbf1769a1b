"""A TCP line between two parts of a test, which the test cuts and mends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class TcpLine:
    """Passes on what comes to one port of this machine to another. Close it at the end."""

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.mend()

    def cut(self) -> None:
        """Both sides see their connections end; who comes is refused."""
        with self._lock:
            listener, self._listener = self._listener, None
            ends, self._ends = self._ends, []
        for each in [*([listener] if listener else []), *ends]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        for each in [*([listener] if listener else []), *ends]:
            each.close()

    def mend(self) -> None:
        """Pass on what comes from now on."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._threads = []
        self._run(self._accept, self._listener)

    close = cut

    def _run(self, what: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self._target), 5.0)
            except OSError:
                here.close()
                continue
            there.settimeout(None)
            with self._lock:
                if self._listener is not listener:
                    here.close()
                    there.close()
                    return
                self._ends += [here, there]
            self._run(_pass, here, there)
            self._run(_pass, there, here)


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then so does the other."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
