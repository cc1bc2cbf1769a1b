"""The launcher's twin where there is no fork: it starts each bot as a fresh `python -m botproc`.

    python -m botproc.spawner --socket PATH --generation G [--tcp --keys DIR] ...

The same requests, over a ZeroMQ ROUTER: `ipc://PATH`, or loopback tcp with CURVE, where the file PATH then
holds the address. Each bot imports everything by
itself: some 40 MB and half a second of CPU each, where a fork takes 6 MB and milliseconds.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgpack
import zmq
from zmq.utils.monitor import parse_monitor_message

from botproc import logs, preload
from botproc.answers import Answers
from botproc.children import ZOMBIES, Child, NotMade
from botproc.doorkeeper import Doorkeeper
from botproc.service import Service
from protocol.keys import KeyPair, load_or_create, secure_server
from protocol.process import start_ticks
from protocol.spec import RunSpec
from protocol.wake import WakeFd

_BACKLOG: Final = 4096
_MONITORED: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

log = logging.getLogger("stablehand.spawner")


class Spawner:
    """One spawner on one address. On tcp: `pair`, its own keys, and `client`, the one public key let in."""

    def __init__(
        self,
        address: str,
        generation: str,
        loaded: preload.Preload,
        orphan_after: float,
        pair: KeyPair | None = None,
        client: str = "",
    ) -> None:
        self._orphan_after = orphan_after
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._doorkeeper = Doorkeeper(self._context, {client}) if pair is not None else None
        self._router: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._router.router_mandatory = True  # a peer that is gone is an error here, not silence
        self._router.backlog = _BACKLOG
        self._router.sndhwm = self._router.rcvhwm = 10_000
        secure_server(self._router, pair)
        self._monitor: zmq.Socket[bytes] = self._router.get_monitor_socket(_MONITORED)
        self._router.bind(address)
        self.address = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._wake = WakeFd()
        self._endings: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._peers: dict[bytes, None] = {}  # oldest first; the newest gets the notices
        self._connected = 0
        self._alone_since: float | None = time.monotonic()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # for this thread to make
        self._answers = Answers(self._deliver)
        self._service = Service(generation, loaded, self._start, self._answers.ask)
        self._children = self._service.children
        self._stopping = False

    def stop(self) -> None:
        """Leave soon; the children live on. Safe in a signal handler."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Serve until nobody needs it any more."""
        poller = zmq.Poller()
        sources: list[Any] = [self._router, self._monitor, self._wake.fileno()]
        if self._doorkeeper is not None:
            sources.append(self._doorkeeper.socket)
        for source in sources:
            poller.register(source, zmq.POLLIN)
        while not self._unneeded():
            ready: dict[Any, int] = dict(poller.poll(self._timeout()))
            if self._doorkeeper is not None and self._doorkeeper.socket in ready:
                self._doorkeeper.answer()
            if self._wake.fileno() in ready:
                self._wake.clear()
                self._read_endings()
                while not self._calls.empty():
                    self._calls.get()()
            if self._monitor in ready:
                self._read_monitor()
            if self._router in ready:
                self._read_requests()
        self._answers.close()
        self._router.disable_monitor()
        self._context.destroy(linger=200)

    def _deliver(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        self._wake.set()

    # --- supervisors -------------------------------------------------------------------------------

    def _read_requests(self) -> None:
        while True:
            try:
                peer, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if peer not in self._peers:
                self._peers[peer] = None
                for notice in self._children.unacknowledged():
                    self._send(peer, notice)
            try:
                request = msgpack.unpackb(frames[-1] if frames else b"", raw=False)
            except Exception as error:  # msgpack raises a dozen kinds
                log.warning("a frame was dropped: %s", type(error).__name__)
                continue
            self._service.handle(request, lambda values, peer=peer: self._send(peer, values))  # type: ignore[misc]
            self._service.carry_out()

    def _send(self, peer: bytes, values: dict[str, Any]) -> None:
        try:
            self._router.send_multipart([peer, msgpack.packb(values)], zmq.NOBLOCK)
        except zmq.ZMQError as error:  # EHOSTUNREACH: it left; EAGAIN: it does not read, and will connect anew
            log.info("a supervisor is gone: %s", error)
            self._forget(peer)

    def _forget(self, peer: bytes) -> None:
        was_newest = bool(self._peers) and next(reversed(self._peers)) == peer
        self._peers.pop(peer, None)
        if was_newest and self._peers:
            heir = next(reversed(self._peers))
            for notice in self._children.unacknowledged():
                self._send(heir, notice)

    def _read_monitor(self) -> None:
        while self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            self._connected += 1 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else -1
            self._connected = max(0, self._connected)  # a connection that failed its handshake ends only
            self._alone_since = None if self._connected else time.monotonic()

    # --- children ----------------------------------------------------------------------------------

    def _start(self, specs: list[RunSpec]) -> list[Child | NotMade]:
        made: list[Child | NotMade] = []
        for spec in specs:
            try:
                made.append(self._start_one(spec))
            except (OSError, RuntimeError) as error:
                made.append(NotMade.because(error))
        return made

    def _start_one(self, spec: RunSpec) -> Child:
        """Start a fresh interpreter and give it the specification over its stdin. Raises OSError."""
        out = logs.raw_path(spec.log_path)
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        code_hash = self._service.preload.code_hash
        with out.open("ab") as early:  # what goes wrong before the child has opened its own files
            popen = _open_process(early)
        new = self._children.make(spec, popen.pid, start_ticks(popen.pid) or 0, code_hash)
        new.popen = popen
        self._children.add(new)
        assert popen.stdin is not None
        try:
            with popen.stdin as pipe:
                pipe.write(msgpack.packb({"spec": spec.model_dump(exclude_unset=True), "code_hash": code_hash}))
        except OSError as error:  # it ended at once: its exit will be told
            log.warning("%s did not read its specification: %s", spec.name, error)
        try:
            threading.Thread(target=self._watch, args=(new,), name=f"watch-{spec.name}", daemon=True).start()
        except RuntimeError:  # no thread can be made: nobody would see its end
            popen.kill()
            popen.wait()
            self._children.forget(new)
            raise
        return new

    def _watch(self, child: Child) -> None:
        """Wait for one child's end, on a thread of its own, without reaping it; then wake the loop."""
        if ZOMBIES:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        else:
            assert child.popen is not None
            child.popen.wait()
        self._endings.put(child)
        self._wake.set()

    def _read_endings(self) -> None:
        while not self._endings.empty():
            child = self._endings.get()
            notice = self._children.look(child) if ZOMBIES else self._children.reaped(child)
            if notice is not None and self._peers:
                self._send(next(reversed(self._peers)), notice)

    # --- the loop ----------------------------------------------------------------------------------

    def _timeout(self) -> int:
        """Milliseconds until something is due."""
        if self._alone_since is None or self._children.living():
            return 1000
        return math.ceil(1000 * min(1.0, max(0.0, self._alone_since + self._orphan_after - time.monotonic())))

    def _unneeded(self) -> bool:
        if self._stopping or (self._service.retired and not len(self._children)):
            return True
        if self._alone_since is None or self._children.living():
            return False
        return time.monotonic() - self._alone_since >= self._orphan_after


def _open_process(out: IO[bytes]) -> subprocess.Popen[bytes]:
    """A fresh interpreter that waits for its specification, in a session (on Windows: a group) of its own."""
    flags: list[dict[str, Any]] = [{"start_new_session": True}]
    if sys.platform == "win32":
        group, free = subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.CREATE_BREAKAWAY_FROM_JOB
        flags = [{"creationflags": group | free}, {"creationflags": group}]
    while True:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "botproc"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env={**os.environ, **preload.ONE_THREAD},
                **flags.pop(0),
            )
        except PermissionError:
            if not flags:  # else: the job that we are in lets nobody out; then the bot stays in it too
                raise


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m botproc.spawner", description="Starts bots and gateways.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the ipc socket, or of the address file")
    parser.add_argument("--generation", required=True, help="name of this spawner, told in `list`")
    parser.add_argument("--path", action="append", default=[], help="folder of the user's modules")
    parser.add_argument("--module", action="append", default=[], help="user module whose content counts")
    parser.add_argument("--tcp", action="store_true", help="listen on loopback tcp; needs --keys")
    parser.add_argument("--keys", type=Path, help="folder with supervisor.key and operator.key")
    parser.add_argument("--log", type=Path, help="log file (JSON lines)")
    parser.add_argument("--orphan-after", type=float, default=60.0, help="seconds to stay when nobody needs it")
    return parser.parse_args(arguments)


