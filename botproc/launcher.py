"""The launcher: a small process with everything imported, from which bots and gateways are forked.

    python -m botproc.launcher --socket PATH --generation G [--path DIR]... [--module M]... [--log FILE]

It has one thread and no ZeroMQ context (both checked before every fork), speaks msgpack over a unix
seqpacket socket, outlives the supervisor, and reaps a child only when its end has been acknowledged.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from botproc import child, logs, preload
from botproc.children import Child, Refused, describe
from botproc.helper import Helper
from botproc.packing import pack
from botproc.prefault import Prefault
from botproc.rehearsal import rehearse
from botproc.service import Service
from botproc.spares import COUNT, Spares
from botproc.strays import Strays
from botproc.trial import trial
from protocol.process import start_ticks
from protocol.spec import RunSpec

_LONGEST_FRAME: Final = 1 << 20
_LONGEST_QUEUE: Final = 10_000  # frames that a slow reader may leave lying before its connection is closed
_HANDLED: Final = (signal.SIGTERM,)  # signals that this process has a handler of its own for
_AT_ONCE: Final = 8  # requests of one connection before the others, and ended children, have their turn

log = logging.getLogger("stablehand.launcher")


class Connection:
    """One supervisor, and the frames that wait for it."""

    __slots__ = ("deaf", "frames", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.deaf = False  # it no longer reads; what it asked for before is still done
        self.frames: deque[bytes] = deque()
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_FRAME)


class Launcher:
    """One launcher on one socket. `orphan_after`: seconds that it stays without a child and a supervisor. `prefault`
    is called in each bot that has just been forked."""

    def __init__(
        self,
        path: Path,
        generation: str,
        loaded: preload.Preload,
        prefault: Prefault,
        orphan_after: float,
        spares: int,
    ) -> None:
        self._path = path
        self._prefault = prefault
        self._orphan_after = orphan_after
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._connections: dict[int, Connection] = {}  # oldest first; the newest gets the notices
        self._buffer = bytearray(_LONGEST_FRAME)
        self._helper = Helper(self._fork, self._watch, self._unwatch)
        self._spares = Spares(self._fork, self._watch, self._unwatch, loaded.code_hash, spares)
        self._service = Service(generation, loaded, self._start, self._helper.ask, self._spares)
        self._children = self._service.children
        self._strays = Strays(lambda: {child.pid for child in self._children} | {self._helper.pid} | self._spares.pids)
        self._alone_since: float | None = time.monotonic()
        self._listener = _listen(path)
        self._inode = path.stat().st_ino
        self._watch(self._listener.fileno(), self._accept)

    def run(self) -> None:
        """Serve until nobody needs it any more."""
        try:
            while not self._unneeded():
                for fd, events in self._epoll.poll(self._timeout()):
                    handler = self._handlers.get(fd)
                    if handler is None:
                        continue  # closed by an earlier event of this round
                    if events & select.EPOLLOUT and fd in self._connections:
                        self._flush(self._connections[fd])
                    if events & ~select.EPOLLOUT:
                        handler()
                self._helper.expire()
                self._spares.refill()
                if time.monotonic() >= self._strays.due():
                    self._strays.sweep()
        finally:
            self._spares.dismiss()
            self._leave()

    # --- connections -------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:  # the peer is gone already, or there is no descriptor left: it will try again
            log.warning("a connection could not be accepted: %s", error)
            return
        connection = Connection(accepted)
        fd = accepted.fileno()
        self._connections[fd] = connection
        self._alone_since = None
        self._spares.plan()
        self._watch(fd, lambda: self._read(connection, _AT_ONCE))
        for notice in self._children.unacknowledged():
            self._send(connection, notice)

    def _read(self, connection: Connection, at_most: int) -> None:
        for _ in range(at_most):
            if not self._read_one(connection):
                break
        self._service.carry_out()

    def _read_one(self, connection: Connection) -> bool:
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
        try:
            request = msgpack.unpackb(memoryview(self._buffer)[:size], raw=False)
        except Exception as error:  # msgpack raises a dozen kinds
            log.warning("a frame of %d bytes was dropped: %s", size, type(error).__name__)
            return True
        if isinstance(request, dict) and request.get("op") == "list":
            self._finish_others(connection)
        self._service.handle(request, lambda values: self._send(connection, values))
        return True

    def _finish_others(self, asking: Connection) -> None:
        """Before a `list` is answered: do what an earlier supervisor asked for, so that no run appears later."""
        for other in list(self._connections.values()):
            if other is not asking:
                self._read(other, _LONGEST_QUEUE)

    def _send(self, connection: Connection, values: dict[str, Any]) -> None:
        if connection.deaf or connection.socket.fileno() < 0:
            return  # it left before the answer came
        connection.frames.append(msgpack.packb(values))
        if len(connection.frames) > _LONGEST_QUEUE:
            log.warning("a supervisor that does not read is disconnected")
            self._close(connection)
        elif len(connection.frames) == 1:
            self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        try:
            while connection.frames:
                connection.socket.send(connection.frames[0])
                connection.frames.popleft()
            self._epoll.modify(fd, select.EPOLLIN)
        except BlockingIOError:
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                log.error("an answer of %d bytes is too large to send", len(connection.frames.popleft()))
                self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
                return
            connection.deaf = True  # closed when its last request is read
            connection.frames.clear()

    def _close(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        if fd < 0:
            return
        was_newest = bool(self._connections) and next(reversed(self._connections)) == fd
        del self._connections[fd]
        self._unwatch(fd)
        connection.socket.close()
        if not self._connections:
            self._alone_since = time.monotonic()
        elif was_newest:
            heir = next(reversed(self._connections.values()))
            for notice in self._children.unacknowledged():
                self._send(heir, notice)

    # --- children ----------------------------------------------------------------------------------

    def _start(self, specs: list[RunSpec]) -> list[Child | Refused]:
        """Fork children, or use spares, one right after the other; what else there is to do for them comes after."""
        forked = [self._forked(spec, specs) for spec in specs]
        return [
            made if isinstance(made, Refused) else self._keep(spec, *made)
            for spec, made in zip(specs, forked, strict=True)
        ]

    def _forked(self, spec: RunSpec, together: list[RunSpec]) -> tuple[int, int] | Refused:
        """(pid, a descriptor in the place of its pidfd)."""
        try:
            slot = os.open(os.devnull, os.O_RDONLY)  # asked for before there is a child
        except OSError as error:
            return Refused(describe(error))
        try:
            pid = self._spares.take(spec) or self._fork()
        except (OSError, RuntimeError) as error:
            os.close(slot)
            return Refused(describe(error) if isinstance(error, OSError) else str(error))
        if pid == 0:
            together.clear()  # the others' keys are not for it
            self._buffer = bytearray()
            if spec.kind == "bot":
                self._prefault()
            child.forked(spec, self._service.preload.code_hash)
        return pid, slot

    def _keep(self, spec: RunSpec, pid: int, slot: int) -> Child | Refused:
        os.close(slot)
        try:
            watch = os.pidfd_open(pid)
            ticks = start_ticks(pid) or 0
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Refused(describe(error))
        new = self._children.add(spec, pid, ticks, self._service.preload.code_hash)
        new.watch = watch
        self._watch(watch, lambda: self._ended(new))
        return new

    def _fork(self) -> int:
        if preload.threads() != 1:
            raise RuntimeError("the launcher has more than one thread: a fork would not be safe")
        _reseed()
        # A signal between the fork and the child's first steps must not run the launcher's handlers there.
        # Those that have none (all but one) need no blocking: a set of 64 of them costs more than the rest here.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        return pid

    def _ended(self, ended: Child) -> None:
        notice = self._children.look(ended)
        if notice is None:
            return
        self._unwatch(ended.watch)
        os.close(ended.watch)
        ended.watch = -1
        self._strays.sweep(f"({ended.name}, epoch {ended.epoch})")
        if self._connections:
            self._send(next(reversed(self._connections.values())), notice)

    # --- the loop ----------------------------------------------------------------------------------

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _timeout(self) -> float:
        due = min(self._helper.due(), self._spares.due(), self._strays.due())
        if self._alone_since is not None and not self._children.living():
            due = min(due, self._alone_since + self._orphan_after)
        return -1 if due == float("inf") else max(0.001, due - time.monotonic() + 0.001)

    def _unneeded(self) -> bool:
        if self._service.retired and not len(self._children):
            return True
        if self._alone_since is None or self._children.living():
            return False
        return time.monotonic() - self._alone_since >= self._orphan_after

    def _leave(self) -> None:
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # a successor may have the path by now
                self._path.unlink()


def _reseed() -> None:
    """Random numbers of its own for the next child. Python's `random` sees to that after a fork; numpy's does not.

    Done before the fork, where it costs a tenth: a child would copy each page that it touches.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4)))  # an integer: ten times as fast as its own entropy


