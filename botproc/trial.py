"""A bot forked for trial, with files and a lock of its own in a folder that goes away, and brought up to Ready.

It does what every bot does from the fork on, so what it touches is what a bot touches. Supervisor and gateway
are another process, pretended. Whatever happens, the kernel ends all of it after some seconds.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import zmq

from botproc import child
from botproc.rehearsal import answers, bound, specification
from botproc.throwaway import throwaway
from protocol.codec import decode, decode_heartbeat, encode, is_heartbeat
from protocol.messages import Phase
from protocol.spec import RunSpec

_LONGEST: Final = 10  # seconds
_PREFIX: Final = "trial-"
_BEAT: Final = 0.01  # its beats tell when it has come to rest


@contextmanager
def trial(folder: Path) -> Iterator[int]:
    """Its pid, while it rests after its Ready. Call it in a process without threads. Raises OSError.

    A witness is forked with it and does nothing: it shares the pages that this process writes to meanwhile, which
    would otherwise be left to the bot alone.
    """
    _sweep(folder)
    children: list[int] = []
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as place:
        spec = specification(place)
        read, write = os.pipe()
        try:
            children.append(throwaway(lambda: _other_side(spec, write), _LONGEST))
            _await(read, children)
            children.append(throwaway(_rest, _LONGEST))
            children.append(throwaway(lambda: child.forked(spec, ""), _LONGEST))
            _await(read, children)
            yield children[-1]
        finally:
            for pid in reversed(children):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            os.close(read)
            os.close(write)


def _sweep(folder: Path) -> None:
    """Take away what a launcher left that was killed in the middle of a trial."""
    for left in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3 * _LONGEST:
                shutil.rmtree(left, ignore_errors=True)


def _rest() -> int:
    signal.pause()
    return 0


def _await(descriptor: int, children: list[int]) -> None:
    """Until a byte has come. Raises OSError when one of the children ends before, or when it takes too long."""
    with ExitStack() as stack:
        ends = []
        for pid in children:
            ends.append(os.pidfd_open(pid))
            stack.callback(os.close, ends[-1])
        ready, _, _ = select.select([descriptor, *ends], [], [], _LONGEST)
        if descriptor not in ready or not os.read(descriptor, 1):
            raise OSError("the bot on trial did not come up")


def _other_side(spec: RunSpec, tell: int) -> int:
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