def _listen(options: argparse.Namespace, loaded: preload.Preload) -> Spawner:
    if not options.tcp:
        return Spawner(f"ipc://{options.socket}", options.generation, loaded, options.orphan_after)
    if options.keys is None:
        raise ValueError("--tcp needs --keys: every local user can connect to a port")
    pair, operator = (load_or_create(options.keys.parent, name) for name in ("supervisor", "operator"))
    spawner = Spawner("tcp://127.0.0.1:*", options.generation, loaded, options.orphan_after, pair, operator.public)
    partial = options.socket.with_suffix(".new")
    partial.write_text(spawner.address, "ascii")
    partial.replace(options.socket)
    return spawner


def main(arguments: Sequence[str] | None = None) -> int:
    """The process. 1: the address cannot be bound, or the keys not read."""
    options = _arguments(arguments)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    logs.for_daemon(options.log, generation=options.generation, pid=os.getpid())
    loaded = preload.Preload(options.module, options.path)
    loaded.look()
    search = [*loaded.paths, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(search)
    try:
        spawner = _listen(options, loaded)
    except (OSError, ValueError, KeyError, zmq.ZMQError) as error:
        log.error("the spawner cannot listen: %s", error)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: spawner.stop())
    try:
        spawner.run()
    finally:
        options.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
