"""What a stranger, or a client gone wrong, may do to a socket: each attack once, against any address.

Over ipc they come in as anybody of the same user does; over TCP with a key that is known, or with none.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import zmq

from protocol.codec import pack
from protocol.keys import KeyPair, secure_client

MEGABYTE: Final = 1 << 20
#: A frame of 100 MB, and frames that are small to send and large to make objects of.
HUGE: Final = 100 * MEGABYTE
DEEP: Final = b"\x91" * 900_000 + b"\xc0"
WIDE: Final = b"\xdd" + (900_000).to_bytes(4, "big") + b"\xc0" * 900_000
MANY: Final = b"\xdc" + (65_000).to_bytes(2, "big") + b"\x91\x90" * 65_000
#: As many values as a request may have, nearly.
FULL: Final = b"\xdc" + (24_000).to_bytes(2, "big") + b"\x91\xc0" * 24_000
LYING: Final = b"\xdd\xff\xff\xff\xff"
_MORE: Final = 0x01
_LONG: Final = 0x02
_COMMAND: Final = 0x04


class Attacker:
    """Connects to one address. A context manager: its sockets are closed with it."""

    def __init__(self, address: str, pair: KeyPair | None = None, server_key: str = "", seed: int = 1) -> None:
        self.address = address
        self._pair, self._server_key = pair, server_key
        self._random = random.Random(seed)
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)

    def dealer(self, kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
        """A connected socket that keeps little for itself."""
        made: zmq.Socket[bytes] = self._context.socket(kind)
        made.linger, made.sndtimeo, made.rcvhwm = 200, 2000, 1
        secure_client(made, self._pair, self._server_key)
        made.connect(self.address)
        return made

    def garbage(self, frames: int) -> None:
        """Random bytes, alone and in parts, and small frames that claim to be large."""
        with self.dealer() as made:
            for _ in range(frames):
                frame = self._random.choice((LYING, b"", b"\xc1", self._random.randbytes(self._random.randrange(400))))
                made.send_multipart([frame] * self._random.choice((1, 1, 2, 5)))

    def heavy(self, each: int) -> None:
        """Frames that nest deeply, or hold very many values."""
        with self.dealer() as made:
            for frame in (DEEP, WIDE, MANY, FULL) * each:
                made.send(frame)

    def huge(self) -> None:
        """One frame of 100 MB. The other side closes the connection before it has it all."""
        with self.dealer() as made:
            made.linger = 0
            made.send(bytes(HUGE))
            made.poll(1000)  # as long as it takes to be thrown out, or to arrive

    def vanishing(self, clients: int) -> None:
        """Clients that ask, some for a long wait, and are gone before the answer."""
        for number in range(clients):
            wait = {"bots": ["nobody"]} if number % 2 else {"all": True, "wait": 600}
            with self.dealer() as made:
                request = {
                    "v": 1,
                    "id": f"gone-{id(self)}-{number}",
                    "cmd": ("status", "start")[number % 2],
                    "args": wait,
                }
                made.send(pack(request))

    @contextmanager
    def silent(self, clients: int) -> Iterator[None]:
        """Connections that never say a word."""
        with ExitStack() as stack:
            for _ in range(clients):
                stack.enter_context(self.raw())
            yield

    @contextmanager
    def deaf(self, clients: int) -> Iterator[None]:
        """Subscribers of everything that never read."""
        with ExitStack() as stack:
            for _ in range(clients):
                stack.enter_context(self.dealer(zmq.SUB)).subscribe(b"")
            yield

    @contextmanager
    def halves(self, clients: int, size: int = 64 * 1024) -> Iterator[None]:
        """Multipart messages whose last part never comes (ZMTP by hand, so only where no key is asked for)."""
        with ExitStack() as stack:
            for _ in range(clients):
                made = stack.enter_context(self.raw())
                made.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
                kind = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
                ready = b"\x05READY" + kind
                made.sendall(bytes([_COMMAND, len(ready)]) + ready)
                heard = b""
                while b"READY" not in heard:  # a message before its word is not taken
                    heard += made.recv(4096)
                made.sendall(bytes([_MORE | _LONG]) + struct.pack(">Q", size) + bytes(size))
                made.sendall(bytes([_MORE | _LONG]) + struct.pack(">Q", size) + bytes(size // 2))
            yield

    def raw(self) -> socket.socket:
        """A plain connection."""
        scheme, _, place = self.address.partition("://")
        until = time.monotonic() + 10.0
        while True:
            made = socket.socket(socket.AF_UNIX if scheme == "ipc" else socket.AF_INET)
            made.settimeout(5.0)
            try:
                host, _, port = place.rpartition(":")
                made.connect(place if scheme == "ipc" else (host, int(port)))
            except (BlockingIOError, ConnectionRefusedError):  # more than the other side takes in at once
                made.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
                continue
            return made

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)
