"""The launcher: a small process with everything imported, from which bots and gateways are forked.

    python -m botproc.launcher --socket PATH --generation G [--path DIR]... [--module M]... [--log FILE]

It has one thread and no ZeroMQ context (both checked before every fork), speaks msgpack over a unix
seqpacket socket, outlives the supervisor, and reaps a child only when its end has been acknowledged.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from botproc import child, logs, preload
from botproc.children import Child, NotMade
from botproc.collapse import collapse
from botproc.connections import Connections
from botproc.helper import Helper
from botproc.packing import one_arena, pack
from botproc.pollloop import PollLoop
from botproc.prefault import Prefault
from botproc.rehearsal import rehearse
from botproc.service import Service
from botproc.spares import COUNT, Spares
from botproc.strays import Strays
from botproc.trial import trial
from protocol.process import start_ticks
from protocol.spec import RunSpec

_HANDLED: Final = (signal.SIGTERM,)  # signals that this process has a handler of its own for

log = logging.getLogger("stablehand.launcher")


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
        self._prefault = prefault
        self._orphan_after = orphan_after
        self._loop = PollLoop()
        watch, unwatch = self._loop.watch, self._loop.unwatch
        self._helper = Helper(self._fork, watch, unwatch)
        self._spares = Spares(self._fork, watch, unwatch, loaded.code_hash, spares)
        self._service = Service(generation, loaded, self._start, self._helper.ask, self._spares)
        self._children = self._service.children
        self._strays = Strays(lambda: {child.pid for child in self._children} | {self._helper.pid} | self._spares.pids)
        news = self._children.unacknowledged
        self._connections = Connections(path, self._loop, self._service, news, self._spares.plan)

    def run(self) -> None:
        """Serve until nobody needs it any more."""
        try:
            while not self._unneeded():
                self._loop.turn(self._timeout())
                self._helper.expire()
                self._spares.refill()
                if time.monotonic() >= self._strays.due():
                    self._strays.sweep()
        finally:
            self._spares.dismiss()
            self._connections.leave()

    def _start(self, specs: list[RunSpec]) -> list[Child | NotMade]:
        """Fork children, or use spares, one right after the other; what else there is to do for them comes after."""
        forked = [self._forked(spec, specs) for spec in specs]
        return [
            made if isinstance(made, NotMade) else self._keep(spec, *made)
            for spec, made in zip(specs, forked, strict=True)
        ]

    def _forked(self, spec: RunSpec, together: list[RunSpec]) -> tuple[int, int] | NotMade:
        """(pid, a descriptor in the place of its pidfd)."""
        try:
            slot = os.open(os.devnull, os.O_RDONLY)  # asked for before there is a child
        except OSError as error:
            return NotMade.because(error)
        try:
            pid = self._spares.take(spec) or self._fork()
        except (OSError, RuntimeError) as error:
            os.close(slot)
            return NotMade.because(error)
        if pid == 0:
            together.clear()  # the others' keys are not for it
            if spec.kind == "bot":
                self._prefault()
            child.forked(spec, self._service.preload.code_hash)
        return pid, slot

    def _keep(self, spec: RunSpec, pid: int, slot: int) -> Child | NotMade:
        os.close(slot)
        watch = -1
        try:
            ticks = start_ticks(pid) or 0  # before its pidfd takes the descriptor that the slot was
            watch = os.pidfd_open(pid)
            new = self._children.make(spec, pid, ticks, self._service.preload.code_hash)
            self._loop.watch(watch, lambda: self._ended(new))
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if watch >= 0:
                os.close(watch)
            return NotMade.because(error)
        new.watch = watch
        self._children.add(new)
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
        if pid == 0:
            self._connections.forget_requests()
        return pid

    def _ended(self, ended: Child) -> None:
        notice = self._children.look(ended)
        if notice is None:
            return
        self._loop.unwatch(ended.watch)
        os.close(ended.watch)
        ended.watch = -1
        self._strays.sweep(f"({ended.name}, epoch {ended.epoch})")
        self._connections.notify(notice)

    def _timeout(self) -> float:
        due = min(self._helper.due(), self._spares.due(), self._strays.due())
        if self._connections.alone_since is not None and not self._children.living():
            due = min(due, self._connections.alone_since + self._orphan_after)
        return -1 if due == float("inf") else max(0.001, due - time.monotonic() + 0.001)

    def _unneeded(self) -> bool:
        if self._service.retired and not len(self._children):
            return True
        if self._connections.alone_since is None or self._children.living():
            return False
        return time.monotonic() - self._connections.alone_since >= self._orphan_after


def _reseed() -> None:
    """Random numbers of its own for the next child. Python's `random` sees to that after a fork; numpy's does not.

    Done before the fork, where it costs a tenth: a child would copy each page that it touches.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4)))  # an integer: ten times as fast as its own entropy


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
    one_arena()
    loaded = preload.Preload(options.module, options.path)
    loaded.load()
    preload.play(rehearse)
    if preload.threads() != 1:
        log.error("%d threads after the preload; bots could not be forked safely", preload.threads())
        return 1
    preload.freeze()
    pack()
    collapse()
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
