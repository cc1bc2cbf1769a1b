"""The limit: one PUB socket and N bare processes, forked with a bot's preload, that receive and stamp, nothing else.

python -m bench.rawpub N ADDRESS MESSAGES FILE      used by `measure`
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import zmq

from bench.machine import ROOT

#: As large as a published bar.
_BYTES: Final = 260
_PAUSE: Final = 0.4
_STAMP: Final = struct.Struct("d")


def measure(count: int, messages: int, timeout: float = 60.0) -> list[float]:
    """Milliseconds from each publication until the last of `count` processes had the message."""
    with tempfile.TemporaryDirectory(prefix="sh-") as folder, zmq.Context() as context:
        publisher: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.BACKLOG, 4096)
        publisher.setsockopt(zmq.LINGER, 0)
        address = f"ipc://{Path(folder) / 'p'}"
        publisher.bind(address)
        table = Path(folder) / "stamps"
        table.write_bytes(b"\0" * (_STAMP.size * count * messages))
        command = [sys.executable, "-m", "bench.rawpub", str(count), address, str(messages), str(table)]
        forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert forker.stdin is not None and forker.stdout is not None
        try:
            forker.stdout.readline()
            # Each process subscribes to a topic of its own as well: the same one would be told only once.
            for _ in range(count + 1):
                if not publisher.poll(int(timeout * 1000)):
                    raise TimeoutError("not all processes have subscribed")
                publisher.recv()
            time.sleep(1.0)
            sent = []
            for number in range(messages):
                sent.append(time.monotonic())
                publisher.send_multipart([b"bar.", struct.pack("I", number), b"x" * _BYTES])
                time.sleep(_PAUSE)
        finally:
            forker.stdin.close()
            forker.wait(30)
            forker.stdout.close()
            publisher.close()
        stamps = struct.unpack(f"{count * messages}d", table.read_bytes())
    last = [max(stamps[number * count : (number + 1) * count]) for number in range(messages)]
    whole = [all(stamps[number * count : (number + 1) * count]) for number in range(messages)]
    return [(had - at) * 1000 for had, at, ok in zip(last, sent, whole, strict=True) if ok]


def _child(mine: int, count: int, address: str, stamps: mmap.mmap) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.connect(address)
    socket.subscribe(b"bar.")
    socket.subscribe(f"~{mine}".encode())
    while True:
        _, number, _ = socket.recv_multipart()
        now = time.monotonic()
        _STAMP.pack_into(stamps, _STAMP.size * (int.from_bytes(number, "little") * count + mine), now)


def main() -> int:
    """The forking process; its children end with its stdin."""
    from botproc import preload

    count, address, table = int(sys.argv[1]), sys.argv[2], Path(sys.argv[4])
    preload.Preload((), ()).load()
    preload.freeze()
    with table.open("r+b") as file, mmap.mmap(file.fileno(), 0) as stamps:
        children = []
        for mine in range(count):
            pid = os.fork()
            if pid == 0:
                try:
                    _child(mine, count, address, stamps)
                finally:
                    os._exit(0)
            children.append(pid)
        os.write(1, b"ready\n")
        os.read(0, 10)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
