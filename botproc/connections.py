"""The supervisors of a launcher: who is connected, what each asked, and the frames that wait for it.

msgpack over a unix seqpacket socket: one packet is one frame. Usually there is one supervisor; while one takes
over from another there are two, and the newest is told what happens.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgpack

from botproc.pollloop import PollLoop

_LONGEST_FRAME: Final = 1 << 20
_LONGEST_QUEUE: Final = 10_000  # frames that a slow reader may leave lying before its connection is closed
_AT_ONCE: Final = 8  # requests of one connection before the others, and ended children, have their turn

log = logging.getLogger("stablehand.launcher")


class Answering(Protocol):
    """What answers requests: `handle` one, and `carry_out` what waited for others of the same turn."""

    def handle(self, request: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        """Answer one request, now or later."""

    def carry_out(self) -> None:
        """There are no more for now."""


class _Connection:
    """One supervisor, and the frames that wait for it."""

    __slots__ = ("deaf", "frames", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.deaf = False  # it no longer reads; what it asked for before is still done
        self.frames: deque[bytes] = deque()
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_FRAME)


class Connections:
    """Listens on `path`. `unacknowledged`: the notices that a supervisor is told when it becomes the newest one;
    `welcomed` is called when one has come. Raises OSError where another listens, or the path cannot be used."""

    def __init__(
        self,
        path: Path,
        loop: PollLoop,
        answering: Answering,
        unacknowledged: Callable[[], list[dict[str, Any]]],
        welcomed: Callable[[], None],
    ) -> None:
        self._path = path
        self._loop = loop
        self._answering = answering
        self._unacknowledged = unacknowledged
        self._welcomed = welcomed
        self._all: dict[int, _Connection] = {}  # oldest first
        self._buffer = bytearray(_LONGEST_FRAME)
        self._used = 0  # bytes of it that were ever written to
        self.alone_since: float | None = time.monotonic()  # None while somebody is connected
        self._listener = _listen(path)
        self._inode = path.stat().st_ino
        loop.watch(self._listener.fileno(), self._accept)

    def notify(self, notice: dict[str, Any]) -> None:
        """Tell the newest; where there is nobody, the next one asks for what it missed."""
        if self._all:
            self._send(next(reversed(self._all.values())), notice)

    def forget_requests(self) -> None:
        """In a child: what supervisors asked for is not for it to find."""
        self._buffer[: self._used] = bytes(self._used)  # not freed: that would change how its allocator keeps memory

    def leave(self) -> None:
        """Take the path away, unless a successor has it by now."""
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:  # the peer is gone already, or there is no descriptor left: it will try again
            log.warning("a connection could not be accepted: %s", error)
            return
        connection = _Connection(accepted)
        fd = accepted.fileno()
        self._all[fd] = connection
        self.alone_since = None
        self._welcomed()
        self._loop.watch(fd, lambda: self._read(connection, _AT_ONCE), lambda: self._flush(connection))
        for notice in self._unacknowledged():
            self._send(connection, notice)

    def _read(self, connection: _Connection, at_most: int) -> None:
        for _ in range(at_most):
            if not self._read_one(connection):
                break
        self._answering.carry_out()

    def _read_one(self, connection: _Connection) -> bool:
        """Whether there was a request."""
        try:
            size = connection.socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if size == 0:
            self._close(connection)
            return False
        self._used = max(self._used, size)
        try:
            request = msgpack.unpackb(memoryview(self._buffer)[:size], raw=False)
        except Exception as error:  # msgpack raises a dozen kinds
            log.warning("a frame of %d bytes was dropped: %s", size, type(error).__name__)
            return True
        if isinstance(request, dict) and request.get("op") == "list":
            self._finish_others(connection)
        self._answering.handle(request, lambda values: self._send(connection, values))
        return True

    def _finish_others(self, asking: _Connection) -> None:
        """Before a `list` is answered: do what an earlier supervisor asked for, so that no run appears later."""
        for other in list(self._all.values()):
            if other is not asking:
                self._read(other, _LONGEST_QUEUE)

    def _send(self, connection: _Connection, values: dict[str, Any]) -> None:
        if connection.deaf or connection.socket.fileno() < 0:
            return  # it left before the answer came
        connection.frames.append(msgpack.packb(values))
        if len(connection.frames) > _LONGEST_QUEUE:
            log.warning("a supervisor that does not read is disconnected")
            self._close(connection)
        elif len(connection.frames) == 1:
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        fd = connection.socket.fileno()
        try:
            while connection.frames:
                connection.socket.send(connection.frames[0])
                connection.frames.popleft()
            self._loop.await_room(fd, False)
        except BlockingIOError:
            self._loop.await_room(fd, True)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                log.error("an answer of %d bytes is too large to send", len(connection.frames.popleft()))
                self._loop.await_room(fd, True)
                return
            connection.deaf = True  # closed when its last request is read
            connection.frames.clear()

    def _close(self, connection: _Connection) -> None:
        fd = connection.socket.fileno()
        if fd < 0:
            return
        was_newest = bool(self._all) and next(reversed(self._all)) == fd
        del self._all[fd]
        self._loop.unwatch(fd)
        connection.socket.close()
        if not self._all:
            self.alone_since = time.monotonic()
        elif was_newest:
            heir = next(reversed(self._all.values()))
            for notice in self._unacknowledged():
                self._send(heir, notice)


def _listen(path: Path) -> socket.socket:
    """The listening socket (0600)."""
    if path.exists():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()  # left by one that was killed
            else:
                raise OSError(errno.EADDRINUSE, f"another launcher listens on {path}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Under another name until it listens: who sees the path can connect.
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        listener.bind(str(unfinished))
    finally:
        os.umask(mask)
    listener.listen(16)
    unfinished.rename(path)
    listener.setblocking(False)
    return listener
