"""The limit: children forked from a process with the same preload, which connect, say one word and sit still, or tick.

python -m bench.rawfork N ADDRESS [tick]   used by `measure`: preloads, says `ready`, forks at the first line of
                                           stdin, and ends its children at the next
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import zmq

from bench.machine import ROOT

_HELLO: Final = b"hello"
_TICK: Final = 1.0  # seconds


def measure(count: int, timeout: float = 120.0, *, ticking: bool = False) -> float:
    """Seconds from the word to fork until `count` children have exchanged a message.

    `ticking`: each says another word every second from then on, as bots beat while others are still starting.
    """
    with tempfile.TemporaryDirectory(prefix="sh-") as folder, zmq.Context() as context:
        router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.BACKLOG, 4096)
        router.setsockopt(zmq.LINGER, 0)
        address = f"ipc://{Path(folder) / 'r'}"
        router.bind(address)
        command = [sys.executable, "-m", "bench.rawfork", str(count), address, *(["tick"] if ticking else [])]
        forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert forker.stdin is not None and forker.stdout is not None
        try:
            forker.stdout.readline()
            started = time.perf_counter()
            forker.stdin.write(b"go\n")
            forker.stdin.flush()
            answer_all(router, count, timeout)
            return time.perf_counter() - started
        finally:
            forker.stdin.close()
            forker.wait(30)
            router.close()


def answer_all(router: zmq.Socket[bytes], count: int, timeout: float) -> None:
    """Answer the first word of `count` peers. Raises TimeoutError."""
    until = time.monotonic() + timeout
    done = 0
    while done < count:
        if not router.poll(int(max(0.0, until - time.monotonic()) * 1000)):
            raise TimeoutError(f"{done} of {count} children spoke within {timeout:g} s")
        route, word = router.recv_multipart()
        if word == _HELLO:
            router.send_multipart([route, b"welcome"])
            done += 1


def _child(address: str, ticking: bool) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)
    dealer.send(_HELLO)
    dealer.recv()
    while ticking:
        time.sleep(_TICK)
        dealer.send(b"tick")
    signal.pause()


def main() -> int:
    """The forking process."""
    from botproc import preload

    count, address, ticking = int(sys.argv[1]), sys.argv[2], "tick" in sys.argv[3:]
    loaded = preload.Preload((), ())
    loaded.load()
    preload.freeze()
    os.write(1, b"ready\n")
    os.read(0, 10)
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                _child(address, ticking)
            finally:
                os._exit(0)
        children.append(pid)
    os.read(0, 10)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
