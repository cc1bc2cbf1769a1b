"""The loop of a launcher: descriptors and who is called when one is ready. One thread, level triggered (Linux)."""

from __future__ import annotations

import select
from collections.abc import Callable


class PollLoop:
    """`turn` waits once. A handler may watch and unwatch, also what is ready in the same turn."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Callable[[], None], Callable[[], None] | None]] = {}

    def watch(self, fd: int, readable: Callable[[], None], writable: Callable[[], None] | None = None) -> None:
        """Call `readable` while there is something to read; `writable` only after `await_room`."""
        self._handlers[fd] = readable, writable
        self._epoll.register(fd, select.EPOLLIN)

    def await_room(self, fd: int, wanted: bool) -> None:
        """Whether `writable` is to be called while the descriptor takes something."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def unwatch(self, fd: int) -> None:
        """Forget it; where it is not known, nothing."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout: float) -> None:
        """Wait for so many seconds at most (-1: without end), and call whoever is concerned."""
        for fd, events in self._epoll.poll(timeout):
            readable, writable = self._handlers.get(fd, (None, None))
            if readable is None:
                continue  # closed by an earlier event of this turn
            if events & select.EPOLLOUT and writable is not None:
                writable()
            if events & ~select.EPOLLOUT:
                readable()
