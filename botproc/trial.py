"""A bot forked for trial, with files and a lock of its own in a folder that goes away, and brought up to Ready.

It does what every bot does from the fork on, so what it touches is what a bot touches. Supervisor and gateway
are another process, pretended. Whatever happens, the kernel ends all of it after some seconds.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import zmq

from botproc import child
from botproc.rehearsal import answers, bound, specification
from protocol.codec import decode, decode_heartbeat, encode, is_heartbeat
from protocol.messages import Phase
from protocol.spec import RunSpec

_LONGEST: Final = 10  # seconds
_BEAT: Final = 0.01  # its beats tell when it has come to rest


@contextmanager
def trial(folder: Path) -> Iterator[int]:
    """Its pid, while it rests after its Ready. Call it in a process without threads. Raises OSError.

    A witness is forked with it and does nothing: it shares the pages that this process writes to meanwhile, which
    would otherwise be left to the bot alone.
    """
    children: list[int] = []
    read, write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="trial-", dir=folder) as place, os.fdopen(read, "rb", buffering=0) as told:
        spec = specification(place)
        try:
            with os.fdopen(write, "wb", buffering=0):
                children.append(_fork(lambda: _other_side(spec, write)))
                _await(read)
                children.append(_fork(signal.pause))
                children.append(_fork(lambda: child.forked(spec, "")))
            _await(told.fileno())
            yield children[-1]
        finally:
            for pid in reversed(children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LONGEST)
            work()
        finally:
            os._exit(1)
    return pid


def _await(descriptor: int) -> None:
    ready, _, _ = select.select([descriptor], [], [], _LONGEST)
    if not ready or not os.read(descriptor, 1):
        raise OSError("the bot on trial did not come up")


def _other_side(spec: RunSpec, tell: int) -> None:
    """Be supervisor and gateway: one byte on `tell` when it can begin, one when the bot is at rest."""
    with zmq.Context() as context:
        bus, orders, market = sockets = bound(context, spec)
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        os.write(tell, b"b")
        while True:
            ready: dict[Any, int] = dict(poller.poll())
            if market in ready:
                market.recv_multipart()
            for socket in (bus, orders):
                if socket in ready and _answered(socket):
                    os.write(tell, b"r")


def _answered(socket: zmq.Socket[bytes]) -> bool:
    """Answer one message; whether it was the beat of a bot at rest."""
    route, frame = socket.recv_multipart()
    if is_heartbeat(frame):
        return decode_heartbeat(frame).phase == Phase.IDLE
    for answer in answers(decode(frame), _BEAT):
        socket.send_multipart([route, encode(answer)])
    return False
