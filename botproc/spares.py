"""Spare children of the launcher: forked and rehearsed while nothing is asked for, so that a crashed bot's
successor need not be.

A spare has a session of its own, holds no lock, no file and no connection, and waits for a specification
on a socket. When that is closed (the launcher has ended or is retired) it ends. Its code is the launcher's:
what the launcher was too old for, its spares are too old for with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgpack

from botproc import child
from protocol.spec import RunSpec

COUNT: Final = 2
_QUIET: Final = 0.1  # seconds without a launch before a spare is made: it must not hold up who is asked for
_FAILURES: Final = 3  # spares in a row that ended before they were used; then there are none any more
_LONGEST: Final = 1 << 20

log = logging.getLogger("stablehand.launcher")


@dataclass(slots=True)
class Spare:
    """One child that waits."""

    pid: int
    socket: socket.socket
    rehearsed: bool = False


class Spares:
    """`watch(fd, callback)` and `unwatch(fd)` join them to the launcher's loop; `fork` makes a child as the
    launcher does (0 in the child)."""

    def __init__(
        self,
        fork: Callable[[], int],
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        code_hash: str,
        count: int = COUNT,
    ) -> None:
        self._fork = fork
        self._watch = watch
        self._unwatch = unwatch
        self._code_hash = code_hash
        self._count = count
        self._all: list[Spare] = []
        self._failures = 0
        self._due = float("inf")

    @property
    def pids(self) -> set[int]:
        """The processes of those that wait or rehearse."""
        return {spare.pid for spare in self._all}

    @property
    def ready(self) -> int:
        """How many wait for a specification."""
        return sum(spare.rehearsed for spare in self._all)

    def take(self, spec: RunSpec) -> int | None:
        """The pid of a spare that lives this specification from now on; None where there is none."""
        self.plan()
        if spec.kind != "bot":
            return None
        for spare in [one for one in self._all if one.rehearsed]:
            try:
                spare.socket.send(msgpack.packb(spec.model_dump(exclude_unset=True)))
            except OSError:  # it has ended; its successor is made when there is time
                self._drop(spare)
                continue
            self._forget(spare)
            return spare.pid
        return None

    def plan(self) -> None:
        """There is work now: look again when it has been quiet for a while."""
        self._due = time.monotonic() + _QUIET if self._count and self._failures < _FAILURES else float("inf")

    def due(self) -> float:
        """Monotonic time at which `refill` wants to be called."""
        return self._due

    def refill(self) -> None:
        """Make one that is missing; the next one when that has rehearsed."""
        if time.monotonic() < self._due:
            return
        self._due = float("inf")
        if len(self._all) < self._count:
            try:
                self._make()
            except (OSError, RuntimeError) as error:  # bots are more important than spares: try again later
                log.warning("no spare could be made: %s", error)

    def dismiss(self) -> None:
        """End all, for good."""
        self._count = 0
        self._due = float("inf")
        for spare in list(self._all):
            self._drop(spare)

    def _make(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = self._fork()
            except BaseException:
                ours.close()
                raise
            if pid == 0:
                child.spare(theirs, self._code_hash)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        spare = Spare(pid, ours)
        self._all.append(spare)
        self._watch(ours.fileno(), lambda: self._heard(spare))

    def _heard(self, spare: Spare) -> None:
        try:
            word = spare.socket.recv(1)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word:
            spare.rehearsed = True
            self._failures = 0
        else:
            self._drop(spare)
            self._failures += 1
            if self._failures == _FAILURES:
                log.warning("%d spares in a row ended early; bots are forked when they are asked for", _FAILURES)
        if len(self._all) < self._count:
            self.plan()

    def _drop(self, spare: Spare) -> None:
        self._forget(spare)
        with contextlib.suppress(OSError):
            os.kill(spare.pid, signal.SIGKILL)  # unreaped, so surely still this child
            os.waitpid(spare.pid, 0)

    def _forget(self, spare: Spare) -> None:
        self._all.remove(spare)
        self._unwatch(spare.socket.fileno())
        spare.socket.close()
