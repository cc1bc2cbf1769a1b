"""Answers about strategies, from a fork of the launcher: user code never runs in the launcher itself.

One helper serves all questions, one after the other. It is forked at the first question, killed when an
answer takes too long, and leaves the memory after some idle seconds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgpack

from botproc import child
from botproc.service import Reply, answer_about_strategies

_ANSWER_TIMEOUT: Final = 20.0
_IDLE: Final = 30.0
_LONGEST: Final = 1 << 20

log = logging.getLogger("stablehand.launcher")


class Helper:
    """`watch(fd, callback)` and `unwatch(fd)` join it to the launcher's loop; `fork` makes a child as the
    launcher does (0 in the child)."""

    def __init__(
        self,
        fork: Callable[[], int],
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._fork = fork
        self._watch = watch
        self._unwatch = unwatch
        self._socket: socket.socket | None = None
        self._pid = 0
        self._waiting: deque[tuple[dict[str, Any], Reply]] = deque()  # the first one has been asked
        self._due = float("inf")

    @property
    def pid(self) -> int:
        """Its process, or the last one; 0 before the first question."""
        return self._pid

    def ask(self, request: dict[str, Any], reply: Reply) -> None:
        """Queue a question; `reply` gets the answer, or the reason why there is none."""
        self._waiting.append((request, reply))
        if len(self._waiting) == 1:
            self._next()

    def due(self) -> float:
        """Monotonic time at which `expire` wants to be called."""
        return self._due

    def expire(self) -> None:
        """Too slow, or idle for long: end the helper."""
        if time.monotonic() >= self._due:
            self._end(f"no answer within {_ANSWER_TIMEOUT:g} s")

    def _next(self) -> None:
        try:
            if self._socket is None:
                self._begin()
            assert self._socket is not None
            self._socket.send(msgpack.packb(self._waiting[0][0]))
            self._due = time.monotonic() + _ANSWER_TIMEOUT
        except (OSError, RuntimeError) as error:
            self._end(str(error))

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = self._fork()
            if pid == 0:
                _serve(theirs)
        self._socket, self._pid = ours, pid
        ours.setblocking(False)
        self._watch(ours.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            frame = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            frame = b""
        if not frame:
            self._end("the strategy's module ended the process that imported it")
            return
        _, reply = self._waiting.popleft()
        self._due = time.monotonic() + _IDLE
        reply(msgpack.unpackb(frame))
        if self._waiting:
            self._next()

    def _end(self, reason: str) -> None:
        if self._socket is not None:
            self._unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        self._due = float("inf")
        if self._waiting:
            _, reply = self._waiting.popleft()
            log.warning("a question about strategies was not answered: %s", reason)
            reply({"ok": False, "error": reason, "errors": [{"param": "strategy", "message": reason, "broken": True}]})
        if self._waiting:
            self._next()


def _serve(theirs: socket.socket) -> NoReturn:
    try:
        child.detach(theirs.fileno())
        gc.freeze()  # as in every child
        gc.enable()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        while request := theirs.recv(_LONGEST):
            theirs.send(msgpack.packb(answer_about_strategies(msgpack.unpackb(request))))
    finally:
        os._exit(0)
