"""Clients of the control socket: `ControlClient` for plain code, `AsyncControlClient` for asyncio.

    from protocol.client import ControlClient

    with ControlClient("var") as stable:            # the data directory of the supervisor
        for bot in stable.status():
            print(bot["name"], bot["state"], bot["profit"])
        stable.restart(["eurusd-ma"], wait=10)
        for event in stable.follow(since=0):        # everything so far, then as it happens, without gaps
            print(event["seq"], event["type"], event["text"])

Both have the same methods; those of the asyncio client are awaited. A command that is refused raises
CommandFailed (its `code` is one of protocol.errors); no supervisor, or no answer, raises Unreachable.
The frames are described in docs/control-protocol.md. A client belongs to one thread (or one event loop).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgpack
import zmq

from protocol.commands import Commands
from protocol.conversation import WATCHED, CommandFailed, Connection, Cursor, decode_reply, encode_request
from protocol.errors import StablehandError

if TYPE_CHECKING:
    from types import TracebackType

    import zmq.asyncio

__all__ = ["AsyncControlClient", "CommandFailed", "ControlClient"]

#: A follower that has heard nothing for so long asks the journal: the last event before the silence may be lost.
QUIET: Final = 2.0


class ControlClient(Commands):
    """A client for plain code: each method returns its result. Use it in a `with`, or `close` it."""

    _socket: zmq.Socket[bytes] | None = None
    _monitor: zmq.Socket[bytes] | None = None
    _connection: Connection

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(0)
        if self._monitor is not None:
            self._monitor.close(0)
        self._socket = self._monitor = None

    def request(self, cmd: str, args: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """Do one command; its result. Raises CommandFailed, Unreachable (also: no answer in `timeout` seconds)."""
        args = args or {}
        limit = (self.timeout if timeout is None else timeout) + float(args.get("wait") or 0)
        name, frame = encode_request(cmd, args)
        try:
            return self._exchange(name, frame, limit)
        except CommandFailed:
            raise
        except StablehandError:
            self.close()  # a later request begins with a fresh connection
            raise

    def _exchange(self, name: str, frame: bytes, limit: float) -> Any:
        while self._monitor is not None and self._monitor.poll(0):
            try:
                self._connection.hear(self._monitor.recv_multipart())
            except StablehandError:
                self.close()  # the other end has gone since the last request: begin afresh
        if self._socket is None:
            socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
            self._monitor = socket.get_monitor_socket(WATCHED)
            self._connection = Connection(self.endpoints.control)
            self._socket = self._join(socket, self.endpoints.control)
        assert self._socket is not None and self._monitor is not None
        with contextlib.suppress(zmq.Again):  # turned away already, so that nothing goes out: the monitor tells why
            self._socket.send(frame, zmq.NOBLOCK)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            ready = dict(poller.poll(int(min(left, 60.0) * 1000) + 1))
            if self._socket in ready:
                ours, result = decode_reply(self._socket.recv_multipart()[-1], name)
                if ours:
                    return result
            elif self._monitor in ready:
                self._connection.hear(self._monitor.recv_multipart())
        raise self._connection.silence(limit)

    def follow(
        self, *, since: int | None = None, bot: str | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[dict[str, Any]]:
        """Events as they happen, in order and without gaps; first those after `since` (None: only new ones).

        What the journal no longer keeps is told by one event of type `gap`. Ends when `stop()` is true (asked at
        least each two seconds). Raises Unreachable when the supervisor goes; the last `seq` seen is where to go on.
        """
        socket: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.SUB) as socket:
            # Subscribe before asking: what happens between the two comes twice, and never not at all.
            socket.subscribe(b"event.")
            self._join(socket, self.endpoints.events)
            cursor = Cursor(self.events(limit=1)["last"] if since is None else since, bot)
            yield from self._catch_up(cursor)
            while not stop():
                if not socket.poll(int(QUIET * 1000)):
                    yield from self._catch_up(cursor)
                    continue
                event = msgpack.unpackb(socket.recv_multipart()[-1])
                if cursor.gap_before(event):
                    yield from self._catch_up(cursor)
                yield from cursor.take([event])

    def _catch_up(self, cursor: Cursor) -> Iterator[dict[str, Any]]:
        while True:
            found = self.events(since=cursor.last, limit=500)
            page, before = found["events"], cursor.last
            yield from cursor.lost(found)
            yield from cursor.take(page)
            if len(page) < 500 or cursor.last == before:
                return


class AsyncControlClient(Commands):
    """The same for asyncio: each method is awaited, requests may be under way at once; use it in `async with`."""

    _socket: zmq.asyncio.Socket | None = None
    _monitor: zmq.asyncio.Socket | None = None

    async def __aenter__(self) -> AsyncControlClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is kept between requests; here for symmetry."""

    async def request(self, cmd: str, args: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """Do one command; its result. Raises CommandFailed, Unreachable (also: no answer in `timeout` seconds)."""
        import zmq.asyncio

        args = args or {}
        limit = (self.timeout if timeout is None else timeout) + float(args.get("wait") or 0)
        name, frame = encode_request(cmd, args)
        connection = Connection(self.endpoints.control)
        # A socket of its own for each request: answers cannot be mixed up, and a cancelled one leaves nothing.
        socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        monitor = socket.get_monitor_socket(WATCHED)
        try:
            self._join(socket, self.endpoints.control)
            with contextlib.suppress(zmq.Again):  # turned away already, so that nothing goes out: the monitor tells why
                await socket.send(frame, zmq.NOBLOCK)
            poller = zmq.asyncio.Poller()
            poller.register(socket, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            until = time.monotonic() + limit
            while (left := until - time.monotonic()) > 0:
                ready = dict(await poller.poll(int(min(left, 60.0) * 1000) + 1))
                if socket in ready:
                    ours, result = decode_reply((await socket.recv_multipart())[-1], name)
                    if ours:
                        return result
                elif monitor in ready:
                    connection.hear(await monitor.recv_multipart())
            raise connection.silence(limit)
        finally:
            socket.disable_monitor()
            socket.close(0)
            monitor.close(0)

    async def follow(self, *, since: int | None = None, bot: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Events as they happen, in order and without gaps; first those after `since` (None: only new ones)."""
        import zmq.asyncio

        socket = zmq.asyncio.Context.instance().socket(zmq.SUB)
        try:
            socket.subscribe(b"event.")
            self._join(socket, self.endpoints.events)
            cursor = Cursor((await self.events(limit=1))["last"] if since is None else since, bot)
            event: dict[str, Any] | None = None
            while True:
                if event is None or cursor.gap_before(event):
                    async for missed in self._catch_up(cursor):
                        yield missed
                for fresh in cursor.take([event] if event else []):
                    yield fresh
                heard = await socket.poll(int(QUIET * 1000))
                event = msgpack.unpackb((await socket.recv_multipart())[-1]) if heard else None
        finally:
            socket.close(0)

    async def _catch_up(self, cursor: Cursor) -> AsyncIterator[dict[str, Any]]:
        while True:
            found = await self.events(since=cursor.last, limit=500)
            page, before = found["events"], cursor.last
            for event in [*cursor.lost(found), *cursor.take(page)]:
                yield event
            if len(page) < 500 or cursor.last == before:
                return
