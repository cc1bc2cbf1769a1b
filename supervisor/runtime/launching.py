"""The supervisor's side of launchers: processes are asked for, signalled and reaped over a private socket.

A launcher outlives the supervisor and may stand beside an older one that still has children, so there can
be several; new runs go to the newest. Two kinds speak the same language: `ForkLink` to the preloaded
launcher over a unix seqpacket socket, `SpawnLink` to its twin over zmq where there is no fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol import codec
from protocol.errors import BadFrame
from protocol.keys import KeyPair, secure_client
from supervisor.errors import LauncherLost
from supervisor.runtime.sockets import Pump

Notice = Callable[["LauncherLink", dict[str, Any]], None]
Lost = Callable[["LauncherLink"], None]
_ANSWER_TIMEOUT: Final = 30.0
_AT_ONCE: Final = ("launch", "stale")  # what a launcher answers itself, whatever is going on


class LauncherLink(ABC):
    """One connection to one launcher: requests answered by futures, exits told by `on_exit`."""

    def __init__(self, name: str, on_exit: Notice, on_lost: Lost) -> None:
        self.name = name
        self.pid = 0
        self.alive = True
        self.sent_launches = 0
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def request(self, op: str, **args: Any) -> asyncio.Future[dict[str, Any]]:
        """Ask; the future holds the reply, or LauncherLost."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        number = next(self._ids)
        if not self.alive:
            future.set_exception(LauncherLost(f"launcher {self.name} is gone"))
            return future
        self._waiting[number] = future
        self._send(codec.pack({"op": op, "id": number, **args}))
        return future

    async def ask(self, op: str, timeout: float = _ANSWER_TIMEOUT, **args: Any) -> dict[str, Any]:
        """Ask and wait. Raises LauncherLost when there is no answer in time."""
        future = self.request(op, **args)
        await asyncio.wait([future], timeout=timeout)
        if future.done():  # also where this process stood still, and both its answer and the time's end were there
            return future.result()
        future.cancel()
        if op in _AT_ONCE:  # it stands still: its children are watched and signalled without it, and another starts
            self.lost()
        raise LauncherLost(f"launcher {self.name} did not answer {op!r} within {timeout:g} s")

    async def runs(self, timeout: float = _ANSWER_TIMEOUT) -> list[dict[str, Any]]:
        """All runs that it knows; a long list comes in parts. Raises LauncherLost."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            reply = await self.ask("list", timeout, after=after)
            found += reply["runs"]
            after = str(reply.get("next") or "")
            if not after:
                return found

    def tell(self, op: str, **args: Any) -> None:
        """Say something that has no reply."""
        if self.alive:
            self._send(codec.pack({"op": op, "id": 0, **args}))

    def taken(self, frame: bytes) -> None:
        """One frame has come."""
        try:
            message = codec.unpack(frame)
        except BadFrame:
            return
        if message.get("op") == "exit":
            self._on_exit(self, message)
            return
        future = self._waiting.pop(message.get("id", -1), None)
        if future is not None and not future.done():
            future.set_result(message)

    def hang_up(self) -> None:
        """Leave it alone, without a word to anybody."""
        if self.alive:
            self.alive = False
            self.close()

    def lost(self) -> None:
        """The launcher closed the connection: its children live on, and are watched by others."""
        if not self.alive:
            return
        self.alive = False
        self.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LauncherLost(f"launcher {self.name} is gone"))
        self._waiting.clear()
        self._on_lost(self)

    @abstractmethod
    def _send(self, frame: bytes) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Hang up; the launcher stays."""


class ForkLink(LauncherLink):
    """Over a unix seqpacket socket: one packet is one frame."""

    def __init__(self, name: str, path: Path, on_exit: Notice, on_lost: Lost) -> None:
        super().__init__(name, on_exit, on_lost)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):  # larger buffers are a kindness, not a need
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._queue: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        for _ in range(500):
            try:
                frame = self._socket.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:
                self.lost()
                return
            self.taken(frame)

    def _send(self, frame: bytes) -> None:
        self._queue.append(frame)
        if len(self._queue) == 1:
            self._writable()

    def _writable(self) -> None:
        while self._queue:
            try:
                self._socket.send(self._queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._writable)
                return
            except OSError:
                self._loop.call_soon(self.lost)
                return
            self._queue.pop(0)
        self._loop.remove_writer(self._socket)

    def close(self) -> None:
        """Hang up; the launcher stays."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()


class SpawnLink(LauncherLink):
    """Over zmq, to the twin that starts a fresh Python for each run."""

    def __init__(
        self,
        name: str,
        context: zmq.Context[Any],
        address: str,
        keys: KeyPair | None,
        server_key: str,
        on_exit: Notice,
        on_lost: Lost,
    ) -> None:
        super().__init__(name, on_exit, on_lost)
        dealer: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 200)
        secure_client(dealer, keys, server_key)
        self._refused = 0
        # Twins listen before they are looked for: one that refuses is gone, and is not waited for.
        watched = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        monitor: zmq.Socket[bytes] = dealer.get_monitor_socket(watched)
        self._monitor = Pump(monitor, self._heard, _ignored)
        self._pump = Pump(dealer, lambda frames: self.taken(frames[-1]), _ignored)
        dealer.connect(address)

    def _heard(self, frames: list[bytes]) -> None:
        """The connection ended, or was refused (twice: between its bind and its listen a twin refuses too)."""
        self._refused += parse_monitor_message(frames)["event"] == zmq.EVENT_CONNECT_RETRIED
        if self._refused != 1:
            self.lost()

    def _send(self, frame: bytes) -> None:
        self._pump.send([frame])

    def close(self) -> None:
        """Hang up; the twin stays."""
        self._pump.socket.disable_monitor()
        self._monitor.close()
        self._pump.close()


def _ignored(error: Exception) -> None:
    """A frame that is no answer answers nothing: who waits for one times out and says so."""