def _listen(path: Path) -> socket.socket:
    """The listening socket (0600). Raises OSError where another launcher listens, or the path cannot be used."""
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


def _stand_alone() -> None:
    """A session of its own, deaf to the terminal, and as many descriptors as the system allows."""
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # the leader of a group cannot; its starter chose so
            os.setsid()
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m botproc.launcher", description="Forks bots and gateways.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the unix socket to listen on")
    parser.add_argument("--generation", required=True, help="name of this launcher, told in `list`")
    parser.add_argument("--path", action="append", default=[], help="folder of the user's modules")
    parser.add_argument("--module", action="append", default=[], help="user module to import before forking")
    parser.add_argument("--log", type=Path, help="log file (JSON lines)")
    parser.add_argument("--orphan-after", type=float, default=60.0, help="seconds to stay when nobody needs it")
    parser.add_argument("--spares", type=int, default=COUNT, help="children that wait, rehearsed, for a bot")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process. 1: the socket is taken or cannot be made, or a module left a thread behind."""
    options = _arguments(arguments)
    _stand_alone()
    logs.for_daemon(options.log, generation=options.generation, pid=os.getpid())
    loaded = preload.Preload(options.module, options.path)
    loaded.load()
    preload.play(rehearse)
    if preload.threads() != 1:
        log.error("%d threads after the preload; bots could not be forked safely", preload.threads())
        return 1
    preload.freeze()
    pack()
    prefault = Prefault()
    prefault.learn(trial(options.socket.parent))  # before it listens: who connects is answered at once
    try:
        launcher = Launcher(options.socket, options.generation, loaded, prefault, options.orphan_after, options.spares)
    except OSError as error:
        log.error("the launcher cannot listen: %s", error)
        return 1
    log.info("ready: %s, %d modules, code %s", options.generation, len(sys.modules), loaded.code_hash)
    preload.freeze()
    launcher.run()
    log.info("nobody needs this launcher any more")
    gc.unfreeze()
    return 0


if __name__ == "__main__":
    sys.exit(main())
