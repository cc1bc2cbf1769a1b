"""Raw zmq sockets on an asyncio loop: drained in batches, several times faster than one future a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import zmq

_BATCH: Final = 2000  # messages taken before the loop's other work gets a turn,
_SLICE: Final = 0.005  # and seconds: one frame of a stranger may cost as much as a thousand heartbeats
_SUBSCRIPTION: Final = 4096  # bytes; a publisher hears nothing else


class Pump:
    """Reads everything that comes to a socket and hands each message to `take(frames)`.

    zmq's descriptor only says that *something* changed, and a send may swallow that word: so every send
    goes through here and is followed by another look. `take` must not raise; what it does raise is
    handed to `failed` and the message is dropped.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        take: Callable[[list[Any]], None],
        failed: Callable[[Exception], None],
        *,
        copy: bool = True,
    ) -> None:
        self.socket = socket
        self._copy = copy  # False: `take` gets zmq.Frames, which know who sent them
        self._take = take
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._fd, self._readable)
        self._soon()

    def send(self, frames: list[bytes]) -> bool:
        """Send without waiting. False when the peer is unknown, gone, or does not read."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=True)
        except zmq.ZMQError:
            # EHOSTUNREACH (ROUTER_MANDATORY) or EAGAIN (its queue is full): the peer has to say Hello again.
            return False
        finally:
            self._soon()
        return True

    def close(self) -> None:
        """Stop reading and close the socket."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger=200)

    def _soon(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _readable(self) -> None:
        if not self._scheduled:  # else two batches a turn: all that the loop has to do would wait twice as long
            self._drain()

    def _drain(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        receive = self.socket.recv_multipart
        time = self._loop.time
        until = time() + _SLICE
        for _ in range(_BATCH):
            if time() > until:  # asked each time: eight heavy frames in a row are a tenth of a second
                break
            try:
                frames: list[Any] = receive(zmq.NOBLOCK, self._copy)
            except zmq.Again:
                return
            except zmq.ZMQError as error:
                self._failed(error)
                return
            try:
                self._take(frames)
            except Exception as error:  # a bad message must never end the loop
                self._failed(error)
        self._soon()


def server_socket(context: zmq.Context[Any], kind: int, largest: int, *, unread: int = 1_000) -> zmq.Socket[bytes]:
    """A socket with the bounds that every server socket of ours has.

    `largest`: bytes of one frame that it takes; `unread`: messages that wait for one peer that does not read. With a
    thousand subscribers that read nothing each event waits a thousand times, and one who reads asks for what he missed.
    """
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.BACKLOG, 4096)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.SNDHWM, unread)
    socket.setsockopt(zmq.RCVHWM, 1_000)
    socket.setsockopt(zmq.MAXMSGSIZE, _SUBSCRIPTION if kind == zmq.XPUB else largest)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket
